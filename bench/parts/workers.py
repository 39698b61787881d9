"""Beginnings: a worker for a user who has none yet, and the first calls of a gateway that was started anew."""

import http.client
import time
from collections.abc import Sequence

from bench import prefab
from bench.endpoint import HOST, TEXT
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread, differences

PAUSE = 0.05
"""Seconds between two new users who come now and then."""


def measure(session: Session) -> None:
    """New users apart and in a row, then new versions."""
    findings, rows = session.results.findings, []
    count = session.pace.repeats
    versions = [f"bench-{number}" for number in range(max(2, count // 2))]
    product = session.product("workers")
    with product:
        for name in (prefab.ID, *versions):
            product.publish(name)
        session.show.step("new workers")
        calls = _Calls(product)
        calls.once(key := product.key())
        apart = _news(calls, [product.key(f"apart-{number}") for number in range(count)], PAUSE)
        row = _news(calls, [product.key(f"row-{number}") for number in range(count)], 0)
    findings["workers.apart"], findings["workers.row"] = differences(*apart), differences(*row)
    for title, (first, second) in (("now and then", apart), ("one after the other", row)):
        spread = spread_text(differences(first, second))
        rows.append(
            [f"a new user's worker, {title}", text(Spread.of(first).median), text(Spread.of(second).median), spread]
        )
    session.show.step("first calls after a restart")
    restarted = [_restarted(product, key, versions) for _ in range(session.pace.rounds)]
    begun = {"restart": [one[:1] for one in restarted], "first": [one[1:] for one in restarted]}
    for title, name in (("the very first call after a restart", "restart"), ("a further version's first", "first")):
        pairs = [pair for one in begun[name] for pair in one]
        first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        findings[f"workers.{name}"] = Spread.of(first)
        spread = spread_text(differences(first, second))
        rows.append([title, text(Spread.of(first).median), text(Spread.of(second).median), spread])
    note = "Whole calls over HTTP on a connection that is kept: the first of a user, and the next one of the same user."
    note += f" {session.pace.rounds} restarts; the very first call is also the first request of any kind."
    head = ("", "first call ms", "next call ms", "difference ms")
    session.results.tables.append(Table("Beginnings", head, rows, note))


def _news(calls: "_Calls", keys: Sequence[str], pause: float) -> tuple[list[float], list[float]]:
    """The first call of each user and, when all have made theirs, the next one."""
    first = []
    for key in keys:
        time.sleep(pause)
        first.append(calls.once(key))
    return first, [calls.once(key) for key in keys]


def _restarted(product: Product, key: str, versions: Sequence[str]) -> list[tuple[float, float]]:
    """Starts it anew, so that no version has a process; of each version, the first call and a later one."""
    with product:
        calls = _Calls(product)
        first = [calls.once(key, name) for name in versions]
        return [(one, calls.once(key, name)) for one, name in zip(first, versions, strict=True)]


class _Calls:
    def __init__(self, product: Product) -> None:
        self._product = product
        self._connection = http.client.HTTPConnection(HOST, product.port, timeout=60)
        self._connection.connect()

    def once(self, key: str, prefab_id: str = prefab.ID) -> float:
        """One echo; milliseconds."""
        endpoint = self._product.endpoint(key, prefab.call("echo", prefab_id, text=TEXT))
        headers = {"Content-Type": "application/json", **endpoint.headers}
        began = time.perf_counter()
        self._connection.request("POST", endpoint.path, endpoint.body, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        took = time.perf_counter() - began
        if answer.status != 200 or TEXT.encode() not in body:
            raise RuntimeError(f"a first call failed: {answer.status} {body[:300]!r}")
        return took * 1000
