"""One connection of a client: the web server's own, with the bounds that it does not set itself.

The head of a request is bounded in bytes and in time, and says who calls only once: where two parts of a chain of
proxies and programs read a request differently, one of them can be deceived.
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway_server.api.calls import PATHS
from gateway_server.api.direct import LONGEST, Direct, Serve
from gateway_server.api.faults import answer
from gateway_server.api.heads import Heads
from gateway_server.api.intake import SILENCE
from gateway_server.errors import GatewayFault, HeadTooLarge, Invalid, RequestTimeout

LONGEST_HEAD = 64 << 10
"""Bytes of a request line and its headers."""
HEAD_TIME = 30.0
"""Seconds in which a request that has begun must have told its head."""
STALLED = 60.0
"""Seconds for which a client may take nothing of an answer."""
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
LOOKED_AT = ONCE | {b"content-length", b"transfer-encoding", b"expect", b"prefer", b"origin"}
CLOSE = (b"connection", b"close")
RUN_URLS = frozenset(path.encode() for path in PATHS)
_TOO_LARGE = HeadTooLarge(f"The head of the request has more than {LONGEST_HEAD} bytes.")
_NAMES = {name: name.decode() for name in LOOKED_AT}


def _untaken(transport: asyncio.Transport) -> int:
    """Bytes that the other end has not acknowledged yet. The system takes over a megabyte or more at a time, for which
    a slow reader may need longer than it is waited for: what it holds counts, too."""
    waiting: int = transport.get_write_buffer_size()
    with suppress(OSError):
        held = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        waiting += int.from_bytes(held, sys.byteorder)
    return waiting


def _framing(seen: Mapping[bytes, bytes]) -> bytes | None:
    """The header that frames the body of a request; None without one."""
    for name in (b"transfer-encoding", b"content-length"):
        if name in seen:
            return name + b": " + seen[name]
    return None


def _without_offer(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A header that no longer says that this connection could change to another protocol."""
    name, value = header
    if name == b"connection":
        value = b",".join(token for token in value.split(b",") if token.strip().lower() != b"upgrade")
    return name, value


class _Body:
    """What a parser tells of a body that is all it reads."""

    def __init__(self, connection: "Connection") -> None:
        self._connection: Connection | None = connection

    def on_body(self, body: bytes) -> None:
        if self._connection is not None:
            self._connection.on_body(body)

    def on_message_complete(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.on_message_complete()


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client."""

    heads = Heads()
    """Of all connections."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head: int | None = 0  # bytes of the head that is coming in; None while none is
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: GatewayFault = Invalid("The request is no valid HTTP.")
        self._serve: Serve | None = getattr(self.app, "runs", None)
        self._direct: Direct | None = None
        """The request that is being answered here."""
        self._opening = b""
        """What came first of the request whose head is being parsed."""
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._untaken = 0
        """Bytes of answers that the client had still to take when somebody last looked."""
        self._untaken_timer: asyncio.TimerHandle | None = None
        self._framing: bytes | None = None
        """How a body is framed that the parser takes for another protocol, until it is told."""
        self._postponed: GatewayFault | None = None
        """What is said of the request behind those that are still being answered: nobody reads what follows it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client that connects has to say what it wants."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_TIME, self._be_done)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_timer()
        self._stop_watching_reader()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        direct, self._direct = self._direct, None
        if isinstance(self.cycle, Direct):
            self.cycle = None  # to the protocol it would be one of its own
        super().connection_lost(exc)
        if direct is not None and not direct.response_complete:
            direct.hung_up()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._postponed is not None:
            return
        self._unset_keepalive_if_required()
        if self._head == 0:
            if self._begins_as_before(data):
                return
            self._opening = data
        if self._head is not None:
            self._head += len(data)
        self._parse(data)
        if self.transport.is_closing():
            return
        if self._head is not None:
            if self._head > LONGEST_HEAD:
                self._refuse(_TOO_LARGE)
            elif self._head and self._timer is None:
                self._timer = self.loop.call_later(HEAD_TIME, self._be_done)
        elif self._direct is not None and self._direct.more_body:
            self._stop_timer()
            self._timer = self.loop.call_later(SILENCE, self._body_stopped)

    def _begins_as_before(self, data: bytes) -> bool:
        """Serves a usual run whose head has come before; says whether it is one. The parser hears nothing of it: it is
        between two requests, and stays there."""
        if self._serve is None or not self._is_free or self.transport.is_closing():
            return False
        known = self.heads.find(data)
        if known is None:
            return False
        self._stop_timer()
        direct = self._begin_direct(known.headers, keep_alive=True)
        direct.body, direct.more_body = known.body, False
        self._serve.direct(direct)
        return True

    def _parse(self, data: bytes | memoryview) -> None:
        while data and not self.transport.is_closing():
            try:
                self.parser.feed_data(data)
                return
            except HttpParserError:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("")
                return
            except HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
                self._stay()

    def _stay(self) -> None:
        """Nobody here changes to the protocol that a head offered, so what follows is what it was without the offer:
        another request, or the body, for which there is a parser that reads nothing else."""
        if self._framing is not None:
            framing, self._framing = self._framing, None
            self.parser = HttpRequestParser(_Body(self))
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # and passes over what follows
            self.parser.feed_data(b"POST / HTTP/1.1\r\nconnection: close\r\n" + framing + b"\r\n\r\n")

    def on_message_begin(self) -> None:
        """A request begins. What it is to ASGI is put together only where it goes that way."""
        self.url = b""
        self.headers = []
        self._head = self._head or 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes behind the body says nothing about the request."""
        if self._head is not None:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Its head is here."""
        seen: dict[bytes, bytes] = {}
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value)
            if name in LOOKED_AT:
                if name in seen and name in ONCE:
                    self._refusal = Invalid(f"The request has more than one header {name.decode('latin-1')}.")
                    raise ValueError(name)
                if name in seen and name == b"prefer":  # may come in several pieces
                    value = seen[name] + b", " + value
                seen[name] = value
                if name == b"transfer-encoding" and value.lower() != b"chunked":
                    self._refusal = Invalid("The only Transfer-Encoding of a request is chunked.")
                    raise ValueError(name)
        if size > LONGEST_HEAD:  # it came at once with what was before or after it
            self._refusal = _TOO_LARGE
            raise ValueError(size)
        self._head = None
        self._stop_timer()
        self.expect_100_continue = seen.get(b"expect", b"").lower() == b"100-continue"
        opening, self._opening = self._opening, b""
        if self._serve is not None and self.url in RUN_URLS and self._is_usual(seen):
            names = {_NAMES[name]: value.decode("latin-1") for name, value in seen.items()}
            if self._begin_direct(names, keep_alive=self.parser.should_keep_alive()).keep_alive:
                self.heads.learn(opening, names)
        else:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers += headers
            if self.parser.should_upgrade() and (framing := _framing(seen)) is not None:
                self._framing = framing
                self.headers[:] = [*map(_without_offer, self.headers), CLOSE]
                super().on_headers_complete()
                self.cycle.keep_alive = False
            else:
                super().on_headers_complete()

    def _begin_direct(self, headers: dict[str, str], *, keep_alive: bool) -> Direct:
        direct = self.cycle = self._direct = Direct(  # type: ignore[assignment]
            headers,
            client=self.client,
            transport=self.transport,
            default_headers=self.server_state.default_headers,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        return direct

    @property
    def _is_free(self) -> bool:
        """Whether the last answer is out."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _is_usual(self, seen: dict[bytes, bytes]) -> bool:
        """Whether a request can be answered without a detour; the last one must have been answered."""
        length = seen.get(b"content-length", b"")
        return (
            self._is_free
            and len(length) < 6
            and length.isdigit()
            and int(length) <= LONGEST
            and b"transfer-encoding" not in seen
            and not self.expect_100_continue
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
        )

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        if self._direct is not None and self._direct.more_body:
            self._direct.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Its body is here; what follows is the head of another."""
        if self._direct is not None and self._direct.more_body:
            self._stop_timer()
            self._direct.more_body = False
            assert self._serve is not None
            self._serve.direct(self._direct)
        elif self._framing is not None:
            return  # it is still to come
        else:
            super().on_message_complete()
        self._head = 0

    def on_response_complete(self) -> None:
        """An answer is out. One timer watches over the silence between all requests of a connection."""
        direct, self._direct = self._direct, None
        if self._postponed is not None and not self.pipeline:
            self._hang_up(self._postponed)
            return
        self._idle_since = self.loop.time()
        if direct is None or self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_at_silence)

    def _look_at_silence(self) -> None:
        is_busy = bool(self._head) or (self.cycle is not None and not self.cycle.response_complete)
        left = self.timeout_keep_alive - (0.0 if is_busy else self.loop.time() - self._idle_since)
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._look_at_silence)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it comes."""
        super().pause_writing()
        if self._direct is not None:
            self._direct.is_paused = True
        self._watch_reader()

    def resume_writing(self) -> None:
        """The client goes on."""
        self._stop_watching_reader()
        super().resume_writing()
        if self._direct is not None:
            self._direct.is_paused = False
            self._direct.news()

    def _watch_reader(self) -> None:
        self._untaken = _untaken(self.transport)
        self._untaken_timer = self.loop.call_later(STALLED, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """Of whom nothing has been taken since the last look, the answer is given up: else the gateway holds it for as
        long as they like, with everything that they ask for on further connections."""
        if _untaken(self.transport) < self._untaken:
            self._watch_reader()
        else:
            self.transport.abort()

    def _stop_watching_reader(self) -> None:
        if self._untaken_timer is not None:
            self._untaken_timer.cancel()
            self._untaken_timer = None

    def send_400_response(self, msg: str) -> None:
        """What nobody understands is refused in the form of every refusal."""
        self._refuse(self._refusal)

    def _body_stopped(self) -> None:
        self._timer = None
        if self._direct is not None and self._direct.more_body:
            self._direct.keep_alive = False
            self._direct.refuse(RequestTimeout(f"The body of the request stopped for {SILENCE:g} s."))

    def _be_done(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            if self._head:
                self._refuse(RequestTimeout(f"The head of the request did not come within {HEAD_TIME:g} s."))
            else:
                self.transport.close()

    def _refuse(self, fault: GatewayFault) -> None:
        """Answers and hangs up, once those requests are answered that are whole."""
        self._stop_timer()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._hang_up(fault)
        elif not cycle.more_body:
            self._postponed = fault
        elif self.pipeline:  # the latest, of which the body is broken, has not begun
            self.pipeline.popleft()
            self._postponed = fault
        elif isinstance(cycle, Direct) or cycle.response_started:
            self.transport.close()
        else:
            cycle.disconnected = True  # whoever reads the body hears no more of it, nor is heard
            self._hang_up(fault)

    def _hang_up(self, fault: GatewayFault) -> None:
        """Says why, and that this is the last answer."""
        if not self.transport.is_closing():
            status, headers, body = answer(fault)
            lines = [b"HTTP/1.1 %d Refused" % status, *(name + b": " + value for name, value in headers)]
            lines += [b"content-length: %d" % len(body), b"connection: close", b"", body]
            self.transport.write(b"\r\n".join(lines))
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
