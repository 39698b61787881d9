"""A client of event streams on a raw socket that reads every event, for `parts.stream`.

The order: port, head, body, count. Answers with the seconds until the first content and until the end of each stream,
and how many events came.
"""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

from bench import child

WARM = 2
"""Streams that are not counted."""


class Reader:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def stream(self, request: bytes) -> tuple[float, float, int]:
        """Seconds until the first content, until the end, and how many contents there were."""
        began = time.perf_counter()
        first = 0.0
        count = 0
        rest = b""
        self._socket.sendall(request)
        for data in self._chunks():
            *frames, rest = (rest + data).split(b"\n\n")
            for frame in frames:
                if (line := frame.rpartition(b"\n")[2]).startswith(b"data: ") and json.loads(line[6:])[
                    "type"
                ] == "content":
                    count += 1
                    first = first or time.perf_counter() - began
        return first, time.perf_counter() - began, count

    def _chunks(self) -> Iterator[bytes]:
        """The body in pieces of any length, each as soon as it has arrived."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0] or b"chunked" not in head.lower():
            raise RuntimeError(f"no stream: {head!r} {self._buffer[:300]!r}")
        while True:
            while (at := self._buffer.find(b"\r\n")) < 0:
                self._more()
            size = int(self._buffer[:at], 16)
            begin, end = at + 2, at + 2 + size
            while len(self._buffer) < end + 2:
                self._more()
            data, self._buffer = self._buffer[begin:end], self._buffer[end + 2 :]
            if not size:
                return
            yield data

    def _more(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise RuntimeError(f"the stream was cut: {self._buffer[:300]!r}")
        self._buffer += data


def main() -> None:
    """Does what the order says."""
    order: dict[str, Any] = child.order()
    reader = Reader(order["port"])
    request = (order["head"] + order["body"]).encode()
    found = [reader.stream(request) for _ in range(WARM + order["count"])][WARM:]
    print(json.dumps({"first": [one[0] for one in found], "total": [one[1] for one in found], "events": found[0][2]}))


if __name__ == "__main__":
    main()
