"""Load on an endpoint for a short time, from a process of its own: wrk where it is installed, else our generator."""

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.child import ROOT, ask
from bench.endpoint import HOST, TEXT, Endpoint

HEADER = "Idempotency-Key"


@dataclass(frozen=True)
class Slice:
    """What came of a short time of load."""

    requests: int
    """Answers of any kind; what was still under way at the end is none."""
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


@dataclass(frozen=True)
class Volley:
    """What came of a fixed number of requests."""

    seconds: list[float]
    """Of each repetition, until the last answer."""
    each: list[float]
    """Of each request."""
    jobs: list[str]
    """Of each success that named its job."""
    failed: int
    failures: list[str]
    """The first of them, word by word."""

    def checked(self) -> "Volley":
        """Itself.

        Raises:
            RuntimeError: a request failed.
        """
        if self.failed:
            raise RuntimeError(f"{self.failed} of {len(self.each)} requests failed: {self.failures[0]}")
        return self


def tool() -> str:
    """What makes the load."""
    return "wrk" if shutil.which("wrk") else "bench.generator"


def press(
    endpoint: Endpoint,
    used: Callable[[], float],
    *,
    connections: int,
    seconds: float,
    fresh_keys: bool = False,
    users: Sequence[str] = (),
) -> Slice:
    """Keeps `connections` busy for some seconds. `used` says what the server has used of the processors so far.

    With `fresh_keys` every request has an Idempotency-Key of its own; `users` are API keys that they take in turn.
    """
    whole = seconds >= 1 and float(seconds).is_integer()
    make = _wrk if tool() == "wrk" and whole else _generator
    before = used()
    told = make(endpoint, connections, seconds, fresh_keys, users)
    cpu = (used() - before) * 1e6 / max(1, told["requests"])
    rate = (told["requests"] - told["errors"]) / told["seconds"]
    figures = {name: told[name] for name in ("requests", "p50", "p99", "errors")}
    return Slice(rate=rate, cpu=cpu, **figures)


def volley(
    port: int, requests: Sequence[str], *, connections: int, expect: str = TEXT, repeat: int = 1, timeout: float = 300
) -> Volley:
    """Sends requests over connections that stay open, and waits for the answer of each. A success has `expect` in its
    body."""
    order = {"port": port, "requests": requests, "connections": connections, "expect": expect, "repeat": repeat}
    return Volley(**ask("volley", order, timeout=timeout))


_LUA = """
wrk.method = "POST"
wrk.body = {body}
{headers}
local number = 0
local salt = {salt}
local users = {users}
{request}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"errors":%d}}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status + e.timeout + e.read + e.write + e.connect))
end
"""
_REQUEST = """
function request()
  number = number + 1
  {steps}
  return wrk.format()
end
"""
_FRESH_KEY = 'wrk.headers["Idempotency-Key"] = "bench-" .. salt .. "-" .. number'
_NEXT_USER = 'wrk.headers["Authorization"] = users[number % #users + 1]'


def _wrk(
    endpoint: Endpoint, connections: int, seconds: float, fresh_keys: bool, users: Sequence[str]
) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", **endpoint.headers}
    steps = [step for step, is_wanted in ((_FRESH_KEY, fresh_keys), (_NEXT_USER, users)) if is_wanted]
    lua = _LUA.format(
        body=json.dumps(endpoint.body.decode()),
        headers="\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()),
        salt=json.dumps(_salt()),
        users="{" + ", ".join(json.dumps(f"Bearer {key}") for key in users) + "}",
        request=_REQUEST.format(steps="\n  ".join(steps)) if steps else "",
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua)
        script.flush()
        url = f"http://{HOST}:{endpoint.port}{endpoint.path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "20s", "-s", script.name, url]
        return _told(command, seconds)


def _generator(
    endpoint: Endpoint, connections: int, seconds: float, fresh_keys: bool, users: Sequence[str]
) -> dict[str, Any]:
    extra = f"{HEADER}: bench-{_salt()}-%012d\r\n" if fresh_keys else ""
    each = [as_user(endpoint, key) for key in users] or [endpoint]
    heads = [one.head(extra).decode() for one in each]
    order = {"port": endpoint.port, "heads": heads, "body": endpoint.body.decode()}
    order |= {"connections": connections, "seconds": seconds, "numbered": fresh_keys}
    told: dict[str, Any] = ask("generator", order, timeout=seconds + 60)
    return told


def as_user(endpoint: Endpoint, key: str) -> Endpoint:
    """The same request with the API key of somebody else."""
    return replace(endpoint, headers={**endpoint.headers, "Authorization": f"Bearer {key}"})


def _told(command: list[str], seconds: float) -> dict[str, Any]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"{command[0]} says {(done.stdout + done.stderr)[-300:]}")
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def _salt() -> str:
    return secrets.token_hex(6)
