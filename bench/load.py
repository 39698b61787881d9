"""Load on an endpoint for a short time, from a process of its own: wrk where it is installed, else our generator."""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.endpoint import HOST, Endpoint

ROOT = Path(__file__).parents[1]
HEADER = "Idempotency-Key"


@dataclass(frozen=True)
class Slice:
    """What came of a short time of load."""

    rate: float
    """Successes a second."""
    p50: float
    """Milliseconds."""
    p99: float
    errors: int
    cpu: float
    """Microseconds of processor time per call, over all processes of the server."""

    @property
    def tail(self) -> float:
        """How much longer than the usual call the hundredth one takes."""
        return self.p99 / self.p50 if self.p50 else 0.0


def tool() -> str:
    """What makes the load."""
    return "wrk" if shutil.which("wrk") else "bench.generator"


def press(
    endpoint: Endpoint, used: Callable[[], float], *, connections: int, seconds: float, fresh_keys: bool = False
) -> Slice:
    """Keeps `connections` busy for some seconds. `used` says what the server has used of the processors so far.

    With `fresh_keys` every request has an Idempotency-Key of its own.
    """
    whole = seconds >= 1 and float(seconds).is_integer()
    make = _wrk if tool() == "wrk" and whole else _generator
    before = used()
    told = make(endpoint, connections, seconds, fresh_keys)
    cpu = (used() - before) * 1e6 / max(1, told["requests"])
    rate = (told["requests"] - told["errors"]) / told["seconds"]
    return Slice(rate=rate, p50=told["p50"], p99=told["p99"], errors=told["errors"], cpu=cpu)


_LUA = """
wrk.method = "POST"
wrk.body = {body}
{headers}
local number = 0
local salt = {salt}
{request}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"errors":%d}}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status + e.timeout + e.read + e.write + e.connect))
end
"""
_KEYS = """
function request()
  number = number + 1
  wrk.headers["Idempotency-Key"] = "bench-" .. salt .. "-" .. number
  return wrk.format()
end
"""


def _wrk(endpoint: Endpoint, connections: int, seconds: float, fresh_keys: bool) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", **endpoint.headers}
    lua = _LUA.format(
        body=json.dumps(endpoint.body.decode()),
        headers="\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()),
        salt=json.dumps(_salt()),
        request=_KEYS if fresh_keys else "",
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua)
        script.flush()
        url = f"http://{HOST}:{endpoint.port}{endpoint.path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "20s", "-s", script.name, url]
        return _told(command, seconds)


def _generator(endpoint: Endpoint, connections: int, seconds: float, fresh_keys: bool) -> dict[str, Any]:
    extra = f"{HEADER}: bench-{_salt()}-%012d\r\n" if fresh_keys else ""
    order = {"port": endpoint.port, "head": endpoint.head(extra).decode(), "body": endpoint.body.decode()}
    order |= {"connections": connections, "seconds": seconds, "numbered": fresh_keys}
    return _told([sys.executable, "-m", "bench.generator", json.dumps(order)], seconds)


def _told(command: list[str], seconds: float) -> dict[str, Any]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"{command[0]} says {(done.stdout + done.stderr)[-300:]}")
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def _salt() -> str:
    return secrets.token_hex(6)
