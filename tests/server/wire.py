"""A connection byte by byte, a prefab to call over it, and who calls."""

import json
import socket
from typing import Any, NamedTuple

from gateways import Gateway

SOURCE = """
import os
import time
from pathlib import Path

def echo(text: str):
    return {"success": True, "text": text}

def marks(path: str, seconds: float):
    Path(path + ".began").touch()
    time.sleep(seconds)
    Path(path + ".ended").touch()
    return "marked"

def raises():
    raise ValueError("no such luck")

def business():
    return {"success": False, "error": "not today"}

def tokens(n: int):
    for i in range(n):
        yield {"type": "content", "data": f"t{i} "}

def floods(size: int):
    while True:
        yield {"type": "content", "data": "x" * size}

def pages(n: int):
    for i in range(n):
        yield {"type": "content", "data": "x" * 10_000}

def long(size: int):
    return "x" * size

def silent(seconds: float):
    yield {"type": "content", "data": "first"}
    time.sleep(seconds)
    yield {"type": "content", "data": "second"}

def needs_secret():
    return os.environ["SECRET"]
"""
FUNCTIONS = {"needs_secret": {"secrets": [{"name": "SECRET", "description": "One.", "instructions": "Ask."}]}}
PATIENT = """
import gateway_server.api.intake as i
i.SILENCE = 0.3
import gateway_server.api.connection as c
c.SILENCE = 0.3
import gateway_server.api.direct as d
d.KEEP_ALIVE_EVERY = 0.1
import gateway_server.cli.server as s
s.KEEP_ALIVE = 1
"""


class Answer(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def output(self) -> Any:
        return self.json["results"][0]["output"]["output"]

    @property
    def code(self) -> str:
        return self.json["detail"]["error_code"]


class Wire:
    """A connection, byte by byte."""

    def __init__(self, gateway: Gateway, *, window: int | None = None) -> None:
        host, port = gateway.url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        if window is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.settimeout(20)
        self.socket.connect((host, int(port)))
        self._heard = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, *pieces: bytes) -> "Wire":
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def _more(self) -> bool:
        data = self.socket.recv(1 << 16)
        self._heard += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """What is heard up to a mark, with it."""
        while mark not in self._heard:
            assert self._more(), f"{mark!r} did not come, but {self._heard!r}"
        found, _, self._heard = self._heard.partition(mark)
        return found + mark

    def _exactly(self, size: int) -> bytes:
        while len(self._heard) < size:
            assert self._more(), f"{size} bytes did not come, but {self._heard!r}"
        found, self._heard = self._heard[:size], self._heard[size:]
        return found

    def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header came twice: {pairs}"
        version, status, phrase = first.split(" ", 2)
        assert (version, bool(phrase)) == ("HTTP/1.1", True)
        return int(status), headers

    def chunk(self) -> bytes:
        size = int(self.until(b"\r\n"), 16)
        return self._exactly(size + 2)[:-2]

    def hear(self) -> Answer:
        status, headers = self.head()
        if status == 100:
            return Answer(100, headers, b"")
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return Answer(status, headers, self._exactly(int(headers["content-length"])))
        assert headers["transfer-encoding"] == "chunked"
        body = b""
        while chunk := self.chunk():
            body += chunk
        return Answer(status, headers, body)

    @property
    def is_closed(self) -> bool:
        """Whether the gateway has hung up, with nothing left to hear."""
        try:
            return not self._heard and not self.socket.recv(1)
        except ConnectionResetError:
            return True


def calls(function: str, parameters: dict[str, Any] | None = None, **more: Any) -> bytes:
    call = {
        "prefab_id": "direct",
        "version": "1.0.0",
        "function_name": function,
        "inputs": {"parameters": parameters or {}},
    }
    return json.dumps({"calls": [call], **more}).encode()


def echo(text: str) -> bytes:
    return calls("echo", {"text": text}, stream=False)


class Caller:
    """Writes requests of somebody."""

    def __init__(self, gateway: Gateway, user: str = "ann") -> None:
        self.token = gateway.token(user, "helper")

    def request(self, body: bytes, *lines: bytes, chunked: bool = False, version: bytes = b"1.1") -> bytes:
        if chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            framing = b"Transfer-Encoding: chunked"
        else:
            framing = b"Content-Length: %d" % len(body)
        return self.head(framing, *lines, version=version) + body

    def head(self, *lines: bytes, version: bytes = b"1.1") -> bytes:
        first = (b"POST /v1/internal/run HTTP/" + version, b"Host: x", b"X-Internal-Token: " + self.token.encode())
        return b"\r\n".join((*first, *lines)) + b"\r\n\r\n"
