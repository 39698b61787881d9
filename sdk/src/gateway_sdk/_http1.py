"""HTTP/1.1, the part of it that a client needs: a request to bytes, bytes to a response. Pure: no sockets here.

It is strict where leniency has let responses be confused with each other: two lengths that differ, a length that is no
number, a line that never ends. Such a response is a `ProtocolError`, and its connection is not used again.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 4 * 1024
_OK = "HTTP/1.1 200 OK"  # with what nearly every answer begins
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ProtocolError(Exception):
    """The other side does not speak HTTP/1.1, or the response broke off."""


def request_head(method: str, target: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """The head of a request. `length` is the size of the body in bytes, None for no body."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
    for name, value in headers.items():
        head += f"{name}: {value}\r\n"
    lines = len(headers) + 2
    if length is not None:
        head += f"Content-Length: {length}\r\n"
        lines += 1
    # One count finds a line break smuggled into any value: each would be one more than there are lines.
    if head.count("\n") != lines or head.count("\r") != lines or "\0" in head:
        raise ValueError("a header value or address holds a line break")
    return f"{head}\r\n".encode("latin-1")


def _status(line: str) -> int:
    """The status in the first line of a head."""
    code = line[9:12]
    if (
        line[:9] not in ("HTTP/1.1 ", "HTTP/1.0 ")
        or not (code.isascii() and code.isdigit())
        or line[12:13] not in ("", " ")
    ):
        raise ProtocolError(f"this is no HTTP answer: {line[:80]!r}")
    status = int(code)
    if not 100 <= status <= 599:
        raise ProtocolError(f"status {code} does not exist")
    return status


def _headers(lines: list[str]) -> dict[str, str]:
    """The headers in a head's lines but the first, names in lower case."""
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise ProtocolError(f"this is no header line: {line[:80]!r}")
        name = name.lower()
        value = value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class Response:
    """One response as it arrives.

    Feed it what the socket gives; it returns the decoded bytes of the body. `status` is 0 until the head is complete,
    `done` tells that the body is complete, `reusable` that the connection may carry another request.
    """

    __slots__ = (
        "_buffer",
        "_chunked",
        "_in_trailer",
        "_left",
        "_method",
        "_until_close",
        "done",
        "headers",
        "reusable",
        "status",
    )

    def __init__(self, method: str) -> None:
        self._method = method
        self._buffer = b""
        self._left = 0  # bytes still to come, of the body or of the current chunk (with its line end)
        self._chunked = False
        self._in_trailer = False
        self._until_close = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.done = False
        self.reusable = True

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the socket, return what they hold of the body."""
        if self.status == 0:
            data = self._head(self._buffer + data if self._buffer else data)
            if self.status == 0:
                return b""
        if self.done:
            self.reusable = self.reusable and not data
            return b""
        if self._chunked:
            return self._chunks(data)
        if self._until_close:
            return data
        if len(data) < self._left:
            self._left -= len(data)
            return data
        self._finish(data[self._left :])
        return data[: self._left] if len(data) > self._left else data

    def end(self) -> None:
        """The other side closed the connection."""
        self.reusable = False
        if self._until_close and not self.done:
            self.done = True
        if not self.done:
            raise ProtocolError(
                "the connection was closed " + ("in the middle of" if self.status else "before") + " the answer"
            )

    @property
    def plain(self) -> int:
        """How many of the next bytes belong to the body as they are, so that they need not pass through `feed`."""
        return 0 if self.done or self._chunked else self._left

    def passed(self, count: int) -> None:
        """So many of the `plain` bytes have come."""
        self._left -= count
        if not self._left:
            self._finish(b"")

    def _finish(self, rest: bytes) -> None:
        self.done = True
        # Bytes after the end belong to nothing that we asked for.
        self.reusable = self.reusable and not rest

    def _head(self, data: bytes) -> bytes:
        while True:
            end = data.find(b"\r\n\r\n")
            if (end if end >= 0 else len(data)) > MAX_HEAD_BYTES:
                raise ProtocolError(f"the head of the answer is longer than {MAX_HEAD_BYTES} bytes")
            if end < 0:
                self._buffer = data
                return b""
            lines = data[:end].decode("latin-1").split("\r\n")
            status = 200 if lines[0] == _OK else _status(lines[0])
            self.headers = _headers(lines)
            data = data[end + 4 :]
            if status >= 200:
                break
            if status == 101:
                raise ProtocolError("the other side switched protocols unasked")
            # 1xx: the real answer follows
        self.status = status
        self._buffer = b""
        self._frame(lines[0])
        return data

    def _frame(self, first_line: str) -> None:
        """How the end of the body is found: RFC 9112, section 6.3."""
        headers = self.headers
        if first_line != _OK or "connection" in headers:
            connection = headers.get("connection", "").lower()
            if "close" in connection or (first_line[:8] == "HTTP/1.0" and "keep-alive" not in connection):
                self.reusable = False
        if self._method == "HEAD" or self.status in (204, 304):
            self.done = True
            return
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked" or "content-length" in headers:
                raise ProtocolError(f"transfer coding {coding[:40]!r} is not understood")
            self._chunked = True
            return
        length = headers.get("content-length")
        if length is None:
            self._until_close = True
            self.reusable = False
            return
        if "," in length:  # the same length several times is one
            numbers = {number.strip() for number in length.split(",")}
            length = length if len(numbers) > 1 else numbers.pop()
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise ProtocolError(f"content length {length[:40]!r} is not understood")
        self._left = int(length)
        if self._left == 0:
            self.done = True

    def _chunks(self, data: bytes) -> bytes:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        body = []
        at = 0
        while at < len(data) and not self.done:
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                body.append(piece)
                at += len(piece)
                self._left -= len(piece)
            elif self._left:
                at = self._line_end(data, at)
            else:
                at, waiting = self._chunk_line(data, at)
                if waiting:
                    break
        if self.done:
            self.reusable = self.reusable and at == len(data)
        return body[0] if len(body) == 1 else b"".join(body)

    def _line_end(self, data: bytes, at: int) -> int:
        """The CR LF after a chunk, `_left` of whose two bytes are still to come."""
        expected = b"\r\n"[2 - self._left :]
        found = data[at : at + self._left]
        if found != expected[: len(found)]:
            raise ProtocolError("a chunk is longer than it said")
        self._left -= len(found)
        return at + len(found)

    def _chunk_line(self, data: bytes, at: int) -> tuple[int, bool]:
        """The line before a chunk, or a line of the trailer. Returns where to go on, and whether more is needed."""
        end = data.find(b"\r\n", at)
        if (end if end >= 0 else len(data)) - at > MAX_CHUNK_LINE_BYTES:
            raise ProtocolError("a chunk's first line does not end")
        if end < 0:
            self._buffer = data[at:]
            return at, True
        line = data[at:end]
        if self._in_trailer:
            self.done = not line
            return end + 2, False
        number = line.partition(b";")[0].strip(b" \t")
        if not number or len(number) > 15 or not _HEX.issuperset(number):
            raise ProtocolError(f"this is no chunk size: {line[:40]!r}")
        size = int(number, 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailer = True
        return end + 2, False
