"""The way to agents: shared connections, requests that pass as they came, and words for what goes wrong on it."""

import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from gateway_server.engine.local.firewall import is_metadata

CONNECT_TIMEOUT = 5.0
CONNECTIONS = 1000
IDLE = 4.0
"""Seconds that a connection is kept for the next request: less than common servers keep it, so that none is used in
the moment in which they close it."""
Header = tuple[bytes, bytes]
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"}
    | {b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"date"}  # our own server writes a date, too
)
_IDENTITY = frozenset(
    {b"x-internal-token", b"authorization", b"x-api-key", b"cookie", b"host", b"forwarded", b"x-real-ip", b"via"}
)
_WORDS = {
    errno.ECONNREFUSED: "connection refused, so nothing listens there",
    errno.ECONNRESET: "the connection was cut",
    errno.EPIPE: "the connection was cut",
    errno.EHOSTUNREACH: "no route leads to that host",
    errno.ENETUNREACH: "no route leads to that network",
}


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A registered agent."""

    id: str
    url: str
    owner: str
    created_at: float
    timeout: float | None = None
    """Seconds that a whole exchange may take."""
    health_path: str | None = None


class Unreached(Exception):
    """There was no answer, or it broke off. The text is a reason that names no address."""


class _Careful(httpcore.AsyncNetworkBackend):
    """Sends nothing to where a cloud tells its machines their secrets, whatever name led there."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        stream = await self._backend.connect_tcp(*arguments, **options)
        if is_metadata(stream.get_extra_info("server_addr")[0]):
            await stream.aclose()
            raise Unreached("no agent may be at a link-local or metadata address")
        return stream

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class Wire:
    """Carries requests to agents. Start it before, and close it after use."""

    def __init__(self) -> None:
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def start(self) -> None:
        """Opens what all requests share."""
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=100, keepalive_expiry=IDLE)
        # The transport alone: a client would follow cookies and proxies of the environment.
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        pool: Any = self._transport._pool  # httpx lets nobody see what a name led to before it sends
        pool._network_backend = _Careful(pool._network_backend)

    async def close(self) -> None:
        """Closes it."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def send(
        self,
        agent: Agent,
        method: str,
        target: bytes,
        headers: Iterable[Header],
        body: AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        """The head of the answer; its stream must be closed. `target` is the path and query below the agent's address.

        Raises:
            Unreached: nothing answered.
        """
        assert self._transport is not None
        base = urlsplit(agent.url)
        timeout = {"connect": CONNECT_TIMEOUT, "pool": CONNECT_TIMEOUT, "read": None, "write": None}
        whole = base.path.rstrip("/").encode() + b"/" + target
        request = httpx.Request(
            method,
            f"{base.scheme}://{base.netloc}",
            headers=[(b"host", base.netloc.encode()), *headers],
            content=body,
            extensions={"timeout": timeout, "target": whole},  # the target as it came, not as httpx would write it
        )
        with translated():
            return await self._transport.handle_async_request(request)


def passed_on(headers: Iterable[Header]) -> list[Header]:
    """What of a message concerns the other end, not just one connection."""
    found = list(headers)
    named = (value for name, value in found if name.lower() == b"connection")
    private = _HOP_BY_HOP | {part.strip().lower() for value in named for part in value.split(b",")}
    return [header for header in found if header[0].lower() not in private]


def answered(response: httpx.Response) -> list[Header]:
    """The headers of an answer that are passed on: where there is no body, no length of the one that there might be."""
    headers = passed_on(response.headers.raw)
    if response.status_code not in (204, 304):
        return headers
    return [header for header in headers if header[0].lower() != b"content-length"]


def is_identity(header: Header) -> bool:
    """Whether a header says who calls, also in the spelling that some servers take for the same."""
    name = header[0].lower().replace(b"_", b"-")
    return name in _IDENTITY or name.startswith(b"x-forwarded-")


@contextmanager
def translated() -> Iterator[None]:
    """Turns what the transport raises into a reason."""
    try:
        yield
    except httpx.TransportError as error:
        raise Unreached(_reason(error)) from error


def _reason(error: httpx.TransportError) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({(cause.reason or 'no reason given').replace('_', ' ').lower()})"
        if isinstance(cause, socket.gaierror):
            return "its name cannot be found"
        if isinstance(cause, OSError) and cause.errno:
            return _WORDS.get(cause.errno) or os.strerror(cause.errno)
    if isinstance(error, httpx.TimeoutException):
        return f"no connection within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return "what it answers is not HTTP, or broke off"
    return "the connection was closed before the end of the answer"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that led to it; attempts at several addresses come as a group."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__
