"""What hostile calls of one user cost the calls of another: the throughput beside them, as a share of the quiet one.

    .venv/bin/python scripts/neighbours.py [--runs 3] [--seconds 4] [--callers 8] [--sandbox required] [--any-share]
        [ATTACK]...

For each attack, honest calls are counted in a quiet time, beside the attack, and in a quiet time again. An error of an
honest call, a share below a third, or something left behind ends it with exit code 1. Run as root.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway_server.engine.local import measuring

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))
from gateways import Gateway, running_gateway  # noqa: E402
from packages import write_package, zoo  # noqa: E402

LEAST = 1 / 3
PATIENCE = 20.0
"""Seconds after which nothing of an attack may be left."""
HONEST_CALLERS = 4
HONEST = """
def echo(text: str):
    return text

def computes(n: int):
    return sum(i * i for i in range(n))
"""
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "processes": ("forks_for", {"seconds": 3}),
    "processors": ("spins_for", {"seconds": 3, "processes": 16}),
    "memory": ("hogs_for", {"seconds": 3}),
    "disk": ("writes_for", {"seconds": 3, "megabytes": 200}),
    "log": ("prints_for", {"seconds": 3}),
    "events": ("tells_for", {"seconds": 3}),
    "results": ("returns_much", {"megabytes": 30}),
    "outputs": ("odd_outputs", {"count": 2000}),
    "death": ("lives_on", {"way": "forks", "mark": "h", "seconds": 3}),
}


class Counter:
    """Honest calls, one after the other in each of several threads."""

    def __init__(self, gateway: Gateway) -> None:
        self.errors: list[str] = []
        self.longest = 0.0
        self._key = gateway.key("ann", "call")
        self._url = f"{gateway.url}/v1/run"
        self._counts = [0] * HONEST_CALLERS
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(at,)) for at in range(HONEST_CALLERS)]
        for thread in self._threads:
            thread.start()

    def rate(self, seconds: float) -> float:
        """Calls a second in the time that begins now."""
        self.longest = 0.0
        before, began = sum(self._counts), time.monotonic()
        time.sleep(seconds)
        return (sum(self._counts) - before) / (time.monotonic() - began)

    def close(self) -> None:
        """Ends it."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self, at: int) -> None:
        echo: dict[str, Any] = {"function_name": "echo", "inputs": {"parameters": {"text": "hello"}}}
        computes: dict[str, Any] = {"function_name": "computes", "inputs": {"parameters": {"n": 2000}}}
        with httpx.Client(headers={"Authorization": f"Bearer {self._key}"}, timeout=60, trust_env=False) as http:
            for call in itertools.cycle((echo, computes)):
                if self._over.is_set():
                    return
                began = time.monotonic()
                body = {"calls": [{"prefab_id": "honest", "version": "1.0.0", **call}], "stream": False}
                try:
                    answer = http.post(self._url, json=body)
                    if answer.status_code != 200 or answer.json()["results"][0]["status"] != "SUCCESS":
                        self.errors.append(answer.text[:300])
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))
                self.longest = max(self.longest, time.monotonic() - began)
                self._counts[at] += 1


@contextmanager
def attacking(url: str, key: str, name: str, callers: int) -> Iterator[None]:
    """Hostile calls in a loop, from a process that gives way to all others, as callers elsewhere would."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=attack, args=(url, key, name, callers), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def attack(url: str, key: str, name: str, callers: int) -> None:
    """Calls until it is killed; what becomes of the calls is all the same."""
    os.nice(19)
    function, parameters = ATTACKS[name]
    call = {"prefab_id": "hostile", "version": "1.0.0", "function_name": function, "inputs": {"parameters": parameters}}
    body = {"calls": [call], "stream": name == "events"}
    headers = {"Authorization": f"Bearer {key}", "Cancel-After": "2s"}

    def loop() -> None:
        with httpx.Client(headers=headers, timeout=60, trust_env=False) as http:
            while True:
                try:
                    with http.stream("POST", f"{url}/v1/run", json=body) as answer:
                        for _ in answer.iter_raw():
                            pass
                except httpx.HTTPError:
                    continue

    for _ in range(callers):
        threading.Thread(target=loop).start()


def measure(gateway: Gateway, key: str, name: str, *, seconds: float, callers: int) -> tuple[float, float, list[str]]:
    """The share of the quiet throughput that is left, the longest honest call in seconds, errors of honest calls."""
    counter = Counter(gateway)
    try:
        counter.rate(1)
        before = counter.rate(seconds)
        with attacking(gateway.url, key, name, callers):
            counter.rate(2)
            beside, longest = counter.rate(seconds), counter.longest
        counter.rate(2)
        after = counter.rate(seconds)
    finally:
        counter.close()
    return beside / ((before + after) / 2), longest, counter.errors


def left(gateway: Gateway, before: set[int]) -> list[str]:
    """What is still there of an attack that is over: files in workspaces, and processes that do something."""
    end = time.monotonic() + PATIENCE
    while True:
        files = [
            str(path) for path in (gateway.data / "work").rglob("*") if path.is_file() and "probe" not in path.parts
        ]
        pids = set(gateway.workers()) - before
        used = {pid: measuring.processor_time([pid]) for pid in pids}
        time.sleep(0.5)
        busy = [f"process {pid}" for pid in pids if measuring.processor_time([pid]) > used[pid]]
        if not (files or busy) or time.monotonic() > end:
            return files + busy


def publish(gateway: Gateway, folder: Path) -> str:
    """The packages; gives the key of the attacker."""
    gateway.publish(write_package(folder / "honest", HONEST, prefab_id="honest"))
    environment = {"cpu": "500m", "memory": "256Mi"}
    gateway.publish(zoo(folder / "hostile", "hostile", manifest={"execution_environment": environment}))
    return gateway.key("mallory", "call")


def main() -> int:
    """All attacks, run after run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS), metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--sandbox", default="required")
    parser.add_argument(
        "--any-share", action="store_true", help="on a machine that is busy: errors and leftovers alone"
    )
    asked = parser.parse_args()
    has_failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_gateway(folder / "data", "--sandbox", asked.sandbox) as gateway:
            key = publish(gateway, folder)
            for run, title in itertools.product(range(1, asked.runs + 1), asked.attacks):
                before = set(gateway.workers())
                share, longest, errors = measure(gateway, key, title, seconds=asked.seconds, callers=asked.callers)
                load, remains = os.getloadavg()[0], left(gateway, before)
                told = f"{len(errors)} errors {errors[0] if errors else ''} left {remains[:3]}"
                print(
                    f"run {run}  {title:12}  {share:5.2f}  longest {longest:5.2f} s  load {load:4.1f}  {told}",
                    flush=True,
                )
                is_slow = share < LEAST and not asked.any_share
                has_failed = has_failed or bool(errors) or bool(remains) or is_slow
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
