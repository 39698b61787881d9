"""Streams of small events for one client that reads each of them: when the first one comes, and how many a second."""

from collections.abc import Callable
from typing import Any

from bench import prefab
from bench.child import ask
from bench.endpoint import Endpoint
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread, differences, ratios

EVENTS = 2000
PACED = 20
DELAY = 0.002
"""Seconds between two events of a paced stream: faster than any model, and slow enough for each to travel alone."""


def measure(session: Session) -> None:
    """Fast streams of both kinds of generators, and a paced one."""
    bare, bare_endpoint = session.bare()
    findings, rows = session.results.findings, []
    with session.product("stream") as product, bare:
        product.publish()
        key = product.key()
        bare.answers(bare_endpoint)
        place = Endpoint(bare_endpoint.port, "/stream")

        def ours(function: str, **parameters: Any) -> Endpoint:
            return product.endpoint(key, prefab.call(function, stream=True, **parameters))

        def theirs(is_async: bool, n: int, delay: float = 0.0) -> Endpoint:
            return place.with_body({"async": is_async, "n": n, "delay": delay})

        session.show.step("fast streams")
        sides = [ours("events_async", n=EVENTS), ours("events", n=EVENTS), theirs(True, EVENTS), theirs(False, EVENTS)]
        names = ("gateway, async generator", "gateway, generator", "Starlette, async generator", "Starlette, generator")
        count = session.pace.repeats
        found = session.alternate([side(one, count) for one in sides], session.pace.rounds + 1)
        rate = [[one.rate for one in side] for side in found]
        first = [[one.first for one in side] for side in found]
        findings["stream.async"] = ratios(rate[0], rate[2])
        findings["stream.sync"] = ratios(rate[1], rate[2])
        findings["stream.first"] = differences(first[1], first[2])
        for name, rates, firsts in zip(names, rate, first, strict=True):
            beside = spread_text(ratios(rates, rate[2]))
            rows.append([name, text(Spread.of(rates).median), beside, spread_text(Spread.of(firsts))])
        session.show.step("paced streams")
        sides = [ours("events", n=PACED, delay=DELAY), theirs(True, PACED, DELAY)]
        paced = session.alternate([side(one, count) for one in sides], session.pace.rounds + 1)
        gateway, starlette = ([one.first for one in side] for side in paced)
        findings["stream.paced"] = differences(gateway, starlette)
        rows.append(["gateway, generator, paced", "", "", spread_text(Spread.of(gateway))])
        rows.append(["Starlette, async generator, paced", "", "", spread_text(Spread.of(starlette))])
    note = (
        f"{EVENTS} events in a stream; paced: {PACED} events, {DELAY * 1000:g} ms apart. The client parses every event."
    )
    head = ("", "events/s", "against Starlette's async generator", "first event after ms")
    session.results.tables.append(Table("Streams, one client", head, rows, note))


class Streams:
    """What several streams, one after the other, have shown."""

    def __init__(self, told: dict[str, list[float]], events: int) -> None:
        self.first = Spread.of(told["first"]).median * 1000
        self.rate = events / Spread.of(told["total"]).median


def side(endpoint: Endpoint, count: int) -> Callable[[], Streams]:
    """A side for `Session.alternate`: so many streams."""

    def read() -> Streams:
        order = {
            "port": endpoint.port,
            "head": endpoint.head().decode(),
            "body": endpoint.body.decode(),
            "count": count,
        }
        told = ask("stream_client", order)
        return Streams(told, told["events"])

    return read
