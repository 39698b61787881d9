"""One answer on its way out: produced by a task of its own, followed by one connection, or after a cut by another.

With an `Idempotency-Key` the same request joins the answer that is under way; once that has been given, its record
answers. Without a key, a caller who hangs up ends the run.
"""

import asyncio
from collections.abc import Awaitable, Callable

from gateway_server.api import sse
from gateway_server.api.asgi import Headers, Receive, Reply, Send
from gateway_server.api.faults import answer, logger, unexpected
from gateway_server.calls import events
from gateway_server.calls.requests import OTHER_REQUEST, RequestKey, place
from gateway_server.errors import Canceled, GatewayFault, IdempotencyConflict, ServiceUnavailable
from gateway_server.models import Principal

GRACE = 30.0
"""Seconds that a run goes on after its caller was cut off, waiting to be joined."""
BUFFER = 1 << 19
"""Bytes that may wait for a slow reader before the run has to wait."""
REPLAY = 4 << 20
"""Longest answer in bytes that another connection can join from its beginning."""
CHUNK_COST = 128
"""Bytes that a chunk takes besides its own."""
KEEP_ALIVE_EVERY = 15.0
KEEP_ALIVE = b": keep-alive\n\n"


class Reader:
    """One connection that follows an answer, and how far it is."""

    __slots__ = ("at", "waiting")

    def __init__(self) -> None:
        self.at = 0  # index of the chunk that it takes next
        self.waiting = 0  # bytes that were written since it took the last time

    def news(self) -> None:
        """There is more of the answer, or it is whole."""
        raise NotImplementedError

    def given_up(self) -> None:
        """It holds what others do not wait for, and gets nothing more."""
        raise NotImplementedError


class Exchange:
    """An answer in chunks. The producer writes; any number of connections follow."""

    def __init__(self, principal: Principal, key: RequestKey | None = None) -> None:
        self.principal = principal
        self.key = key
        self.job_id = ""
        self.status = 0
        self.headers: Headers = []
        self.is_stream = False
        self.done = False
        self.size = 0
        self.task: asyncio.Task[None] | None = None
        self.stopped: GatewayFault | None = None
        """Why it was ended from outside. Nobody joins it from then on."""
        self.chunks: list[bytes] = []
        """What has been written, without what nobody wants any more."""
        self._weight = 0
        self._first = 0  # index of the first chunk that is still there
        self._readers: set[Reader] = set()
        self._was_followed = False
        self._taken: asyncio.Event | None = None  # while the producer waits for a reader
        self._farewell: asyncio.TimerHandle | None = None

    @property
    def joinable(self) -> bool:
        """Whether a newcomer would get the whole answer."""
        return self._first == 0

    @property
    def keyed(self) -> bool:
        """Whether another connection may come for it."""
        return self.key is not None

    def begin(self, status: int, headers: Headers, *, is_stream: bool = False) -> None:
        """The head of the answer."""
        self.status, self.headers, self.is_stream = status, headers, is_stream

    def give(self, reply: Reply) -> None:
        """The whole answer at once."""
        self.begin(reply.status, reply.headers)
        self.chunks.append(reply.body)  # it is told when the answer is whole
        self.size = len(reply.body)
        self._weight = self.size + CHUNK_COST

    def write_nowait(self, *chunks: bytes) -> None:
        """Pieces of the body."""
        self._lose_stalled()
        self.chunks += chunks
        size = sum(map(len, chunks))
        self.size += size
        weight = size + CHUNK_COST * len(chunks)
        self._weight += weight
        for reader in self._readers:
            reader.waiting += weight
        self._trim()
        self._tell()

    async def write(self, *chunks: bytes) -> None:
        """Pieces of the body; of a stream, waits while every reader is far behind."""
        self.write_nowait(*chunks)
        while self.is_stream and self._is_ahead():
            self._taken = asyncio.Event()
            await self._taken.wait()
            self._taken = None

    def _is_ahead(self) -> bool:
        if not self._readers:
            return not self._was_followed and self._weight > BUFFER
        return all(reader.waiting > BUFFER for reader in self._readers)

    def fail(self, fault: GatewayFault) -> None:
        """Ends the answer with a fault: as the whole answer, or as the last event where a stream has begun."""
        if not self.status:
            status, headers, body = answer(fault, job_id=self.job_id) if self.job_id else answer(fault)
            echo = [(b"x-job-id", self.job_id.encode())] if self.job_id else []
            self.begin(status, [*headers, *echo])
            self.write_nowait(body)
        elif self.is_stream:
            self.write_nowait(sse.frame(events.error(fault.detail(), self.job_id, {})))

    def cancel(self, reason: GatewayFault) -> None:
        """Ends the run; whoever still follows hears why."""
        if self.task is not None and self.stopped is None:
            self.stopped = reason
            self.task.cancel()

    def finish(self) -> None:
        """Nothing follows."""
        if not self.status:
            self.fail(self.stopped or Canceled("The call was canceled."))
        self.done = True
        self.task = None
        self._stay()  # the timer would hold on to all that was said
        self._tell()

    def join(self, reader: Reader) -> None:
        """Lets a connection follow the answer, from its first chunk on."""
        reader.at = self._first
        self._readers.add(reader)
        self._was_followed = True
        self._stay()

    def leave(self, reader: Reader) -> None:
        """A connection has the whole answer, or is gone."""
        self._readers.discard(reader)
        if self.done:  # nobody writes any more, and nobody joins
            return
        self._let_go_on()
        self._trim()
        if not self._readers:
            self._left_alone()

    def whole(self) -> bytes:
        """All of an answer that was given at once."""
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)

    def take(self, reader: Reader) -> bytes:
        """Everything that a reader has not taken yet."""
        chunks = self.chunks[reader.at - self._first :]
        reader.at = self._first + len(self.chunks)
        reader.waiting = 0
        self._let_go_on()
        self._trim()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def has_more(self, reader: Reader) -> bool:
        """Whether there is something that a reader has not taken yet."""
        return reader.at < self._first + len(self.chunks)

    async def follow(self, receive: Receive, send: Send) -> None:
        """Sends the answer, from its first chunk on, over one ASGI connection."""
        reader = _Waiting()
        self.join(reader)
        gone = asyncio.create_task(_hung_up(receive))
        gone.add_done_callback(lambda _: reader.news())
        try:
            await self._send_all(reader, gone, send)
        finally:
            gone.cancel()
            self.leave(reader)

    def _tell(self) -> None:
        for reader in tuple(self._readers):
            reader.news()

    def _let_go_on(self) -> None:
        if self._taken is not None:
            self._taken.set()

    def _stay(self) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None

    def _left_alone(self) -> None:
        if not self.keyed:
            self.cancel(Canceled("The caller hung up."))
        elif self._farewell is None:
            reason = Canceled("The caller was cut off and did not come back.")
            self._farewell = asyncio.get_running_loop().call_later(GRACE, self.cancel, reason)

    async def _send_all(self, reader: "_Waiting", gone: asyncio.Task[None], send: Send) -> None:
        started = False
        while not gone.done() and reader in self._readers:
            if not started and (self.done or (self.is_stream and self.status)):
                started = True
                length = [] if self.is_stream else [(b"content-length", str(self.size).encode())]
                await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, *length]})
            elif started and self.has_more(reader):
                body = self.take(reader)
                last = self.done and not self.has_more(reader)
                await send({"type": "http.response.body", "body": body, "more_body": not last})
                if last:
                    return
            elif self.done:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            elif not await reader.wait(KEEP_ALIVE_EVERY if started and self.is_stream else None):
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})

    def _lose_stalled(self) -> None:
        """Gives up readers that hold what others do not wait for: as a rule, connections that are dead already."""
        stalled = {reader for reader in self._readers if reader.waiting > BUFFER}
        if stalled and len(stalled) < len(self._readers):
            self._readers -= stalled
            for reader in stalled:
                reader.given_up()

    def _trim(self) -> None:
        """Lets go of what every reader has taken, unless newcomers may still want it."""
        if not self._was_followed or not self.chunks or (self.key is not None and self._weight <= REPLAY):
            return
        end = self._first + len(self.chunks)
        taken = min((reader.at for reader in self._readers), default=end)
        del self.chunks[: max(0, taken - self._first)]
        self._first = max(self._first, taken)


class _Waiting(Reader):
    """A reader that a task is at."""

    __slots__ = ("_news",)

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def news(self) -> None:
        self._news.set()

    def given_up(self) -> None:
        self._news.set()

    async def wait(self, seconds: float | None) -> bool:
        """Waits for news; False if none came in time."""
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        return True


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Exchanges:
    """The answers that are under way."""

    def __init__(self) -> None:
        self._live: dict[bytes, Exchange] = {}  # by request key
        self._running: dict[asyncio.Task[None], Exchange] = {}

    def begin(
        self, principal: Principal, key: RequestKey | None, produce: Callable[[Exchange], Awaitable[None]]
    ) -> Exchange:
        """The answer to this request: a new one, or the one with its key that is under way.

        Raises:
            IdempotencyConflict: the key came with another request, or so much of its answer has been sent that nobody
                can join it any more.
        """
        live = None if key is None else self._live.get(key.key)
        if key is not None and live is not None and live.stopped is None:
            assert live.key is not None
            if live.key.digest != key.digest:
                raise IdempotencyConflict(OTHER_REQUEST)
            if not live.joinable:
                raise IdempotencyConflict("The answer to this Idempotency-Key is too long to be given once more.")
            return live
        exchange = Exchange(principal, key)
        task = exchange.task = asyncio.get_running_loop().create_task(_run(exchange, produce))
        self._running[task] = exchange
        if key is not None:
            self._live[key.key] = exchange
        task.add_done_callback(self._ended)
        return exchange

    def _ended(self, task: asyncio.Task[None]) -> None:
        exchange = self._running.pop(task)
        if not exchange.done:  # it was ended before its first step
            exchange.finish()
        if exchange.key is not None and self._live.get(exchange.key.key) is exchange:
            del self._live[exchange.key.key]  # where no other run has taken its place

    def cancel(self, principal: Principal, key: str) -> Exchange | None:
        """Ends the run that a key stands for, on its caller's word, and gives it; None if none is under way."""
        live = self._live.get(place(principal, key))
        if live is not None:
            live.cancel(Canceled("The caller canceled the call."))
        return live

    async def end_user(self, user: str, seconds: float = 10.0) -> None:
        """Ends the runs of a user, whatever stage they are at, and waits."""
        tasks = [task for task, exchange in self._running.items() if exchange.principal.user == user]
        for task in tasks:
            self._running[task].cancel(Canceled("The user may not call any more."))
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def cancel_all(self) -> None:
        """Ends every run, and tells its callers that the gateway stops."""
        for exchange in list(self._running.values()):
            exchange.cancel(ServiceUnavailable("The gateway stopped before the call had ended.", retry_after=2))

    async def drain(self, seconds: float) -> None:
        """Waits until every answer has been given, but not for ever."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)


async def _run(exchange: Exchange, produce: Callable[[Exchange], Awaitable[None]]) -> None:
    try:
        await produce(exchange)
    except GatewayFault as fault:
        exchange.fail(fault)
    except asyncio.CancelledError:
        exchange.fail(exchange.stopped or Canceled("The call was canceled."))
        raise
    except Exception:  # a mistake of ours must not leave the caller waiting
        logger.exception("unexpected error in a run")
        exchange.fail(unexpected())
    finally:
        exchange.finish()
