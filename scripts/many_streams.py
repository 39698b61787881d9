"""Thousands of open event streams of jobs, slow readers among them: what each costs, and what the fast ones notice.

    python scripts/many_streams.py --streams 10000

Most streams follow a job that is silent; a tenth follow one that says 20 KB twice a second, and never read. Twenty fast
readers follow a third one, alone at first and then with all the others there. Ends with exit code 1 if a stream costs
more than 40 KB, or an event comes to the fast readers later than 50 ms beyond what it took without the others.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from gateways import Gateway, memory_mb, running_gateway
from packages import write_package

WORK = """
import time

def waits(seconds: float):
    time.sleep(seconds)

def talks(n: int, delay: float, size: int):
    for _ in range(n):
        yield {"type": "content", "data": {"at": time.time(), "padding": "x" * size}}
        time.sleep(delay)
"""
MOST_KB = 40
MOST_DELAY = 0.05
FAST = 20
EVENTS = 60
OPENING = 64
"""Connections that are opened at the same time."""


def submit(gateway: Gateway, key: str, function: str, **parameters: Any) -> str:
    """The path of a new job."""
    call = {"prefab_id": "work", "version": "1.0.0", "function_name": function, "inputs": {"parameters": parameters}}
    answer = gateway.request("POST", "/v1/jobs", key=key, json=call)
    return f"/v1/jobs/{answer.json()['job_id']}"


class Stream:
    """One connection that asks for the events of a job."""

    def __init__(self, gateway: Gateway, key: str, job: str) -> None:
        self._address = gateway.url.removeprefix("http://").split(":")
        self._request = f"GET {job}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()

    async def open(self) -> asyncio.StreamReader:
        """Waits for the head of the answer, and reads nothing more."""
        host, port = self._address
        reader, self.writer = await asyncio.open_connection(host, int(port), limit=1 << 16)
        self.writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return reader


async def delays(gateway: Gateway, key: str) -> list[float]:
    """Seconds that events of a talking job take to each of the fast readers."""
    job = await asyncio.to_thread(submit, gateway, key, "talks", n=EVENTS, delay=0.05, size=100)

    async def read() -> list[float]:
        found = []
        stream = Stream(gateway, key, job)
        reader = await stream.open()
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if event["type"] == "content":
                found.append(time.time() - event["data"]["at"])
            elif event["type"] in ("done", "error"):
                break
        stream.writer.close()
        return found[EVENTS // 3 :]  # those before came while the job and its readers began

    return [delay for found in await asyncio.gather(*(read() for _ in range(FAST))) for delay in found]


@contextlib.asynccontextmanager
async def opened(gateway: Gateway, key: str, jobs: list[str]) -> AsyncIterator[None]:
    """Streams that nobody reads."""
    places = asyncio.Semaphore(OPENING)
    streams: list[Stream] = []

    async def one(job: str) -> None:
        async with places:
            stream = Stream(gateway, key, job)
            await stream.open()
            stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
            streams.append(stream)

    await asyncio.gather(*map(one, jobs))
    try:
        yield
    finally:
        for stream in streams:
            stream.writer.transport.abort()


async def measure(gateway: Gateway, key: str, count: int) -> tuple[float, list[float], list[float]]:
    """KB of each stream, and the delays without and with them."""
    await delays(gateway, key)  # warm
    alone = await delays(gateway, key)
    quiet = await asyncio.to_thread(submit, gateway, key, "waits", seconds=600)
    busy = await asyncio.to_thread(submit, gateway, key, "talks", n=2000, delay=0.5, size=20_000)
    before = memory_mb(gateway.pid)
    async with opened(gateway, key, [busy if n % 10 == 0 else quiet for n in range(count)]):
        together = await delays(gateway, key)
        each = (memory_mb(gateway.pid) - before) * 1024 / count
    for job in (quiet, busy):
        await asyncio.to_thread(gateway.request, "POST", f"{job}/cancel", key=key)
    return each, alone, together


def main(arguments: Any = None) -> int:
    """Runs it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--any-delay", action="store_true", help="judge the memory alone, on a machine that is busy")
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < options.streams + 500:
        print(f"this machine allows {hard} descriptors: ulimit -n {options.streams + 500}, or --streams {hard - 500}")
        return 2
    with tempfile.TemporaryDirectory() as folder, running_gateway(Path(folder) / "data") as gateway:
        gateway.publish(write_package(Path(folder) / "work", WORK, prefab_id="work"))
        each, alone, together = asyncio.run(measure(gateway, gateway.key("ann"), options.streams))
    late = [statistics.quantiles(found, n=100)[98] for found in (alone, together)]
    middle = [statistics.median(found) for found in (alone, together)]
    print(f"{options.streams} streams, a tenth of them never read: {each:.1f} KB each")
    print(f"an event reaches a fast reader in {middle[0] * 1e3:.1f} ms (p99 {late[0] * 1e3:.1f}) without them,")
    print(f"in {middle[1] * 1e3:.1f} ms (p99 {late[1] * 1e3:.1f}) with them")
    is_late = middle[1] > middle[0] + MOST_DELAY and not options.any_delay
    return 1 if each > MOST_KB or is_late else 0


if __name__ == "__main__":
    sys.exit(main())
