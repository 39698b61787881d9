"""One request, byte by byte as a fuzzer wants it on the wire, and its answer."""

import contextlib
import http.client
import shlex
import socket
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

PATIENCE = 90.0
"""Seconds after which a request that is not answered counts as hanging."""
Pairs = tuple[tuple[str, str], ...]


def quoted(text: str) -> str:
    """A value as one segment of a path or of a query."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to one operation. Path parameters, query and headers are kept as texts until they are sent."""

    method: str
    template: str
    """The path as the description has it; parameters stand in braces."""
    parts: dict[str, str] = field(default_factory=dict)
    """Of the path, percent-encoded."""
    query: Pairs = ()
    """Percent-encoded."""
    headers: Pairs = ()
    body: bytes | None = None
    document: Any = None
    """What the body says as JSON, for mutations."""
    expected: Any = None
    """What the function of a valid call gives back."""
    note: str = "valid"

    @property
    def target(self) -> str:
        """Path and query."""
        path = self.template
        for name, value in self.parts.items():
            path = path.replace("{" + name + "}", value)
        return path + ("?" + "&".join(f"{name}={value}" for name, value in self.query) if self.query else "")

    def with_json(self, document: Any, **changes: Any) -> "Request":
        """The same with another document for a body."""
        return replace(self, document=document, body=orjson.dumps(document), **changes)

    def with_header(self, name: str, value: str) -> "Request":
        """The same with one header more."""
        return replace(self, headers=(*self.headers, (name, value)))

    def raw(self, host: str) -> bytes:
        """As it goes over the wire."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body is not None and not any(name.lower() == "content-length" for name, _ in self.headers):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + (self.body or b"")

    def curl(self, url: str) -> str:
        """For a person who wants to see it again."""
        words = ["curl", "-i", "--path-as-is", "-g", "-X", self.method, url + self.target]
        for name, value in self.headers:
            words += ["-H", f"{name}: {value}"]
        text = shlex.join(word.encode("utf-8", "replace").decode() for word in words)
        if self.body is not None:
            body = "".join(chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in self.body[:4000])
            text += f" --data-binary $'{body}'" + (f"  # of {len(self.body)} bytes" if len(self.body) > 4000 else "")
        return text


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """The content type without parameters; empty where there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body."""
        return orjson.loads(self.body)


class Line:
    """A connection to the gateway that is opened again whenever it was closed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._address = (parts.hostname, parts.port)
        self._socket: socket.socket | None = None

    def send(self, request: Request) -> Answer:
        """Sends and waits.

        Raises:
            OSError, http.client.HTTPException: there was no whole answer.
        """
        try:
            return self._once(request)
        except (ConnectionError, http.client.BadStatusLine):  # a kept connection may have been closed meanwhile
            self.close()
            return self._once(request)

    def _once(self, request: Request) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, PATIENCE)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read
                self._socket.sendall(request.raw(self.host))
            response = http.client.HTTPResponse(self._socket, method=request.method)
            response.begin()
            body = response.read()
            response.close()
        except BaseException:
            self.close()
            raise
        headers = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            self.close()
        return Answer(status=response.status, headers=headers, body=body)

    def close(self) -> None:
        """Hangs up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
