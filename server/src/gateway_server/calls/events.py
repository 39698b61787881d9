"""What jobs say while they run: numbered, stored before anybody hears of it, and read by any number of followers.

An event's number never changes its meaning, whatever becomes of the gateway: it is given by the write that stores the
event. What has just been stored is handed to the followers of a job from memory; who is further behind reads the
database. Nobody waits for a slow follower.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import orjson
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from gateway_server.calls.outcomes import Outcome
from gateway_server.errors import PayloadTooLarge, ServiceUnavailable
from gateway_server.models import JobStatus
from gateway_server.store import schema
from gateway_server.store.database import Database

BUFFER = 1 << 20
"""Bytes of one job's events that may wait to be stored before the function has to wait."""
ROW = 64 << 10
"""Bytes that one row, and one step of a follower, are aimed at."""
ROWS = 8
"""Stored rows that a follower reads in one step at most."""
RECENT = 256 << 10
"""Bytes of one job's latest events that are kept in memory while somebody follows it."""
MOST = 64 << 20
"""Bytes of events that one job may have."""
KEEP_ALIVE = 15.0
AGAIN = 1.0
"""Seconds after which it is tried again where the database failed."""
_MARKS = tuple((mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\x85\u2028\u2029")
logger = logging.getLogger("gateway")


class _Envelope(msgspec.Struct):
    files: msgspec.Raw


_envelope = msgspec.json.Decoder(_Envelope)
_table, _jobs, _results = schema.job_events, schema.jobs, schema.job_results


class _Row(NamedTuple):
    """Events that follow each other."""

    first: int
    """The number of the first."""
    texts: list[bytes]
    """JSON, each on one line."""
    ends: bool
    """Whether the last one ends the job."""
    frames: bytes
    """All of them as a stream has them; made once, as most followers want just these."""

    @property
    def last(self) -> int:
        """The number of the last."""
        return self.first + len(self.texts) - 1

    def after(self, number: int) -> bytes:
        """Frames of those with higher numbers."""
        if number < self.first:
            return self.frames
        return _frames(number + 1, self.texts[number + 1 - self.first :])


class _Channel:
    """One job that runs here, or is followed here."""

    __slots__ = (
        "events_turn",
        "flushing",
        "followers",
        "is_written",
        "pending",
        "pending_bytes",
        "recent",
        "recent_bytes",
        "total",
        "turn",
        "waiting",
    )

    def __init__(self) -> None:
        self.followers = 0
        self.is_written = False
        self.pending: list[bytes] = []
        self.pending_bytes = 0
        self.total = 0
        self.flushing: asyncio.Task[None] | None = None
        self.recent: deque[_Row] = deque()
        self.recent_bytes = 0
        self.turn = 0  # counts news
        self.events_turn = 0  # the turn at which the latest events came
        self.waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Wakes whoever waits for news."""
        self.turn += 1
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()

    def keep(self, first: int, body: bytes, ends: bool) -> None:
        """Has events that were just stored at hand for followers."""
        if self.followers:
            self.recent.append(_row(first, body, ends))
            self.recent_bytes += len(body)
            while self.recent_bytes > RECENT and len(self.recent) > 1:
                self.recent_bytes -= sum(map(len, self.recent.popleft().texts))
        self.tell()
        self.events_turn = self.turn

    def is_at_end(self, number: int) -> bool:
        """Whether the event `number` was the last news, and more will come: there is nothing to be looked for.

        Nothing is kept of a job after its end was told: it would hide that.
        """
        last = self.recent[-1] if self.recent and self.events_turn == self.turn else None
        return last is not None and last.last == number and not last.ends


class Events:
    """Stores and hands out the events of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, _Channel] = {}
        self._closing = False

    @contextmanager
    def _channel(self, job_id: str) -> Iterator[_Channel]:
        channel = self._channels.setdefault(job_id, _Channel())
        channel.followers += 1
        try:
            yield channel
        finally:
            channel.followers -= 1
            if not channel.followers:
                channel.recent.clear()
                channel.recent_bytes = 0
            self._drop(job_id, channel)

    @contextmanager
    def written(self, job_id: str) -> Iterator[None]:
        """While a job may say something: what it has said is counted over all of that time."""
        channel = self._channels.setdefault(job_id, _Channel())
        channel.is_written = True
        try:
            yield
        finally:
            channel.is_written = False
            self._drop(job_id, channel)

    def _drop(self, job_id: str, channel: _Channel) -> None:
        """Forgets a channel that nobody needs any more."""
        if not channel.followers and not channel.is_written and channel.flushing is None and not channel.pending:
            self._channels.pop(job_id, None)

    async def append(self, job_id: str, text: bytes) -> None:
        """Takes an event, as JSON text; waits while too many of the job's are not stored yet.

        Raises:
            PayloadTooLarge: the job has said too much.
        """
        channel = self._channels.setdefault(job_id, _Channel())
        channel.total += len(text)
        if channel.total > MOST:
            raise PayloadTooLarge(f"The job's events have more than {MOST} bytes. Write large data to files.")
        channel.pending.append(one_line(text))
        channel.pending_bytes += len(text)
        if channel.flushing is None:
            channel.flushing = asyncio.create_task(self._flush(job_id, channel))
        while channel.pending_bytes > BUFFER and channel.flushing is not None:
            await asyncio.wait([channel.flushing], timeout=1)

    async def settle(self, job_id: str) -> None:
        """Waits until everything that a job said is stored."""
        channel = self._channels.get(job_id)
        while channel is not None and channel.flushing is not None:
            await asyncio.wait([channel.flushing])

    async def _flush(self, job_id: str, channel: _Channel) -> None:
        try:
            while channel.pending:
                texts, channel.pending, channel.pending_bytes = channel.pending, [], 0
                for body in _in_rows(texts):
                    channel.keep(await self._stored(job_id, body), body, ends=False)
        finally:
            channel.flushing = None
            self._drop(job_id, channel)

    async def _stored(self, job_id: str, body: bytes) -> int:
        """The number of the first of some events, once they are stored. Where the database takes nothing, as on a full
        disk, it is tried again: what was said must not be missing from a job that ends well."""
        while True:
            try:
                return await self._database.write(lambda c: store(c, job_id, body), durable=False)
            except OperationalError:
                if self._closing:
                    raise
                logger.exception("events of the job %s could not be stored; it is tried again", job_id)
                await asyncio.sleep(AGAIN)

    def told(self, job_id: str, first: int, body: bytes, *, ends: bool) -> None:
        """Events were stored in a transaction of somebody else's."""
        if channel := self._channels.get(job_id):
            channel.keep(first, body, ends)

    def ended(self, job_id: str) -> None:
        """The record of a job has been closed."""
        if channel := self._channels.get(job_id):
            channel.tell()

    def let_go(self) -> None:
        """Ends every follower: the gateway stops. They go on elsewhere, or here when it is back."""
        self._closing = True
        for channel in self._channels.values():
            channel.tell()

    async def recorded(self, job_id: str) -> list[bytes]:
        """Every event of a job that has ended, as JSON text."""

        def work(connection: Connection) -> list[bytes]:
            texts: list[bytes] = []
            ends = False
            while not ends:
                _, body, ends = _stored(connection, job_id, len(texts))
                texts += body.split(b"\n") if body else []
            return texts

        return await self._database.read(work)

    async def wait_for_end(self, job_id: str, seconds: float) -> bool:
        """Whether the job has ended before `seconds` are over.

        Raises:
            ServiceUnavailable: the gateway stops.
        """
        limit = asyncio.get_running_loop().time() + seconds
        with self._channel(job_id) as channel:
            while True:
                turn = channel.turn
                if await self._database.read(lambda c: _has_ended(c, job_id)):
                    return True
                if self._closing:
                    raise ServiceUnavailable("The gateway stops; ask again.", retry_after=2)
                left = limit - asyncio.get_running_loop().time()
                if left <= 0:
                    return False
                await self._news(channel, turn, left)

    async def follow(self, job_id: str, after: int) -> AsyncIterator[bytes]:
        """Frames of the events with numbers above `after`, as they come, to the one that ends the job. Nothing, every
        so often, where nothing comes."""
        with self._channel(job_id) as channel:
            is_sure = False  # whether everything that has become of the job since the last look was told here
            while not self._closing:
                turn = channel.turn
                row = _at_hand(channel, after)
                if row is None and not (is_sure and channel.is_at_end(after)):
                    row = await self._read(job_id, after)
                if row is not None and row.texts:
                    yield row.after(after)
                    after = row.last
                if row is not None and row.ends:
                    return
                if row is None or not row.texts:
                    is_sure = await self._news(channel, turn, KEEP_ALIVE)
                    if not is_sure:
                        yield b""

    async def _read(self, job_id: str, after: int) -> _Row:
        """The row that holds the event after `after`; one without events where there is none yet."""
        return await self._database.read(lambda c: _row(*_stored(c, job_id, after)))

    async def _news(self, channel: _Channel, turn: int, seconds: float) -> bool:
        """Waits for news since `turn`; False if none came."""
        if channel.turn != turn:
            return True
        future = asyncio.get_running_loop().create_future()
        channel.waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
            return True
        except TimeoutError:
            return False
        finally:
            channel.waiting.discard(future)


def store(connection: Connection, job_id: str, body: bytes, *, ends: bool = False) -> int:
    """Stores events, JSON texts one a line, within a transaction; gives the number of the first."""
    last = connection.execute(select(func.max(_table.c.last_id)).where(_table.c.job_id == job_id)).scalar() or 0
    count = body.count(b"\n") + 1
    connection.execute(
        _table.insert().values(
            job_id=job_id, first_id=last + 1, last_id=last + count, body=body, ends=ends, created_at=time.time()
        )
    )
    return last + 1


def _frames(first: int, texts: Iterable[bytes]) -> bytes:
    """Events as the stream of a job has them."""
    return b"".join(b"id: %d\ndata: %b\n\n" % (number, text) for number, text in enumerate(texts, first))


def _row(first: int, body: bytes, ends: bool) -> _Row:
    texts = body.split(b"\n") if body else []
    return _Row(first, texts, ends, _frames(first, texts))


def started(job_id: str, attempt: int) -> bytes:
    """An attempt has begun."""
    return orjson.dumps({"type": "start", "data": {"job_id": job_id, "attempt": attempt}})


def retried(told: Mapping[str, Any], attempt: int, retry_at: str) -> bytes:
    """An attempt has failed, and there will be another."""
    data = told.get("message", "The attempt failed.")
    event = {"type": "retry", "data": data, "attempt": attempt, "retry_at": retry_at, "error": told}
    return one_line(orjson.dumps(event, default=str))


def ended(outcome: Outcome) -> bytes:
    """The event that ends a job."""
    if outcome.result is not None:
        return done(outcome.envelope, orjson.dumps(outcome.files))
    return error(outcome.told_error(), outcome.job_id, outcome.files)


def advanced(latest: Outcome, ended: int, total: int) -> bytes:
    """One more call of a batch has ended."""
    data = {"job_id": latest.job_id, "status": latest.status, "ended": ended, "total": total}
    return orjson.dumps({"type": "progress", "data": data})


def summed_up(ended: Mapping[JobStatus, int]) -> bytes:
    """All calls of a batch have ended, so many in each way."""
    return orjson.dumps({"type": "done", "data": {status.value: count for status, count in ended.items()}})


def done(envelope: bytes, files: bytes) -> bytes:
    """The end of a job that worked."""
    return one_line(b'{"type":"done","data":' + envelope + b',"files":' + files + b"}")


def error(told: Mapping[str, Any], job_id: str, files: Mapping[str, Sequence[str]]) -> bytes:
    """The end of what failed: text for people in `data`, the rest beside it."""
    told = dict(told)
    message, code = told.pop("message", "The call failed."), told.pop("error_code", "PREFAB_ERROR")
    event = {"type": "error", "data": message, "error_code": code, "job_id": job_id, "files": files, "error": told}
    return one_line(orjson.dumps(event, default=str))


def one_line(text: bytes) -> bytes:
    """JSON text without line breaks, which stand only between its parts. What some readers take for line breaks,
    too, such as the `iter_lines` of httpx, is escaped: it stands only within its texts."""
    if not text.isascii():
        for mark, escaped in _MARKS:
            text = text.replace(mark, escaped)
    return text.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in text or b"\r" in text else text


def _in_rows(texts: Sequence[bytes]) -> Iterator[bytes]:
    """The texts, one a line, in rows of a handy size."""
    row: list[bytes] = []
    size = 0
    for text in texts:
        row.append(text)
        size += len(text)
        if size >= ROW:
            yield b"\n".join(row)
            row, size = [], 0
    if row:
        yield b"\n".join(row)


def _at_hand(channel: _Channel, after: int) -> _Row | None:
    """The row that holds the event after `after`, if it is still in memory."""
    if not channel.recent or channel.recent[0].first > after + 1:
        return None
    for row in reversed(channel.recent):  # most followers want the last
        if row.first <= after + 1:
            return row if row.first + len(row.texts) > after + 1 else None
    return None


def _stored(connection: Connection, job_id: str, after: int) -> tuple[int, bytes, bool]:
    """The same from the database; of a job that ended without a stored end, that end."""
    if rows := _rows_after(connection, job_id, after):
        return rows[0].first_id, b"\n".join(row.body for row in rows), rows[-1].ends
    if not _has_ended(connection, job_id):
        return after + 1, b"", False
    newest = select(_table.c.last_id, _table.c.ends).where(_table.c.job_id == job_id).order_by(_table.c.last_id.desc())
    last = connection.execute(newest.limit(1)).first()
    is_told = (last is not None and last.ends) or after > (last.last_id if last else 0)
    return after + 1, b"" if is_told else _recorded_end(connection, job_id), True


def _rows_after(connection: Connection, job_id: str, after: int) -> list[Any]:
    """The stored row that holds the event after `after`, and the next ones until there is enough for one step."""
    columns = _table.c.first_id, _table.c.body, _table.c.ends
    wanted = select(*columns).where(_table.c.job_id == job_id, _table.c.last_id > after).order_by(_table.c.last_id)
    first = connection.execute(wanted.limit(1)).first()
    if first is None or first.ends or len(first.body) >= ROW:  # as a driver may fetch all that it is asked for
        return [] if first is None else [first]
    rows, size = [], 0
    for row in (first, *connection.execute(wanted.limit(ROWS).offset(1))):
        rows.append(row)
        size += len(row.body)
        if row.ends or size >= ROW:
            break
    return rows


def _has_ended(connection: Connection, job_id: str) -> bool:
    row = connection.execute(select(_jobs.c.ended_at).where(_jobs.c.id == job_id)).first()
    return row is None or row.ended_at is not None


def _recorded_end(connection: Connection, job_id: str) -> bytes:
    wanted = select(_jobs.c.prefab_id, _jobs.c.error, _results.c.body)
    wanted = wanted.outerjoin(_results, _results.c.job_id == _jobs.c.id).where(_jobs.c.id == job_id)
    row = connection.execute(wanted).first()
    if row is None:
        return b""
    files = bytes(_envelope.decode(row.body).files) if row.body else b"{}"
    if row.error is not None:
        return error(orjson.loads(row.error), job_id, orjson.loads(files))
    if row.prefab_id is None:  # a batch
        counts = select(_jobs.c.status, func.count()).where(_jobs.c.parent_id == job_id).group_by(_jobs.c.status)
        return summed_up({JobStatus(status): count for status, count in connection.execute(counts)})
    return done(row.body or b"null", files)
