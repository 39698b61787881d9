"""What the SDK costs by itself: a call against a server that answers at once, and its import."""

import subprocess
import sys
import time
from collections.abc import Callable

from bench import client_timing
from bench.child import ROOT, ask
from bench.endpoint import Endpoint
from bench.results import Table, spread_text, text
from bench.server import Server, free_port
from bench.session import Session
from bench.spread import Spread, differences, ratios

CALLS = 200
"""Of each client in a round."""


def measure(session: Session) -> None:
    """Calls, then imports."""
    _calls(session)
    session.show.step("imports")
    sides = [_import("pass"), _import("import gateway_sdk"), _import("import httpx")]
    bare, sdk, httpx = session.alternate(sides, session.pace.repeats)
    session.results.findings["client.import"] = differences(sdk, bare)
    rows = [["gateway_sdk", spread_text(differences(sdk, bare))], ["httpx", spread_text(differences(httpx, bare))]]
    note = f"Bare python itself: {text(Spread.of(bare).median)} ms."
    session.results.tables.append(Table("Imports", ("", "ms over bare python"), rows, note))


def _calls(session: Session) -> None:
    session.show.step("calls")
    port = free_port()
    command = [sys.executable, "-m", "bench.stub", str(port)]
    with Server("stub", command, log=session.work / "stub.log", cwd=ROOT) as stub:
        stub.wait(lambda: Endpoint(port).ask()[0] == 200)
        rounds = max(3, session.pace.repeats)
        found = ask("client_timing", {"port": port, "rounds": rounds, "calls": CALLS})
    raw = found[next(iter(client_timing.CLIENTS))]
    session.results.findings["client.run"] = ratios(found["client.run()"], raw)
    rows = [
        [name, text(Spread.of(times).median * 1e6), spread_text(ratios(times, raw))] for name, times in found.items()
    ]
    note = "One call at a time, to a server that answers at once; the SDK's are typed results with everything on."
    session.results.tables.append(Table("Clients", ("", "p50 µs", "against a raw socket"), rows, note))


def _import(statement: str) -> Callable[[], float]:
    def side() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return (time.perf_counter() - began) * 1000

    return side
