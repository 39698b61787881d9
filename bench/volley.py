"""A fixed number of requests over connections that stay open, each as soon as one of these is free, until all of them
are answered: nothing is cut, and what came of each is known.

Run by `load`. The order: port, connections, requests, heads and bodies in one, expect, what the body of every success
contains, and repeat, how often all of them are sent. Answers with the seconds of each repetition, the seconds and the
job of each request, and what was no success.
"""

import asyncio
import json
import time
from typing import Any

from bench import child
from bench.generator import answer_length

try:
    from uvloop import run
except ImportError:  # not on every platform
    from asyncio import run  # type: ignore[assignment]

JOB = b"\r\nx-job-id:"
TOLD = 5
"""Failures that are told word by word."""


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, volley: "Volley") -> None:
        self._volley = volley
        self._parts: list[bytes] = []
        self._length = self._come = 0
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def ask(self, request: bytes) -> None:
        """Sends a request; nothing else may be under way."""
        self._asked = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._come += len(data)
        if not self._length:
            self._parts = [b"".join(self._parts)]
            self._length = answer_length(self._parts[0])
        if not self._length or self._come < self._length:
            return
        answer = b"".join(self._parts)
        self._parts, self._length, self._come = [], 0, 0
        self._volley.take(self, answer, time.perf_counter() - self._asked)

    def connection_lost(self, error: Exception | None) -> None:
        self._volley.lose(error)


class Volley:
    """All connections, and what they have seen."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._port, self._connections, self._repeat = order["port"], order["connections"], order["repeat"]
        self._requests = [request.encode() for request in order["requests"]]
        self._expect = order["expect"].encode()
        self._next = self._answered = 0
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told: dict[str, list[Any]] = {"seconds": [], "each": [], "jobs": [], "failures": []}
        self._failed = 0

    async def run(self) -> dict[str, Any]:
        """Opens the connections, and sends everything as often as it was asked to."""
        loop = asyncio.get_running_loop()
        opened = [await loop.create_connection(lambda: Line(self), "127.0.0.1", self._port) for _ in self._places()]
        for _ in range(self._repeat):
            self._next = self._answered = 0
            self._end = loop.create_future()
            began = time.perf_counter()
            for _, line in opened:
                self._ask(line)
            await self._end
            self._told["seconds"].append(time.perf_counter() - began)
        return {**self._told, "failed": self._failed}

    def take(self, line: Line, answer: bytes, seconds: float) -> None:
        """An answer has come."""
        head, _, body = answer.partition(b"\r\n\r\n")
        self._told["each"].append(seconds)
        if head[9:12] != b"200" or self._expect not in body:
            self._failed += 1
            if self._failed <= TOLD:
                self._told["failures"].append(f"{head[9:12].decode()} {body[:200].decode(errors='replace')}")
        elif (at := head.lower().find(JOB)) >= 0:
            self._told["jobs"].append(head[at + len(JOB) :].split(b"\r\n", 1)[0].strip().decode())
        self._answered += 1
        if self._answered == len(self._requests):
            self._end.set_result(None)
        else:
            self._ask(line)

    def lose(self, error: Exception | None) -> None:
        """A connection was closed before all was answered."""
        if not self._end.done():
            self._end.set_exception(error or ConnectionError("the server has closed a connection"))

    def _ask(self, line: Line) -> None:
        if self._next < len(self._requests):
            self._next += 1
            line.ask(self._requests[self._next - 1])

    def _places(self) -> range:
        return range(min(self._connections, len(self._requests)))


async def main() -> None:
    """Does what the order says."""
    print(json.dumps(await Volley(child.order()).run()))


if __name__ == "__main__":
    run(main())
