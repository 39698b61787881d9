"""One answer on its way out: produced by a task of its own, followed by one connection, or after a cut by another.

With an `Idempotency-Key` the same request joins the answer that is under way, or gets again the one that was given, so
that a retry never runs a function twice. Without one, a caller who hangs up ends the run.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from gateway_server.api.faults import Headers, answer, logger, unexpected
from gateway_server.errors import GatewayFault, IdempotencyConflict, ServiceUnavailable
from gateway_server.models import Principal

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MINTED = "auto-"
"""What the keys begin with that the SDK makes for its own retries."""
KEPT_MINTED, KEPT_GIVEN = 600.0, 86400.0
"""Seconds that an answer is kept, by who made the key."""
GRACE = 30.0
"""Seconds that a run goes on after its caller was cut off, waiting to be joined."""
BUFFER = 1 << 20
"""Bytes that may wait for a slow reader before the run has to wait."""
REPLAY = 4 << 20
"""Longest answer in bytes that can be given again."""
KEPT_BYTES = 64 << 20
"""All kept answers together."""
KEEP_ALIVE_EVERY = 15.0
KEEP_ALIVE = b": keep-alive\n\n"


class Exchange:
    """An answer in chunks. The producer writes; any number of connections follow."""

    def __init__(self, *, keyed: bool, body_digest: bytes = b"") -> None:
        self.keyed = keyed
        self.body_digest = body_digest
        self.status = 0
        self.headers: Headers = []
        self.is_stream = False
        self.done = False
        self.worth_keeping = False
        """Whether a function ran: refusals are not kept, the next attempt may be taken."""
        self.size = 0
        self.ended_at = 0.0
        self.task: asyncio.Task[None] | None = None
        self._chunks: list[bytes] = []
        self._first = 0  # index of the first chunk that is still there
        self._waiting = 0  # bytes in chunks that the only follower has not taken yet
        self._news: asyncio.Event = asyncio.Event()
        self._taken: asyncio.Event = asyncio.Event()
        self._followers = 0
        self._deserted = False  # there were followers, and none is left
        self._farewell: asyncio.TimerHandle | None = None

    @property
    def joinable(self) -> bool:
        """Whether a newcomer would get the whole answer."""
        return self._first == 0

    def begin(self, status: int, headers: Headers, *, is_stream: bool = False) -> None:
        """The head of the answer."""
        self.status, self.headers, self.is_stream = status, headers, is_stream

    def write_nowait(self, chunk: bytes) -> None:
        """A piece of the body."""
        self._chunks.append(chunk)
        self.size += len(chunk)
        self._waiting += len(chunk)
        self._news.set()

    async def write(self, chunk: bytes) -> None:
        """A piece of the body; waits while the reader is far behind."""
        self.write_nowait(chunk)
        while self._waiting > BUFFER and not self._deserted:
            self._taken.clear()
            await self._taken.wait()
        if self._deserted and self.size > REPLAY:
            self._drop()  # nobody reads it, and nobody could be given it whole

    def finish(self) -> None:
        """Nothing follows."""
        self.done = True
        self.ended_at = time.monotonic()
        self._news.set()

    async def follow(self, receive: Receive, send: Send) -> None:
        """Sends the answer, from its first chunk on, over one connection."""
        self._followers += 1
        self._deserted = False
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None
        gone = asyncio.create_task(_hung_up(receive))
        gone.add_done_callback(lambda _: self._news.set())
        try:
            await self._send_all(gone, send)
        finally:
            gone.cancel()
            self._followers -= 1
            self._deserted = not self._followers
            self._taken.set()
            if not self.done and not self._followers:
                self._left_alone()

    def _left_alone(self) -> None:
        if self.task is None:
            return
        if self.keyed:
            self._farewell = asyncio.get_running_loop().call_later(GRACE, self.task.cancel)
        else:
            self.task.cancel()

    async def _send_all(self, gone: asyncio.Task[None], send: Send) -> None:
        at, started = self._first, False
        while not gone.done():
            if not started and (self.done or (self.is_stream and self.status)):
                started = True
                length = [] if self.is_stream else [(b"content-length", str(self.size).encode())]
                await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, *length]})
            if started and at < self._first + len(self._chunks):
                body = b"".join(self._chunks[at - self._first :])
                at = self._first + len(self._chunks)
                self._took()
                last = self.done and at == self._first + len(self._chunks)
                await send({"type": "http.response.body", "body": body, "more_body": not last})
                if last:
                    return
            elif self.done:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                await self._wait(send if started and self.is_stream else None)

    def _took(self) -> None:
        self._waiting = 0
        self._taken.set()
        if self._followers == 1 and (not self.keyed or self.size > REPLAY):
            self._drop()

    def _drop(self) -> None:
        self._first += len(self._chunks)
        self._chunks.clear()

    async def _wait(self, send: Send | None) -> None:
        self._news.clear()
        if send is None:
            await self._news.wait()
            return
        try:
            async with asyncio.timeout(KEEP_ALIVE_EVERY):
                await self._news.wait()
        except TimeoutError:
            await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Exchanges:
    """The answers that are under way or kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str | None, str], Exchange] = OrderedDict()
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self,
        principal: Principal,
        key: str | None,
        body: bytes,
        produce: Callable[[Exchange], Awaitable[None]],
    ) -> Exchange:
        """The answer to this request: a new one, or with a known key the one that is there.

        Raises:
            IdempotencyConflict: the key came with another body, or its answer cannot be given again.
        """
        if key is None:
            return self._start(Exchange(keyed=False), produce)
        digest = hashlib.blake2b(body, digest_size=16).digest()
        place = (principal.user, principal.agent, key)
        known = self._kept.get(place)
        if known is not None and not (known.done and self._is_old(key, known)):
            if known.body_digest != digest:
                raise IdempotencyConflict(f"The Idempotency-Key {key[:60]} was used with another request.")
            if not known.joinable:
                raise IdempotencyConflict("The answer to this Idempotency-Key was too long to be given again.")
            return known
        exchange = Exchange(keyed=True, body_digest=digest)
        self._kept[place] = exchange
        self._start(exchange, produce)
        assert exchange.task is not None
        exchange.task.add_done_callback(lambda _: self._ended(place, exchange))
        return exchange

    def _start(self, exchange: Exchange, produce: Callable[[Exchange], Awaitable[None]]) -> Exchange:
        exchange.task = asyncio.create_task(_run(exchange, produce))
        self._tasks.add(exchange.task)
        exchange.task.add_done_callback(self._tasks.discard)
        return exchange

    def _ended(self, place: tuple[str, str | None, str], exchange: Exchange) -> None:
        if self._kept.get(place) is not exchange:
            return
        if not exchange.worth_keeping or not exchange.joinable:
            del self._kept[place]
            return
        self._bytes += exchange.size
        while self._bytes > KEPT_BYTES or (self._kept and self._is_old(*self._oldest())):
            (_, _, _), oldest = self._kept.popitem(last=False)
            if oldest.done:
                self._bytes -= oldest.size

    def _oldest(self) -> tuple[str, Exchange]:
        (_, _, key), exchange = next(iter(self._kept.items()))
        return key, exchange

    @staticmethod
    def _is_old(key: str, exchange: Exchange) -> bool:
        kept = KEPT_MINTED if key.startswith(MINTED) else KEPT_GIVEN
        return exchange.done and time.monotonic() - exchange.ended_at > kept

    async def drain(self) -> None:
        """Waits until every answer has been given."""
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _run(exchange: Exchange, produce: Callable[[Exchange], Awaitable[None]]) -> None:
    try:
        await produce(exchange)
    except GatewayFault as fault:
        status, headers, body = answer(fault)
        exchange.begin(status, headers)
        await exchange.write(body)
    except asyncio.CancelledError:
        if not exchange.status:
            stopped = ServiceUnavailable("The gateway stopped before the call had ended.", retry_after=2)
            status, headers, body = answer(stopped)
            exchange.begin(status, headers)
            exchange.write_nowait(body)
        raise
    except Exception:  # a mistake of ours must not leave the caller waiting
        logger.exception("unexpected error in a run")
        if not exchange.status:
            status, headers, body = answer(unexpected())
            exchange.begin(status, headers)
            await exchange.write(body)
    finally:
        exchange.finish()
