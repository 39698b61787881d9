"""Others who serve functions, at 16 connections: each beside the gateway and the baseline."""

from collections.abc import Sequence

from bench.endpoint import Endpoint
from bench.environments import Missing
from bench.load import Slice
from bench.peers import PEERS, Peer
from bench.product import Product
from bench.results import Bar, Table, spread_text, text
from bench.server import Failed, Server
from bench.session import Session
from bench.spread import Spread, ratios, ratios_of

CONNECTIONS = 16
HEAD: tuple[str, ...] = ("", "version", "requests/s", "against Starlette", "gateway against it", "p50 ms", "p99 ms")
HEAD += ("µs of processor per call", "start s", "memory (PSS) MB", "errors")


def measure(session: Session) -> None:
    """Every peer in turn; one that cannot be installed or started is reported as missing."""
    if not session.with_peers:
        session.results.missing["serving frameworks"] = "not asked for"
        return
    bare, bare_endpoint = session.bare()
    rows: list[list[str]] = []
    against: dict[str, Spread] = {}
    own: list[float] = []  # the gateway beside the baseline
    with session.product("peers") as product, bare:
        product.publish()
        endpoint = product.endpoint(product.key())
        bare.answers(bare_endpoint)
        endpoint.check()
        session.slices(product, endpoint, CONNECTIONS)()
        for peer in PEERS:
            session.show.step(peer.name)
            try:
                ratio = _beside(session, peer, (product, endpoint), (bare, bare_endpoint), rows, own)
            except (Missing, Failed, RuntimeError) as error:
                session.results.missing[f"{peer.name} {peer.version}"] = str(error)
                continue
            if peer.is_serving_framework:
                against[peer.name] = ratio
    if rows and not any(bar.is_product for bar in session.results.bars):
        session.results.bars.append(Bar("gateway", Spread.of(own), is_product=True))
    note = "Ratios are those of neighbouring slices."
    if against:
        best = min(against, key=lambda name: against[name].median)
        session.results.findings["peers.best"] = against[best]
        note += f" The best of those that are there to serve functions was {best}."
    if rows:
        session.results.tables.append(Table(f"Others, {CONNECTIONS} connections", HEAD, rows, note))


def _beside(
    session: Session,
    peer: Peer,
    ours: tuple[Product, Endpoint],
    bare: tuple[Server, Endpoint],
    rows: list[list[str]],
    beside: list[float],
) -> Spread:
    server, endpoint = peer.server(session.work)
    with server:
        started = server.answers(endpoint)
        session.slices(server, endpoint, CONNECTIONS)()
        sides = [session.slices(*side, CONNECTIONS) for side in (bare, (server, endpoint), ours)]
        theirs, its, own = session.alternate(sides, max(2, session.pace.rounds - 1))
        memory = server.pss_mb()
    if not all(_rates(its)):
        raise RuntimeError("in a slice no call succeeded")
    beside += ratios_of(_rates(own), _rates(theirs))
    beside_bare = ratios(_rates(its), _rates(theirs))
    gateway = ratios(_rates(own), _rates(its))
    session.results.bars.append(Bar(f"{peer.name} {peer.version}", beside_bare))
    p50, p99, cpu, rate = (
        Spread.of([getattr(one, name) for one in its]).median for name in ("p50", "p99", "cpu", "rate")
    )
    cells = [peer.name, peer.version, text(rate), spread_text(beside_bare), f"**{spread_text(gateway)}**"]
    cells += [text(p50), text(p99), text(cpu), text(started), text(memory), str(sum(one.errors for one in its))]
    rows.append(cells)
    return gateway


def _rates(slices: Sequence[Slice]) -> list[float]:
    return [one.rate for one in slices]
