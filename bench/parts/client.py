"""What the SDK costs by itself: a call against a server that answers at once, making a client, and its import."""

import os
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
    """Calls and making clients, then imports."""
    _calls(session)
    session.show.step("imports")
    sides = [_import("pass"), _import("import gateway_sdk"), _import("import httpx")]
    bare, sdk, httpx = session.alternate(sides, session.pace.repeats)
    session.results.findings["client.import"] = differences(sdk, bare)
    rows = [["gateway_sdk", spread_text(differences(sdk, bare))], ["httpx", spread_text(differences(httpx, bare))]]
    note = f"Bare python itself: {text(Spread.of(bare).median)} ms."
    session.results.tables.append(Table("Imports", ("", "ms over bare python"), rows, note))


def _calls(session: Session) -> None:
    """Client and server on two cores, and on one.

    Left alone the kernel does the one or the other, depending on what else runs, and a core that sleeps takes its time
    to wake: a raw socket is two to three times as fast on one core as on two.
    """
    port = free_port()
    command = [sys.executable, "-m", "bench.stub", str(port)]
    cores = sorted(os.sched_getaffinity(0))
    rows = []
    made: list[float] = []
    with Server("stub", command, log=session.work / "stub.log", cwd=ROOT) as stub:
        stub.wait(lambda: Endpoint(port).ask()[0] == 200)
        for title, key, core in (("one core", "client.together", cores[0]), ("two cores", "client.apart", cores[-1])):
            session.show.step(f"calls, {title}")
            for pid in stub.pids():
                os.sched_setaffinity(pid, {cores[0]})
            rounds = max(3, session.pace.repeats)
            told = ask("client_timing", {"port": port, "rounds": rounds, "calls": CALLS, "core": core})
            found, making = told["calls"], [seconds * 1e6 for seconds in told["made"]]
            raw = found[next(iter(client_timing.CLIENTS))]
            session.results.findings[key] = ratios(found["client.run()"], raw)
            made += making
            rows.append(["GatewayClient(…), and no call", title, text(Spread.of(making).median), ""])
            for name, times in found.items():
                rows.append([name, title, text(Spread.of(times).median * 1e6), spread_text(ratios(times, raw))])
    session.results.findings["client.make"] = Spread.of(made)
    note = "One call at a time, to a server that answers at once. The SDK's are typed results with everything on."
    head = ("", "client and server on", "p50 µs", "against a raw socket")
    session.results.tables.append(Table("Clients", head, rows, note))


def _import(statement: str) -> Callable[[], float]:
    def side() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return (time.perf_counter() - began) * 1000

    return side
