"""The records of plain calls, on their way to the database.

That a call began, and how it ended, is written into a journal at once, which survives the process, and taken over into
the database a moment later, with all that others have written meanwhile: a transaction for each call would cost more
than the call. Whoever reads or writes the database through `Database` finds everything that was recorded, as it is
taken over first. What is charged for a call counts with its record, in one transaction.

A taking holds everything recorded so far; takings follow each other in the order of the database's queue. Where one
fails, those behind it fail, too, all of them are put together again, and it is tried anew a little later.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import orjson
from sqlalchemy import Connection

from gateway_server.calls import records
from gateway_server.calls.jobs import Ending
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.records import Closing, Opening
from gateway_server.calls.requests import RequestKey
from gateway_server.errors import ServiceUnavailable
from gateway_server.store.database import Database, Item
from gateway_server.store.journal import LONGEST, Journal

T = TypeVar("T")
CLOSED = "The gateway cannot write into its database at the moment: its log tells why."
EVERY = 0.05
"""Seconds after which records are taken over."""
MANY = 2048
"""Records at which they are taken over without waiting."""
YOUNG = 1.0
"""Seconds for which a call that goes on needs no record, unless somebody asks."""
AGAIN = 1.0
"""Seconds after which it is tried again where the database failed."""
LONGEST_BODY = LONGEST - (8 << 10)
"""Bytes of a result, a log or events, together, that go through the journal."""
_TOLD = (None, True)
_decoder = msgspec.msgpack.Decoder(tuple[Opening | None, Closing | None])
_encode = msgspec.msgpack.Encoder().encode
logger = logging.getLogger("gateway")


class Ledger:
    """Lives on the event loop. Open it after the database and before the first call."""

    def __init__(self, database: Database, quotas: Quotas, open_journal: Callable[[], Journal]) -> None:
        self._database = database
        self._quotas = quotas
        self._open_journal = open_journal
        self._journal: Journal | None = None
        self._opened: dict[str, Opening] = {}
        """Calls whose beginning waits to be taken over."""
        self._closed: dict[str, Closing] = {}
        self._moving: dict[str, Opening] = {}
        """Those that are being taken over."""
        self._live: dict[str, tuple[bytes | None, bool]] = {}
        """Calls that were opened here and have not been closed: the key of the request, and whether the journal knows
        of them."""
        self._keys: dict[bytes, str] = {}
        """Keys of requests whose jobs the database does not know yet."""
        self._held: Counter[bytes] = Counter()
        """Keys of requests that are on their way into the database otherwise."""
        self._takings = 0
        """How many have succeeded."""
        self._taking: asyncio.Future[None] | None = None
        """The latest that is under way."""
        self._latest: Item | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        """Why the database takes nothing at the moment."""
        self._failures = 0
        self._retry_at = 0.0
        self._is_again = False
        """Whether the database may hold some of what is to be written."""

    async def open(self) -> None:
        """Takes over what a former life of this gateway has left, and from now on takes records.

        Raises:
            Exception: whatever the database has.
        """
        journal = self._open_journal()
        taken = await self._database.read(lambda c: records.position_of(c, journal.id))
        for record in journal.recover(taken):
            try:
                opening, closing = _decoder.decode(record)
            except msgspec.MsgspecError:  # of another release
                logger.warning("a record of a call in the journal cannot be read, and is left out")
                continue
            if opening is not None:
                self._opened[opening.id] = opening
            if closing is not None:
                self._closed[closing.id] = closing
        self._journal, self._is_again = journal, True
        self._database.ahead, self._database.lags = self.take_over, lambda: self._failure is not None
        await self.settle()
        if self._failure is not None:
            raise self._failure
        journal.wipe()

    def begin(self, opening: Opening, *, is_told: bool) -> bool:
        """Records that a call has begun. False where nothing more is taken at the moment. Where nobody is told of it
        before its end, it reaches the journal with that, or the database with the next that are taken over."""
        if self._journal is None or self._journal.is_full or self._failure is not None:
            return False
        if is_told and not self._journal.append(_encode((opening, None))):
            return False
        self._opened[opening.id] = opening
        self._live[opening.id] = (opening.request_key, is_told)
        if opening.request_key is not None:
            self._keys[opening.request_key] = opening.id
        if self._timer is None:
            self._schedule(EVERY)
        return True

    def has_begun(self, job_id: str) -> bool:
        """Whether it is here that a call has to `end`."""
        return job_id in self._live

    def end(self, job_id: str, ending: Ending, *, charged: bool, events: bytes) -> bool:
        """Records how a call ended; `events` are JSON texts, one a line, of a stream that may be asked for again. False
        where the journal cannot take it: then wait until it is `written`."""
        assert self._journal is not None
        error = None if ending.error is None else orjson.dumps(ending.error, default=str).decode()
        closing = Closing(
            job_id,
            ending.status.value,
            time.time(),
            error,
            ending.is_fault,
            charged,
            ending.forget_key,
            ending.result,
            ending.log,
            events,
        )
        key, is_told = self._live.pop(job_id)
        opening = None if is_told else self._opened.get(job_id) or self._moving.get(job_id)
        size = len(ending.result or b"") + len(ending.log) + len(events) + len(error or "")
        is_kept = size <= LONGEST_BODY and self._journal.append(_encode((opening, closing)))
        self._closed[job_id] = closing
        if key is not None and ending.forget_key and self._keys.get(key) == job_id:
            del self._keys[key]
        if self._timer is None or len(self._closed) >= MANY:
            self._schedule(EVERY)
        return is_kept

    async def written(self, job_id: str) -> None:
        """Waits until the end of a call is in the database.

        Raises:
            Exception: whatever the database has.
        """
        await self.settle()
        if job_id in self._closed:
            raise self._failure or RuntimeError("the end of a call could not be written")

    def after(self, work: Callable[[Connection], T]) -> Callable[[Connection], T]:
        """Work that decides by what is recorded: it is not done where that could not be written.

        Raises:
            ServiceUnavailable: it is so now; or, when the work is done, it was so then.
        """
        self.take_over()
        before = self._latest
        if self._failure is not None:
            raise ServiceUnavailable(CLOSED, retry_after=AGAIN)

        def guarded(connection: Connection) -> T:
            if before is not None and before.error is not None:
                raise ServiceUnavailable(CLOSED, retry_after=AGAIN)
            return work(connection)

        return guarded

    async def is_new(self, key: RequestKey, knows: Callable[[RequestKey], Awaitable[bool]]) -> bool:
        """Whether a key has come with no other request; `knows` looks into the database. To be followed by `begin`
        without a wait."""
        while not self._is_known(key):
            takings = self._takings
            if await knows(key):
                return False
            if takings == self._takings:
                return not self._is_known(key)  # it may have come meanwhile
        return False  # the database says what it stands for

    def _is_known(self, key: RequestKey) -> bool:
        return key.key in self._keys or key.key in self._held

    def hold(self, key: RequestKey | None, writing: "asyncio.Future[Any]") -> None:
        """A job with that key is on its way into the database."""
        if key is not None:
            self._held[key.key] += 1
            writing.add_done_callback(lambda _: self._let_go(key.key))

    def _let_go(self, key: bytes) -> None:
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]

    def take_over(self) -> asyncio.Future[None] | None:
        """Has everything that was recorded so far written before whatever the database is asked for next; the future
        of that, or None where there is nothing to wait for."""
        if (self._opened or self._closed) and self._may_try():
            opened, self._opened = self._opened, {}
            self._start_taking(opened)
        return self._taking

    async def settle(self) -> None:
        """Waits until the database has everything that is recorded now, if it takes anything."""
        if (taking := self.take_over()) is not None:
            await asyncio.wait([taking])

    async def close(self) -> None:
        """Takes over what there is; what the database does not take is in the journal."""
        await self.settle()
        if self._timer is not None:
            self._timer.cancel()
        if self._journal is not None:
            if not self._opened and not self._closed and self._failure is None:
                self._journal.wipe()
            self._journal.close()
            self._journal = None

    def _may_try(self) -> bool:
        return self._failure is None or asyncio.get_running_loop().time() >= self._retry_at

    def _schedule(self, seconds: float) -> None:
        if len(self._closed) >= MANY and self._taking is None and self._may_try():
            self._take_over_old()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._taking is None and self._may_try():
            self._take_over_old()
        else:
            self._schedule(EVERY)

    def _take_over_old(self) -> None:
        """Has written what has ended, and what began long ago: most calls end before they need a record of their
        beginning."""
        closed, before = self._closed, time.time() - YOUNG
        young = {
            job_id: opening
            for job_id, opening in self._opened.items()
            if job_id not in closed and opening.created_at > before and not self._live.get(job_id, _TOLD)[1]
        }
        opened = {job_id: opening for job_id, opening in self._opened.items() if job_id not in young}
        self._opened = young
        if opened or closed:
            self._start_taking(opened)
        if young and self._timer is None:
            self._schedule(YOUNG)

    def _start_taking(self, opened: dict[str, Opening]) -> None:
        journal, before, is_again = self._journal, self._latest, self._is_again
        assert journal is not None
        closed, self._closed = self._closed, {}
        self._moving.update(opened)
        position = journal.turn()

        def work(connection: Connection) -> None:
            if before is not None and before.error is not None:  # else the position would say that it is there
                raise RuntimeError("what came before it could not be written") from before.error
            there = records.find(connection, opened) if is_again else ()
            new = {job_id: opening for job_id, opening in opened.items() if job_id not in there} if there else opened
            records.write(connection, self._quotas, new, closed)
            records.note(connection, journal.id, position)

        item = self._latest = self._database.begin(work, durable=False)
        failures = self._failures

        async def take() -> None:
            try:
                await item.future
            except Exception as error:  # whatever the database has: nothing is lost, and it is tried again
                self._has_failed(error, item, opened, closed)
            else:
                self._has_taken(opened)
                self._is_again = self._is_again and failures != self._failures
                journal.take(position)
            if self._taking is task:
                self._taking = None

        task = self._taking = asyncio.ensure_future(take())

    def _has_taken(self, opened: dict[str, Opening]) -> None:
        self._takings += 1
        self._failure = None
        for job_id, opening in opened.items():
            self._moving.pop(job_id, None)
            key = opening.request_key
            if key is not None and self._keys.get(key) == job_id:
                del self._keys[key]

    def _has_failed(self, error: Exception, item: Item, opened: dict[str, Opening], closed: dict[str, Closing]) -> None:
        if self._failure is None:
            logger.error("the records of calls could not be written; they will be tried again", exc_info=error)
        self._failure, self._is_again = error, True
        self._failures += 1
        self._retry_at = asyncio.get_running_loop().time() + AGAIN
        for job_id in opened:
            self._moving.pop(job_id, None)
        self._opened, self._closed = {**opened, **self._opened}, {**closed, **self._closed}
        if self._latest is item:
            self._latest = None  # nothing is behind it: the next begins from here
        self._schedule(AGAIN)
