"""A hundred small calls in one batch, beside the same calls one by one over connections that stay open."""

from collections.abc import Callable

from bench import load, prefab
from bench.endpoint import TEXT
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread, ratios

CALLS = 100
CONNECTIONS = 16
COMPLETED = '"status":"COMPLETED"'
"""In the answer to a batch without failures."""


def measure(session: Session) -> None:
    """Both ways in turn."""
    single = prefab.call("echo", text=TEXT)
    batch = {"calls": single["calls"] * CALLS, "stream": False}
    with session.product("batch") as product:
        product.publish()
        key = product.key()
        session.show.step(f"batches of {CALLS}")
        together = _side(product, [product.endpoint(key, batch).text()], 1, COMPLETED, session.pace.repeats)
        one_by_one = [product.endpoint(key, single).text()] * CALLS
        apart = _side(product, one_by_one, CONNECTIONS, TEXT, session.pace.repeats)
        for warm in (together, apart):
            warm()
        batches, singles = session.alternate([together, apart], session.pace.rounds + 2)
    session.results.findings["batch.time"] = ratio = ratios(batches, singles)
    rows = [
        [f"{CALLS} calls, {CONNECTIONS} connections", text(Spread.of(singles).median), ""],
        [f"a batch of {CALLS} calls", text(Spread.of(batches).median), f"**{spread_text(ratio)}**"],
    ]
    note = "From the first byte of the first request to the last byte of the last answer; connections were open before."
    session.results.tables.append(Table("Batches", ("", "ms", "time against single calls"), rows, note))


def _side(product: Product, requests: list[str], connections: int, expect: str, repeat: int) -> Callable[[], float]:
    def side() -> float:
        sent = load.volley(product.port, requests, connections=connections, expect=expect, repeat=repeat).checked()
        return Spread.of(sent.seconds).median * 1000

    return side
