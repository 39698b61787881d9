"""A run that is answered by the web server's connection itself.

The way through an ASGI server costs as much as everything else that a small call needs. So the usual request of a run,
short and whole, is taken from the connection as it stands, and its answer is written as one piece; whatever is unusual
about a request (a long body, one in pieces, one sent before the last was answered) goes the common way.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from gateway_server.api.asgi import Headers, Reply
from gateway_server.api.exchange import KEEP_ALIVE, KEEP_ALIVE_EVERY, Exchange, Reader
from gateway_server.api.faults import answer
from gateway_server.errors import GatewayFault

LONGEST = 64 << 10
"""Bytes of a body that is taken so."""
_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class Serve(Protocol):
    """Whoever answers such requests."""

    def direct(self, request: "Direct") -> None:
        """Begins to answer."""


class Direct(Reader):
    """One request, and its answer. To the server's protocol it is what a cycle of ASGI is."""

    __slots__ = (
        "_exchange",
        "_keep_alive_timer",
        "_on_response",
        "_said_at",
        "_started",
        "_task",
        "_transport",
        "body",
        "client",
        "default_headers",
        "disconnected",
        "headers",
        "is_paused",
        "keep_alive",
        "more_body",
        "response_complete",
    )

    def __init__(
        self,
        headers: dict[str, str],
        *,
        client: tuple[str, int] | None,
        transport: asyncio.Transport,
        default_headers: Headers,
        keep_alive: bool,
        on_response: Callable[[], None],
    ) -> None:
        self.at = self.waiting = 0
        self.headers = headers
        """Those that a run looks at, by their lower-case names."""
        self.client = client
        self.body = b""
        self.more_body = True
        self.keep_alive = keep_alive
        self.default_headers = default_headers
        self.disconnected = self.response_complete = self.is_paused = self._started = False
        self._transport = transport
        self._on_response = on_response
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._keep_alive_timer: asyncio.TimerHandle | None = None
        self._said_at = 0.0

    def attend(self, task: asyncio.Task[None]) -> None:
        """While there is nothing to follow yet, a task is at it, which ends if the client leaves."""
        self._task = task

    def follow(self, exchange: Exchange) -> None:
        """Sends an answer as it comes."""
        self._task = None
        if self.disconnected:
            exchange.join(self)
            exchange.leave(self)
            return
        self._exchange = exchange
        exchange.join(self)
        self.news()

    def refuse(self, fault: GatewayFault) -> None:
        """Answers with a fault."""
        self.reply(Reply(*answer(fault)))

    def reply(self, reply: Reply) -> None:
        """Answers at once and whole."""
        if not self.disconnected and not self._started:
            self._write_head(reply.status, reply.headers, len(reply.body), reply.body)
            self._complete()

    def news(self) -> None:
        """Sends what there is of the answer, as far as the client takes it."""
        exchange = self._exchange
        if exchange is None or self.is_paused:
            return
        if not exchange.is_stream:
            if exchange.done:
                self._write_head(exchange.status, exchange.headers, exchange.size, exchange.whole())
                self._finish()
            return
        if exchange.has_more(self):
            body = exchange.take(self)
            chunk = b"%x\r\n%b\r\n" % (len(body), body)
            if self._started:
                self._transport.write(chunk)
            else:
                self._write_head(exchange.status, exchange.headers, None, chunk)
            self._said_at = asyncio.get_running_loop().time()
        if exchange.done:
            self._transport.write(b"0\r\n\r\n")
            self._finish()
        elif self._keep_alive_timer is None and self._started:
            self._watch(KEEP_ALIVE_EVERY)

    def given_up(self) -> None:
        """The client reads too slowly for the others."""
        self._exchange = None  # what it has missed cannot be mended
        self._leave()
        self._transport.abort()

    def hung_up(self) -> None:
        """The client is gone."""
        self.disconnected = True
        if self._task is not None:
            self._task.cancel()
        self._leave()

    def _leave(self) -> None:
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave(self)

    def _finish(self) -> None:
        self._leave()
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self._on_response()

    def _write_head(self, status: int, headers: Headers, length: int | None, first: bytes) -> None:
        """The head of an answer, with the beginning of its body."""
        self._started = True
        lines = [_LINES[status]]
        for name, value in self.default_headers:
            lines += (name, b": ", value, b"\r\n")
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(
            b"transfer-encoding: chunked\r\n\r\n" if length is None else b"content-length: %d\r\n\r\n" % length
        )
        if len(first) > LONGEST:  # rather than copy it
            self._transport.write(b"".join(lines))
            self._transport.write(first)
            return
        lines.append(first)
        self._transport.write(b"".join(lines))

    def _watch(self, seconds: float) -> None:
        self._keep_alive_timer = asyncio.get_running_loop().call_later(seconds, self._keep_alive)

    def _keep_alive(self) -> None:
        """Says something where nothing has been said for long, so that nobody between takes the connection for dead."""
        if self.is_paused:  # there is enough on its way
            self._watch(KEEP_ALIVE_EVERY)
            return
        silent = asyncio.get_running_loop().time() - self._said_at
        if silent >= KEEP_ALIVE_EVERY:
            self._transport.write(b"%x\r\n%b\r\n" % (len(KEEP_ALIVE), KEEP_ALIVE))
            silent = 0.0
            self._said_at = asyncio.get_running_loop().time()
        self._watch(max(KEEP_ALIVE_EVERY - silent, 0.01))
