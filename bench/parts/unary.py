"""Small calls: the gateway with a sandboxed worker beside Starlette with the function in its own process."""

from collections.abc import Sequence

from bench.load import Slice
from bench.results import Bar, Table, spread_text, text
from bench.session import Session
from bench.spread import Spread, differences, ratios

CONNECTIONS = (1, 16, 64)
PAIRED = ("p50 ms", "Starlette's", "p99 ms", "Starlette's", "µs of processor per call", "Starlette's")


def measure(session: Session) -> None:
    """Rates, latencies and processor time at one connection and at many."""
    bare, bare_endpoint = session.bare()
    with session.product("unary") as product, bare:
        product.publish()
        endpoint = product.endpoint(product.key())
        product_memory = [product.pss_mb()]
        bare.answers(bare_endpoint)
        endpoint.check()
        session.slices(product, endpoint, 16)()  # its workers are there from here on
        session.slices(bare, bare_endpoint, 16)()
        rows = []
        for connections in CONNECTIONS:
            session.show.step(f"{connections} connections")
            sides = [session.slices(product, endpoint, connections), session.slices(bare, bare_endpoint, connections)]
            ours, theirs = session.alternate(sides)
            _find(session, connections, ours, theirs)
            rows.append(row(str(connections), ours, theirs))
        endpoint.check()
        product_memory.append(product.pss_mb())
        bare_memory = bare.pss_mb()
    head = ("connections", "requests/s", "Starlette's", "ratio", *PAIRED, "errors")
    memory = (
        f"Memory (PSS): the gateway {text(product_memory[0])} MB before the first call, {text(product_memory[1])} MB"
    )
    memory += f" with its workers at the end; Starlette {text(bare_memory)} MB at the end."
    session.results.tables.append(Table("One call after another", head, rows, memory))


def row(title: str, ours: Sequence[Slice], theirs: Sequence[Slice]) -> list[str]:
    """One line of the table."""
    rate = ratios([one.rate for one in ours], [one.rate for one in theirs])
    cells = [title, text(_median(ours, "rate")), text(_median(theirs, "rate")), f"**{spread_text(rate)}**"]
    for name in ("p50", "p99", "cpu"):
        cells += [text(_median(ours, name)), text(_median(theirs, name))]
    return [*cells, str(sum(one.errors for one in ours))]


def _find(session: Session, connections: int, ours: Sequence[Slice], theirs: Sequence[Slice]) -> None:
    findings = session.results.findings
    if connections == 1:
        findings["unary.1"] = differences([one.p50 for one in ours], [one.p50 for one in theirs])
        return
    rate = ratios([one.rate for one in ours], [one.rate for one in theirs])
    findings[f"unary.{connections}"] = rate
    if connections == 16:
        findings["unary.cpu"] = Spread.of([one.cpu for one in ours])
        findings["unary.tail"] = ratios([one.tail for one in ours], [one.tail for one in theirs])
        session.results.bars.append(Bar("gateway", rate, is_product=True))


def _median(slices: Sequence[Slice], name: str) -> float:
    return Spread.of([getattr(one, name) for one in slices]).median
