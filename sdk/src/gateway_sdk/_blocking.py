"""Where the sync client touches the operating system. `_aio` is its twin; the generated modules know no other."""

from __future__ import annotations

import atexit
import contextlib
import select
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from weakref import WeakKeyDictionary

from ._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

_RECEIVE_BYTES = 64 * 1024
_LONGEST_WAIT = 1e9  # seconds: more than any system refuses
_LEAVING = 5.0  # seconds that the end of a program may take for all streams that are still open
_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)  # of POSIX; Windows has neither it nor this form of SO_RCVTIMEO
_warned = False


class Scope:
    """Connections may be shared by all threads of the process, so there is one scope, and it never ends."""

    def is_closed(self) -> bool:
        """Never."""
        return False


_SCOPE = Scope()


def current_scope() -> Scope:
    """Within what connections may be shared."""
    return _SCOPE


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def warn_about_running_loop() -> None:
    """Warn, once per process, that a blocking call holds up the event loop of this thread."""
    global _warned
    asyncio = sys.modules.get("asyncio")  # a program that has not imported it runs no loop
    if asyncio is None or _warned or asyncio._get_running_loop() is None:
        return
    _warned = True
    warnings.warn(
        "GatewayClient blocks the event loop that runs on this thread: every other request of this process waits. "
        "Use AsyncGatewayClient (the same methods, with await), or a plain `def` endpoint.",
        RuntimeWarning,
        stacklevel=_depth_of_the_caller(),
    )


def _depth_of_the_caller() -> int:
    """How many frames above the warning the user's own code stands."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        depth, frame = depth + 1, frame.f_back
    return depth


def leave_in_background(session: Any, reply: Any, job_id: str | None) -> None:
    """Let go of a stream that is no longer wanted, and say so, without waiting for either."""

    def leave() -> None:
        if reply is not None:
            reply.close()
        if job_id is not None:
            session._farewell(job_id)

    if sys.is_finalizing():  # a thread that is started now would be waited for, and never run
        return
    # Not a daemon: a program that breaks out of a stream and ends should still say so.
    thread = threading.Thread(target=leave, name="gateway-sdk-cancel")
    with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
        thread.start()


_open_streams: WeakKeyDictionary[Any, Callable[[Any], Any]] = WeakKeyDictionary()


def leave_at_exit(stream: Any, blocking: Callable[[Any], Any] = lambda session: session) -> None:
    """Have a stream that a program holds to its end say then that it is no longer wanted. `blocking` gives the session
    by which that can be said, if there is any."""
    if not _open_streams:
        atexit.unregister(_leave_streams)
        atexit.register(_leave_streams)
    _open_streams[stream] = blocking


def _leave_streams() -> None:
    ends = time.monotonic() + _LEAVING
    for stream, blocking in list(_open_streams.items()):
        if stream._let_go() and stream.job_id is not None and time.monotonic() < ends:
            session = blocking(stream._session)
            if session is not None:
                session._farewell(stream.job_id)


def interrupt(stream: Any) -> bool:
    """Wake whoever waits for bytes of a stream of httpx's: for them the other side has closed. True: it is for them to
    close it, as another connection could have its number by the time that they wait."""
    raw = stream.get_extra_info("socket")
    if isinstance(raw, socket.socket):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(raw, socket.SHUT_RDWR)  # not that of TLS, which takes its state from under the other
    return True


def close_at_the_end(sender: Any) -> object:
    """The scope of the sync client ends with the process, and sockets with it: nothing to do."""
    return sender


def in_thread(work: Callable[[], T]) -> T:
    """Do something that nobody else has to wait for. Here nobody waits."""
    return work()


def together(works: Sequence[Callable[[], None]], stop: Callable[[], None]) -> None:
    """Do all at once. The first failure is raised, after `stop` has been called and all have ended."""
    from concurrent.futures import ThreadPoolExecutor, as_completed  # rarely needed

    with ThreadPoolExecutor(len(works), thread_name_prefix="gateway-sdk-upload") as threads:
        futures = [threads.submit(work) for work in works]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop()
            raise


def blocks_of(body: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks of a body, for httpx."""
    return iter(body)


class Socket:
    """A connected TCP socket.

    `OSError` tells that it broke, `TimeoutError` (which is one) that the wait was too long.

    A time-out of Python's costs one more system call before each send and receive, and one to set it. Here the kernel
    bounds the wait for bytes, told so once for all calls of about the same length, and sending waits only if it must.
    Where it cannot, and for sockets that only look like one, as gevent's do, Python does.
    """

    __slots__ = ("_at_once", "_bound", "_is_readable", "_socket")

    def __init__(self, raw: socket.socket) -> None:
        raw.settimeout(None)
        self._socket = raw
        self._at_once = _AT_ONCE if type(raw).__module__ == "socket" else 0
        self._bound = 0.0
        self._is_readable = looking_at(raw)

    def send(self, data: bytes | memoryview, wait: float | None) -> None:
        """Send all of it."""
        try:
            # Nearly always the kernel takes it whole.
            sent = self._socket.send(data, self._at_once) if self._at_once else 0
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._socket.settimeout(wait)
            self._socket.sendall(memoryview(data)[sent:])
            self._socket.settimeout(None)
            self._bound = 0.0

    def receive(self, wait: float | None) -> bytes:
        """Whatever has arrived, at least one byte; b"" after the other side has closed."""
        if wait is None or not wait <= self._bound <= wait * 1.002:
            self._bind(wait)
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as error:
            raise TimeoutError from error

    def receive_into(self, room: memoryview, wait: float | None) -> int:
        """The same, put into `room`: how many bytes."""
        if wait is None or not wait <= self._bound <= wait * 1.002:
            self._bind(wait)
        try:
            return self._socket.recv_into(room)
        except BlockingIOError as error:
            raise TimeoutError from error

    def _bind(self, wait: float | None) -> None:
        """Bound the next waits for bytes, a little later than asked for: so it fits the next call, too."""
        self._bound = 0.0 if wait is None else min(wait, _LONGEST_WAIT) * 1.001
        if self._at_once:
            seconds, rest = divmod(int(self._bound * 1_000_000) + (wait is not None), 1_000_000)
            bound = struct.pack("ll", seconds, rest)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        else:
            self._socket.settimeout(self._bound or None)

    def readable(self) -> bool:
        """Whether bytes, or the end, have arrived. On an idle connection both mean that it is of no more use."""
        return self._is_readable()

    def interrupt(self) -> None:
        """Wake whoever waits for bytes: for them the other side has closed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close at once. In a forked child this does not disturb the parent's copy."""
        self._socket.close()


def connect(host: str, port: int, wait: float) -> Socket:
    """Connect to the first of the host's addresses that answers."""
    raw = socket.create_connection((host, port), wait)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Socket(raw)


if hasattr(select, "poll"):

    def looking_at(raw: socket.socket) -> Callable[[], bool]:
        """What tells whether a read would return at once."""
        poll = select.poll()
        poll.register(raw, select.POLLIN)
        return lambda: bool(poll.poll(0))

else:  # Windows, whose select has no bound on the descriptor's number

    def looking_at(raw: socket.socket) -> Callable[[], bool]:
        """What tells whether a read would return at once."""
        return lambda: bool(select.select([raw], [], [], 0)[0])
