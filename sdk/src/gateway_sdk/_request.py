"""A request, and how long it may wait: what the client hands to a transport. Pure."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter

from ._typing import Protocol
from .exceptions import DeadlineExceededError, GatewayError

CONNECT_TIMEOUT = 5.0  # seconds
_PROXY_VARIABLES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


class Body(Protocol):
    """A request body too large to hold in memory. Iterated anew for each attempt."""

    length: int

    def __iter__(self) -> Iterator[bytes]: ...


class Request:
    """One HTTP request. `url` is absolute; `body` is sent with its length, None means there is none; `silence` are the
    seconds that its answer may be waited for, None those of the client."""

    __slots__ = ("body", "headers", "method", "silence", "url")

    def __init__(self, method: str, url: str, headers: dict[str, str], body: bytes | Body | None = None) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.silence: float | None = None

    @property
    def length(self) -> int | None:
        """Bytes of the body."""
        if self.body is None:
            return None
        return len(self.body) if isinstance(self.body, bytes) else self.body.length

    def __repr__(self) -> str:
        # Without headers, they hold the token, and without the query, it may hold a signature.
        return f"{self.method} {self.url.partition('?')[0]}"


class Origin(tuple[str, str, int, str]):
    """Where connections lead: two requests to the same origin may share one."""

    __slots__ = ()

    def __new__(cls, scheme: str, host: str, port: int, header: str) -> Origin:
        """`header` is the value of the Host header."""
        return super().__new__(cls, (scheme, host, port, header))

    scheme = property(itemgetter(0))
    host = property(itemgetter(1))
    port = property(itemgetter(2))
    header = property(itemgetter(3))

    @property
    def direct(self) -> bool:
        """Whether a plain socket reaches it: neither TLS nor a proxy between."""
        has_proxy = any(os.environ.get(name) for name in _PROXY_VARIABLES)
        return self.scheme == "http" and not (has_proxy and not _is_excepted(self.host))


def _is_excepted(host: str) -> bool:
    """Whether no proxy leads to a host, as the environment says."""
    names = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    excepted = [name.strip().lstrip(".").lower() for name in names.split(",")]
    return "*" in excepted or any(name and f".{host.lower()}".endswith(f".{name}") for name in excepted)


@lru_cache(maxsize=256)
def split_address(address: str) -> Origin:
    """The origin of "http://host[:port]" (the path is cut off beforehand).

    Raises:
        GatewayError: it is no such address.
    """
    scheme, separator, authority = address.partition("://")
    scheme = scheme.lower()
    host, port = authority, ""
    if authority.startswith("["):  # IPv6
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in authority:
        host, _, port = authority.rpartition(":")
    right_port = not port or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
    strange = (
        not host
        or not right_port
        or any(c in "@?#\\ " or c < " " for c in host)
        or (":" in host and "[" not in authority)
    )
    if not separator or scheme not in ("http", "https") or strange:
        raise GatewayError(f"{address!r} is no address of the form http://host[:port]")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise GatewayError(f"{address!r} is no address: {error}") from error
        authority = f"{host}:{port}" if port else host
    return Origin(scheme, host, int(port) if port else (443 if scheme == "https" else 80), authority)


def origin_and_target(url: str) -> tuple[Origin, str]:
    """An absolute URL as its origin and the path with query that is asked of it."""
    url = url.partition("#")[0]
    start = url.find("/", url.find("://") + 3)
    query = url.find("?")
    if 0 <= query < start or (start < 0 <= query):
        start = query
    if start < 0:
        return split_address(url), "/"
    target = url[start:]
    return split_address(url[:start]), target if target[0] == "/" else f"/{target}"


class Patience:
    """How long one request may take.

    Args:
        silence: longest wait in seconds for the next byte, in either direction.
        total: seconds for all of it, from now; None for no bound.
        reason: what a person is told when it is over; `{:g}` in it stands for `named`.
        named: the seconds that the caller knows about.
    """

    __slots__ = ("ends", "named", "reason", "silence")

    def __init__(self, silence: float | None, total: float | None = None, reason: str = "", named: float = 0.0) -> None:
        self.silence = silence
        self.ends = None if total is None else time.monotonic() + total
        self.reason = reason or "the gateway was silent for {:g} s"
        self.named = named or silence or total or 0.0

    def next_wait(self) -> float | None:
        """Seconds that the next read or write may take.

        Raises:
            DeadlineExceededError: no time is left.
        """
        if self.ends is None:
            return self.silence
        left = self.ends - time.monotonic()
        if left <= 0:
            raise self.over()
        return left if self.silence is None else min(left, self.silence)

    def connect_wait(self) -> float:
        """Seconds that connecting may take."""
        wait = self.next_wait()
        return CONNECT_TIMEOUT if wait is None else min(wait, CONNECT_TIMEOUT)

    def over(self) -> DeadlineExceededError:
        """The error for a wait that was too long."""
        return DeadlineExceededError(self.reason.format(self.named))
