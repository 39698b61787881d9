"""Load from one process, for machines without wrk: connections that ask again as soon as they were answered.

Run by `load`. The order: port, connections, seconds, heads, which requests take in turn, numbered, if each has a place
for a number, and body.
"""

import asyncio
import json
import time
from typing import Any

from bench import child
from bench.spread import percentile

try:
    from uvloop import run
except ImportError:  # not on every platform
    from asyncio import run  # type: ignore[assignment]


class Connection(asyncio.Protocol):
    """One that is always waiting for an answer."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self.ask()

    def ask(self) -> None:
        """Sends the request, if there is time left."""
        if self._load.over:
            self._transport.close()
            return
        self._asked = time.perf_counter()
        self._transport.write(self._load.request())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if (length := answer_length(self._buffer)) and len(self._buffer) >= length:
            self._load.latencies.append(time.perf_counter() - self._asked)
            self._load.errors += self._buffer[9:12] != b"200"
            self._buffer = self._buffer[length:]
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._load.over:
            self._load.errors += 1
            self._load.again()
        else:
            self._load.closed()


def answer_length(buffer: bytes) -> int:
    """Where the answer at the start of a buffer ends; 0 where that cannot be said yet."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = buffer[:end].lower()
    at = head.find(b"content-length:")
    if at >= 0:
        return end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
    last = buffer.find(b"0\r\n\r\n", end)
    return last + 5 if last >= 0 else 0


class Load:
    """All connections, and what they have seen."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._heads: list[str] = order["heads"]
        self._whole = [f"{head}{order['body']}".encode() for head in self._heads]
        self._number = 0
        self._open = order["connections"]
        self._end = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.errors = 0
        self.over = False

    def request(self) -> bytes:
        """The next request."""
        self._number += 1
        at = self._number % len(self._heads)
        if not self._order["numbered"]:
            return self._whole[at]
        return f"{self._heads[at] % self._number}{self._order['body']}".encode()

    def again(self) -> None:
        """Opens a connection in the place of one that was lost."""
        asyncio.get_running_loop().call_later(0.01, self._connect)

    def closed(self) -> None:
        """One connection has ended, as it should."""
        self._open -= 1
        if self._open <= 0 and not self._end.done():
            self._end.set_result(None)

    async def run(self) -> dict[str, Any]:
        """Asks until the time is over, and waits for the answers that are still to come."""
        began = time.perf_counter()
        for _ in range(self._order["connections"]):
            self._connect()
        await asyncio.sleep(self._order["seconds"])
        seconds = time.perf_counter() - began
        count = len(self.latencies)
        self.over = True
        await asyncio.wait([self._end], timeout=5)
        p50, p99 = (percentile(self.latencies, share) * 1000 if count else 0.0 for share in (0.5, 0.99))
        return {"requests": count, "seconds": seconds, "p50": p50, "p99": p99, "errors": self.errors}

    def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(
            loop.create_connection(lambda: Connection(self), "127.0.0.1", self._order["port"])
        )


async def main() -> None:
    """Does what the order says."""
    print(json.dumps(await Load(child.order()).run()))


if __name__ == "__main__":
    run(main())
