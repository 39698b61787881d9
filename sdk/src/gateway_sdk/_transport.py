# Generated from _async_transport.py by scripts/unasync.py: edit that one.
"""Which way a request takes, and what all clients of the process share.

A plain address without a proxy between is reached by our own sockets; everything else goes through httpx. Both keep
their connections in one place per event loop (the sync client: per process), so clients themselves own nothing.
"""

from __future__ import annotations

import atexit
import os
import threading

from ._blocking import current_scope
from ._connection import Pool
from ._httpx import HttpxSender
from ._request import Patience, Request, origin_and_target
from ._typing import Protocol


class ReplyLike(Protocol):
    """An answer whose head has arrived. Read it to its end or close it."""

    patience: Patience

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> dict[str, str]: ...
    def chunk(self) -> bytes: ...
    def into(self, room: memoryview) -> int: ...
    def read(self) -> bytes: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Transport(Protocol):
    """Sends a request and returns the answer as soon as its head has arrived."""

    def send(self, request: Request, patience: Patience) -> ReplyLike: ...


class SharedTransport:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._pool = Pool()
        self._httpx = HttpxSender()

    def send(self, request: Request, patience: Patience) -> ReplyLike:
        """Send a request by the way that its address needs."""
        origin, target = origin_and_target(request.url)
        # The proxies are looked up where a connection is opened, not for each request.
        if self._pool.has(origin) or origin.direct:
            return self._pool.send(request, origin, target, patience)
        return self._httpx.send(request, patience)

    def forget(self) -> None:
        """The event loop has ended: close what it has left."""
        self._pool.clear()
        self._httpx = HttpxSender()

    def after_fork(self) -> None:
        """In a child process: leave the parent's connections alone."""
        self._pool.after_fork()
        # Kept from being collected: a TLS connection would say goodbye in the parent's name.
        _abandoned.append(self._httpx)
        self._httpx = HttpxSender()


_shared: dict[object, SharedTransport] = {}
_abandoned: list[HttpxSender] = []
_lock = threading.Lock()


def shared_transport() -> SharedTransport:
    """The transport of the running event loop."""
    scope = current_scope()
    return _shared.get(scope) or _new_transport(scope)


def _new_transport(scope: object) -> SharedTransport:
    with _lock:
        for other in [other for other in _shared if other.is_closed()]:  # type: ignore[attr-defined]
            _shared.pop(other).forget()
        return _shared.setdefault(scope, SharedTransport())


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for transport in _shared.values():
        transport.after_fork()


def _at_exit() -> None:
    for transport in list(_shared.values()):  # threads go on meanwhile
        transport.forget()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
