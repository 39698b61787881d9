"""Where the async client touches the operating system. `_blocking` is its twin."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from functools import partial

from . import _blocking
from ._blocking import looking_at
from ._session import Session
from ._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

_RECEIVE_BYTES = 64 * 1024
_LONGEST_WAIT = 24 * 3600.0  # seconds, where no bound is given

sleep = asyncio.sleep
in_thread = asyncio.to_thread


def current_scope() -> asyncio.AbstractEventLoop:
    """Within what connections may be shared: one event loop."""
    return asyncio.get_running_loop()


_leaving: set[asyncio.Task[None]] = set()


def _twin(session: Any) -> Session | None:
    """The same caller, for where no event loop runs; None where only the user's own transport leads there."""
    if session._sender is not None:
        return None
    twin = Session("unused", session.base_url)
    twin._token = session._token
    return twin


leave_at_exit = partial(_blocking.leave_at_exit, blocking=_twin)


def leave_in_background(session: Any, reply: Any, job_id: str | None) -> None:
    """Let go of a stream that is no longer wanted, and say so, without waiting for either."""
    if session._sender is None and job_id is not None:
        # Said by a thread: the event loop may be about to end, and with it every task.
        _blocking.leave_in_background(_twin(session), None, job_id)
        job_id = None

    async def leave() -> None:
        if reply is not None:
            await reply.close()
        if job_id is not None:
            await session._farewell(job_id)

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # no loop runs any more, and no connection outlives it
    task = loop.create_task(leave())
    _leaving.add(task)
    task.add_done_callback(_leaving.discard)


def interrupt(_stream: Any) -> bool:
    """Wake whoever waits for bytes of a stream of httpx's. Here its loop does that, once anybody closes it."""
    return False


async def close_at_the_end(sender: Any) -> object:
    """Have a sender closed when the event loop ends. Keep what this returns."""

    async def wait() -> AsyncIterator[None]:
        # A loop that shuts down closes the generators that it has seen, while it can still close connections.
        try:
            yield
        finally:
            await sender.close()

    waiting = wait()
    await anext(waiting)
    return waiting


async def together(works: Sequence[Callable[[], Coroutine[Any, Any, None]]], stop: Callable[[], None]) -> None:
    """Do all at once. The first failure is raised, after `stop` has been called and all have ended."""
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


async def blocks_of(body: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The blocks of a body, for httpx."""
    for block in body:
        yield block


class Socket:
    """A connected TCP socket of the running event loop.

    `OSError` tells that it broke, `TimeoutError` (which is one) that the wait was too long.

    `loop.sock_recv` tells the selector to watch the socket and to leave it again for each wait, and `asyncio.timeout`
    makes a timer for each: together twice what the rest of a call costs. This socket stays watched from its first wait
    on, and keeps one timer that looks, when it rings, for how long the wait of that moment may last.
    """

    __slots__ = (
        "_context",
        "_deadline",
        "_is_readable",
        "_loop",
        "_process",
        "_socket",
        "_take",
        "_timer",
        "_waiter",
        "_watched",
    )

    def __init__(self, raw: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = raw
        self._loop = loop
        self._is_readable = looking_at(raw)
        self._process = os.getpid()
        self._context = Context()  # an empty one: what the first caller keeps in theirs shall not live on here
        self._watched = False
        self._waiter: asyncio.Future[Any] | None = None
        self._take: Callable[[], Any] | None = None  # what the waiter waits to do
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    async def send(self, data: bytes | memoryview, wait: float | None) -> None:
        """Send all of it."""
        try:
            sent = self._socket.send(data)  # nearly always the kernel takes a request whole
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(data):
            async with asyncio.timeout(wait):
                await self._loop.sock_sendall(self._socket, memoryview(data)[sent:])

    async def receive(self, wait: float | None) -> bytes:
        """Whatever has arrived, at least one byte; b"" after the other side has closed."""
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            pass
        return await self._wait_for(partial(self._socket.recv, _RECEIVE_BYTES), self._loop.sock_recv, wait)

    async def receive_into(self, room: memoryview, wait: float | None) -> int:
        """The same, put into `room`: how many bytes."""
        try:
            return self._socket.recv_into(room)
        except (BlockingIOError, InterruptedError):
            pass
        return await self._wait_for(partial(self._socket.recv_into, room), self._loop.sock_recv_into, wait)

    async def _wait_for(self, take: partial[T], elsewhere: Callable[..., Any], wait: float | None) -> T:
        """What `take` gives when there is something; `elsewhere` is what the event loop of Windows has for it."""
        try:
            if not self._watched:
                self._context.run(self._loop.add_reader, self._socket, self._on_bytes)
                self._watched = True
        except NotImplementedError:
            async with asyncio.timeout(wait):
                received: T = await elsewhere(self._socket, *take.args)
                return received
        self._take = take
        self._waiter = self._loop.create_future()
        self._set_timer(self._loop.time() + (_LONGEST_WAIT if wait is None else wait))
        try:
            received = await self._waiter
            return received
        finally:
            self._waiter = self._take = None

    def _on_bytes(self) -> None:
        waiter, take = self._waiter, self._take
        if waiter is None or take is None or waiter.done():
            self._leave()  # nobody waits, and the loop would say it again and again
            return
        try:
            waiter.set_result(take())
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            waiter.set_exception(error)

    def _set_timer(self, deadline: float) -> None:
        """Have a wait end at a time of the loop. A timer that rings earlier sets itself anew."""
        self._deadline = deadline
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_time, context=self._context)

    def _on_time(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._set_timer(self._deadline)
        else:
            self._waiter.set_exception(TimeoutError())

    def _leave(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._socket)

    def readable(self) -> bool:
        """Whether bytes, or the end, have arrived. On an idle connection both mean that it is of no more use."""
        return self._is_readable()

    def interrupt(self) -> None:
        """Wake whoever waits for bytes: for them the other side has closed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close at once, also after the event loop has ended. From another thread the loop is asked to do it."""
        loop = self._loop
        # A child shares what its parent's selector watches: to leave it there would be to leave it for the parent.
        if not loop.is_closed() and self._process == os.getpid():
            if loop.is_running() and asyncio._get_running_loop() is not loop:
                with contextlib.suppress(RuntimeError):  # it has ended in this moment
                    loop.call_soon_threadsafe(self.close)
                    return
            else:
                self._leave()
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
        self._socket.close()


async def connect(host: str, port: int, wait: float) -> Socket:
    """Connect to the first of the host's addresses that answers."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(wait):
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            async with asyncio.timeout(wait):  # for each: the first may lead nowhere
                await loop.sock_connect(raw, address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Socket(raw, loop)
        except OSError as error:
            raw.close()
            failure = error
        except BaseException:
            raw.close()
            raise
    raise failure or OSError(f"{host} has no address")
