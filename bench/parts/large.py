"""Much in one call: a megabyte there and back, ten thousand events, a hundred files."""

from collections.abc import Callable, Sequence

from bench import load, prefab
from bench.endpoint import TEXT, Endpoint
from bench.parts import stream
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.server import Server
from bench.session import Session
from bench.spread import Spread, ratios

LETTERS = 1_000_000
EVENTS = 10_000
FILES = 100
CONNECTIONS = 4
CALLS = 8
"""With a megabyte, one after the other on each connection."""


def measure(session: Session) -> None:
    """Each beside the baseline, where that does the same."""
    bare, bare_endpoint = session.bare()
    with session.product("large") as product, bare:
        product.publish()
        key = product.key()
        bare.answers(bare_endpoint)
        rows = [
            _letters(session, (product, key), (bare, bare_endpoint)),
            _events(session, (product, key), bare_endpoint),
            *_files(session, product, key),
        ]
    head = ("", "gateway", "Starlette", "ratio")
    note = "Ratios above 1 are in favour of the gateway. Files are kept in the store, which Starlette has nothing like."
    session.results.tables.append(Table("Much in one call", head, rows, note))


def _letters(session: Session, ours: tuple[Product, str], theirs: tuple[Server, Endpoint]) -> list[str]:
    session.show.step("a megabyte there and back")
    product, key = ours
    much = TEXT + "x" * LETTERS
    endpoint = product.endpoint(key, prefab.call("echo", text=much))
    sides = [_rate(session, endpoint), _rate(session, theirs[1].with_body({"text": much}))]
    for warm in sides:
        warm()
    return _row(f"1 MB there and back, {CONNECTIONS} connections: calls/s", *session.alternate(sides))


def _rate(session: Session, endpoint: Endpoint) -> Callable[[], float]:
    requests = [endpoint.text()] * CALLS
    repeat = max(2, session.pace.repeats // 4)

    def side() -> float:
        sent = load.volley(endpoint.port, requests, connections=CONNECTIONS, repeat=repeat).checked()
        return CALLS / Spread.of(sent.seconds).median

    return side


def _events(session: Session, ours: tuple[Product, str], theirs: Endpoint) -> list[str]:
    session.show.step(f"{EVENTS:,} events")
    product, key = ours
    endpoint = product.endpoint(key, prefab.call("events_async", stream=True, n=EVENTS))
    place = Endpoint(theirs.port, "/stream").with_body({"async": True, "n": EVENTS, "delay": 0.0})
    sides = [stream.side(one, max(1, session.pace.repeats // 5)) for one in (endpoint, place)]
    found = session.alternate(sides)
    return _row(f"{EVENTS:,} events in a stream: events/s", *([one.rate for one in side] for side in found))


def _files(session: Session, product: Product, key: str) -> list[list[str]]:
    rows = []
    for count in (1, FILES):
        session.show.step(f"{count} output files")
        endpoint = product.endpoint(key, prefab.call("writes_files", text=TEXT, n=count))
        sent = load.volley(endpoint.port, [endpoint.text()], connections=1, repeat=1 + session.pace.repeats).checked()
        each = Spread.of([seconds * 1000 for seconds in sent.each[1:]])
        rows.append([f"{count} output file{'s' if count > 1 else ''} of a call: ms", spread_text(each), "", ""])
    return rows


def _row(title: str, ours: Sequence[float], theirs: Sequence[float]) -> list[str]:
    medians = [text(Spread.of(side).median) for side in (ours, theirs)]
    return [title, *medians, f"**{spread_text(ratios(ours, theirs))}**"]
