# Generated from _async_connection.py by scripts/unasync.py: edit that one.
"""Requests over plain sockets, and the pool of idle connections that all clients of a process share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ._blocking import Socket, connect
from ._http1 import ProtocolError, Response, request_head
from ._request import Origin, Patience, Request
from ._typing import TYPE_CHECKING
from .exceptions import ConnectionFailedError, GatewayError

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T", bytes, int)

# A connection idle for longer is closed rather than kept: most servers have closed it by then anyway.
LONGEST_IDLE = 30.0  # seconds
# Up to this size head and body leave in one write, so that a small call is one packet.
_JOINED_BYTES = 64 * 1024
_SLICE_BYTES = 256 * 1024


class Pool:
    """Idle connections by origin, the latest used on top.

    Taking the latest lets a burst's extra connections grow old and go. There is no upper bound: a bound would make
    calls wait for each other, and idle connections never outnumber the calls that once ran together.
    """

    def __init__(self) -> None:
        # Threads share it without a lock: each step on a list or dict is whole.
        self._idle: dict[Origin, list[Connection]] = {}
        self.generation = 0  # counts the forks that lie behind

    def has(self, origin: Origin) -> bool:
        """Whether there is a connection, open or not."""
        return bool(self._idle.get(origin))

    def take(self, origin: Origin) -> Connection | None:
        """A connection that is still open, or None."""
        idle = self._idle.get(origin)
        try:
            while idle:
                connection = idle.pop()
                if time.monotonic() - connection.since < LONGEST_IDLE and not connection.socket.readable():
                    return connection
                connection.socket.close()
        except IndexError:
            pass  # another thread took the last
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next call. Meanwhile the oldest one may go."""
        connection.since = now = time.monotonic()
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle.setdefault(connection.origin, [])
        try:
            if idle and now - idle[0].since > LONGEST_IDLE:
                idle.pop(0).socket.close()
        except IndexError:
            pass  # another thread took the last
        idle.append(connection)

    def clear(self) -> None:
        """Close every idle connection."""
        everything, self._idle = self._idle, {}
        for idle in everything.values():
            while idle:
                idle.pop().socket.close()

    def after_fork(self) -> None:
        """In a child: the parent's connections are the parent's. Closing our copies does not end them."""
        self.generation += 1
        self.clear()

    def send(self, request: Request, origin: Origin, target: str, patience: Patience) -> Reply:
        """Send a request and wait for the head of the answer.

        Raises:
            ConnectionFailedError: no connection, or it broke.
            DeadlineExceededError: the patience is at its end.
        """
        try:
            head = request_head(request.method, target, origin.header, request.headers, request.length)
        except ValueError as error:
            raise GatewayError(f"{request!r}: {error}") from error
        while True:
            connection = self.take(origin)
            fresh = connection is None
            if connection is None:
                connection = Connection.open(self, origin, patience)
            try:
                return connection.exchange(request, head, patience)
            except ConnectionFailedError:
                # The server may close an idle connection in the very moment in which we use it. Nobody has seen the
                # request then; and each retry that could be seen twice carries its idempotency key.
                if fresh or connection.answered:
                    raise


class Connection:
    """One socket, one exchange at a time."""

    def __init__(self, pool: Pool, origin: Origin, socket: Socket) -> None:
        self.pool = pool
        self.origin = origin
        self.socket = socket
        self.answered = False  # whether a byte of the current answer has come
        self.since = 0.0  # when it became idle
        self._generation = pool.generation
        self._receiving = False
        self._aborted = False

    @classmethod
    def open(cls, pool: Pool, origin: Origin, patience: Patience) -> Connection:
        """Connect."""
        wait = patience.connect_wait()
        try:
            socket = connect(origin.host, origin.port, wait)
        except TimeoutError as error:
            patience.next_wait()  # if the deadline is what has passed, that is what we tell
            raise ConnectionFailedError(f"{origin.header} did not answer within {wait:.1f} s") from error
        except (OSError, UnicodeError) as error:
            raise ConnectionFailedError(
                f"cannot connect to {origin.header}: {_reason(error)} (base_url= or GATEWAY_BASE_URL says where it is)"
            ) from error
        return cls(pool, origin, socket)

    def exchange(self, request: Request, head: bytes, patience: Patience) -> Reply:
        """Send a request and read until the head of the answer is complete."""
        self.answered = False
        reply = Reply(self, request.method, patience)
        body = request.body
        complete = True
        try:
            if isinstance(body, bytes) and len(body) <= _JOINED_BYTES:
                self._write(head + body, patience)
            else:
                self._write(head, patience)
                if body is not None:
                    complete = self._send_blocks(_slices(body) if isinstance(body, bytes) else body, patience)
            while reply.status == 0:
                reply.advance()
        except BaseException:
            self.abort()
            raise
        if not complete:
            reply.reusable = False
        return reply

    def _send_blocks(self, body: Iterable[bytes | memoryview], patience: Patience) -> bool:
        """Send a body. False if the answer came before its end, so that the rest was not sent."""
        for block in body:
            try:
                self._write(block, patience)
            except ConnectionFailedError:
                if self.socket.readable():
                    return False  # refused in the middle: the answer says why
                raise
            if self.socket.readable():
                return False
        return True

    def _write(self, data: bytes | memoryview, patience: Patience) -> None:
        try:
            self.socket.send(data, patience.next_wait())
        except TimeoutError as error:
            raise patience.over() from error
        except OSError as error:
            raise ConnectionFailedError(f"the connection to {self.origin.header} broke: {_reason(error)}") from error

    def receive(self, patience: Patience) -> bytes:
        """Bytes from the other side, b"" at its end."""
        return self._receive(self.socket.receive, patience)

    def receive_into(self, room: memoryview, patience: Patience) -> int:
        """The same, put into `room`: how many bytes, 0 at their end."""
        return self._receive(partial(self.socket.receive_into, room), patience)

    def _receive(self, receive: Callable[[float | None], T], patience: Patience) -> T:
        self._receiving = True
        try:
            data = receive(patience.next_wait())
        except TimeoutError as error:
            raise patience.over() from error
        except OSError as error:
            raise ConnectionFailedError(f"the connection to {self.origin.header} broke: {_reason(error)}") from error
        finally:
            self._receiving = False
            if self._aborted:
                self.socket.close()
        if data:
            self.answered = True
        return data

    def release(self) -> None:
        """The exchange is complete: let others use the connection."""
        if self._generation == self.pool.generation:
            self.pool.give_back(self)
        else:
            self.socket.close()

    def abort(self) -> None:
        """End the connection at once, from any thread or task. One that waits for bytes is woken."""
        self._aborted = True
        if self._generation == self.pool.generation:
            self.socket.interrupt()  # first: another thread may begin to wait at any moment
        if not self._receiving or self._generation != self.pool.generation:
            self.socket.close()


class Reply(Response):
    """An answer whose head has arrived.

    The connection goes back to the pool by itself when the body has been read to its end.
    """

    __slots__ = ("_connection", "_open", "_ready", "patience")

    def __init__(self, connection: Connection, method: str, patience: Patience) -> None:
        super().__init__(method)
        self.patience = patience
        self._connection = connection
        self._ready = b""  # body bytes that came with the head
        self._open = True

    def advance(self) -> None:
        """Read once from the socket."""
        data = self._connection.receive(self.patience)
        if not data:
            self._ended()
            return
        try:
            self._ready += self.feed(data)
        except ProtocolError as error:
            raise self._broken(error) from error

    def _ended(self) -> None:
        try:
            self.end()
        except ProtocolError as error:
            raise self._broken(error) from error

    def _broken(self, error: ProtocolError) -> ConnectionFailedError:
        return ConnectionFailedError(f"{self._connection.origin.header}: {error}")

    def chunk(self) -> bytes:
        """The next bytes of the body, b"" at its end."""
        try:
            while not self._ready and not self.done:
                self.advance()
        except BaseException:
            self.abort()
            raise
        ready, self._ready = self._ready, b""
        if self.done:
            self._settle()
        return ready

    def into(self, room: memoryview) -> int:
        """The next bytes of the body, put into `room`: how many, 0 at their end. Most need no copy on the way."""
        if not self._ready and self.plain:
            return self._straight_into(room[: self.plain])
        chunk = self.chunk()
        count = min(len(chunk), len(room))
        room[:count] = chunk[:count]
        self._ready = chunk[count:]
        return count

    def _straight_into(self, room: memoryview) -> int:
        try:
            count = self._connection.receive_into(room, self.patience)
            if not count:
                self._ended()
        except BaseException:
            self.abort()
            raise
        self.passed(count)
        if self.done:
            self._settle()
        return count

    def read(self) -> bytes:
        """The whole body."""
        if self.done:  # it came with the head
            return self.chunk()
        chunks = []
        while chunk := self.chunk():
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def abort(self) -> None:
        """Close the connection unless the body has been read to its end."""
        if self._open:
            self._open = False
            self._connection.abort()

    def close(self) -> None:
        """The same; awaited, for transports that need it."""
        self.abort()

    def _settle(self) -> None:
        if self._open:
            self._open = False
            if self.reusable:
                self._connection.release()
            else:
                self._connection.abort()


def _slices(body: bytes) -> Iterator[memoryview]:
    """A body in pieces, between which an early answer is seen."""
    whole = memoryview(body)
    for start in range(0, len(body), _SLICE_BYTES):
        yield whole[start : start + _SLICE_BYTES]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
