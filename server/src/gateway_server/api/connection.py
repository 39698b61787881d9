"""One connection of a client: the web server's own, with the bounds that it does not set itself.

The head of a request is bounded in bytes and in time, and says who calls only once: where two parts of a chain of
proxies and programs read a request differently, one of them can be deceived.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway_server.api.faults import answer
from gateway_server.errors import GatewayFault, HeadTooLarge, Invalid, RequestTimeout

LONGEST_HEAD = 64 << 10
"""Bytes of a request line and its headers."""
HEAD_TIME = 30.0
"""Seconds in which a request that has begun must have told its head."""
ONCE = frozenset(
    (
        b"authorization",
        b"x-internal-token",
        b"x-api-key",
        b"idempotency-key",
        b"cancel-after",
        b"host",
        b"last-event-id",
    )
)
"""Headers of which a second one would be a contradiction."""


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head: int | None = 0  # bytes of the head that is coming in; None while none is
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: GatewayFault = Invalid("The request is no valid HTTP.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client that connects has to say what it wants."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_TIME, self._be_done)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and not self.transport.is_closing():
            if self._head > LONGEST_HEAD:
                self._refuse(HeadTooLarge(f"The head of the request has more than {LONGEST_HEAD} bytes."))
            elif self._head and self._timer is None:
                self._timer = self.loop.call_later(HEAD_TIME, self._be_done)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head = self._head or 1

    def on_headers_complete(self) -> None:
        """Its head is here."""
        seen: set[bytes] = set()
        for name, value in self.headers:
            if name in ONCE and name in seen:
                self._refusal = Invalid(f"The request has more than one header {name.decode('latin-1')}.")
                raise ValueError(name)
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                self._refusal = Invalid("The only Transfer-Encoding of a request is chunked.")
                raise ValueError(name)
            seen.add(name)
        self._head = None
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Its body is here; what follows is the head of another."""
        super().on_message_complete()
        self._head = 0

    def send_400_response(self, msg: str) -> None:
        """What nobody understands is refused in the form of every refusal."""
        self._refuse(self._refusal)

    def _be_done(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            if self._head:
                self._refuse(RequestTimeout(f"The head of the request did not come within {HEAD_TIME:g} s."))
            else:
                self.transport.close()

    def _refuse(self, fault: GatewayFault) -> None:
        """Answers and hangs up, if no other answer is on its way."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            status, headers, body = answer(fault)
            lines = [b"HTTP/1.1 %d Refused" % status, *(name + b": " + value for name, value in headers)]
            lines += [b"content-length: %d" % len(body), b"connection: close", b"", body]
            self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
