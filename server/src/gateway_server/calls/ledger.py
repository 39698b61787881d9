"""The records of plain calls, on their way to the database.

That a call began, and how it ended, is written into a journal at once, which survives the process, and taken over into
the database a moment later, with all that others have written meanwhile: a transaction for each call would cost more
than the call. Whoever reads or writes the database through `Database` finds everything that the journal holds, as it is
taken over first. What is charged for a call counts with its record, in one transaction.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import orjson
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from gateway_server.calls.events import store
from gateway_server.calls.jobs import Ending
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.requests import RequestKey
from gateway_server.store import schema
from gateway_server.store.database import Database, Item, inserting
from gateway_server.store.journal import LONGEST, Journal, Position

EVERY = 0.05
"""Seconds after which records are taken over."""
MANY = 2048
"""Records at which they are taken over without waiting."""
AGAIN = 1.0
"""Seconds after which it is tried again where the database failed."""
ROWS = 128
"""Rows that one statement inserts: the database works through them without the interpreter."""
LONGEST_BODY = LONGEST - (8 << 10)
"""Bytes of a result, a log or events, together, that go through the journal."""
_jobs, _position = schema.jobs, schema.journal
logger = logging.getLogger("gateway")


class Opening(NamedTuple):
    """A call has begun."""

    id: str
    parent_id: str | None
    position: int | None
    root_id: str
    depth: int
    user: str
    agent: str | None
    key_id: str | None
    prefab_id: str
    version: str
    function_name: str
    request_key: bytes | None
    request_digest: bytes | None
    created_at: float


class Closing(NamedTuple):
    """A call has ended."""

    id: str
    status: str
    ended_at: float
    error: str | None
    is_fault: bool
    charged: bool
    """False where the charge is taken back."""
    forget_key: bool
    result: bytes | None
    log: bytes
    events: bytes


_COLUMNS = (
    *Opening._fields,
    *("status", "attempt", "interruptions", "started_at", "ended_at", "error", "is_fault", "charged"),
)
_USER, _KEY_ID, _CREATED_AT, _CHARGED = map(_COLUMNS.index, ("user", "key_id", "created_at", "charged"))
_decoder = msgspec.msgpack.Decoder(tuple[Opening | None, Closing | None])
_encode = msgspec.msgpack.Encoder().encode


class Ledger:
    """Lives on the event loop. Open it after the database and before the first call."""

    def __init__(self, database: Database, quotas: Quotas, open_journal: Callable[[], Journal]) -> None:
        self._database = database
        self._quotas = quotas
        self._open_journal = open_journal
        self._journal: Journal | None = None
        self._opened: dict[str, Opening] = {}
        """Calls whose beginning is not in the database."""
        self._closed: dict[str, Closing] = {}
        self._live: dict[str, tuple[Opening, bool]] = {}
        """Calls that were opened here and have not been closed, and whether the journal or the database knows of
        them."""
        self._keys: set[bytes] = set()
        """The keys of requests that the database does not show yet."""
        self._turns = 0
        self._taking: asyncio.Future[None] | None = None
        self._latest: Item | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Takes over what a former life of this gateway has left, and from now on takes records."""
        journal = self._open_journal()
        wanted = select(_position.c.epoch, _position.c.offset).where(_position.c.id == 1)
        row = await self._database.read(lambda c: c.execute(wanted).first())
        records = journal.recover(Position(*row) if row is not None else None)
        for record in records:
            try:
                opening, closing = _decoder.decode(record)
            except msgspec.MsgspecError:  # of another release
                logger.warning("a record of a call in the journal cannot be read, and is left out")
                continue
            if opening is not None:
                self._opened[opening.id] = opening
            if closing is not None:
                self._closed[closing.id] = closing
        for job_id in await self._database.read(lambda c: _known(c, list(self._opened))):
            del self._opened[job_id]  # it was committed, and nobody was left to be told
        self._journal = journal
        self._database.ahead = self.take_over
        await self.settle()
        journal.restart()

    def begin(self, opening: Opening, *, is_told: bool) -> bool:
        """Records that a call has begun. False where the journal takes nothing more at the moment. Where nobody is told
        of it before its end, it reaches the journal with that, or the database with the next that are taken over."""
        if self._journal is None or (is_told and not self._journal.append(_encode((opening, None)))):
            return False
        self._opened[opening.id] = opening
        self._live[opening.id] = (opening, is_told)
        if opening.request_key is not None:
            self._keys.add(opening.request_key)
        if self._timer is None:
            self._schedule()
        return True

    def end(self, job_id: str, ending: Ending, *, charged: bool, events: bytes) -> bool:
        """Records how a call ended; `events` are JSON texts, one a line, of a stream that may be asked for again. False
        where it did not begin here, or where that is too long for the journal."""
        if job_id not in self._live or self._journal is None:
            return False
        opening, is_known = self._live.pop(job_id)
        if opening.request_key is not None and ending.forget_key:
            self._keys.discard(opening.request_key)
        error = None if ending.error is None else orjson.dumps(ending.error, default=str).decode()
        size = len(ending.result or b"") + len(ending.log) + len(events) + len(error or "")
        closing = Closing(
            *(job_id, ending.status.value, time.time(), error, ending.is_fault, charged, ending.forget_key),
            *(ending.result, ending.log, events),
        )
        record = _encode((None if is_known else opening, closing))
        if size > LONGEST_BODY or not self._journal.append(record):
            return False
        self._closed[job_id] = closing
        if self._timer is None or len(self._closed) >= MANY:
            self._schedule()
        return True

    async def is_new(self, key: RequestKey, find: Callable[[Connection], bool]) -> bool:
        """Whether a key has come with no other request; `find` looks into the database. To be followed by `begin`
        without a wait."""
        while True:
            if key.key in self._keys:
                return False  # the database says what it stands for
            turn = self._turns
            if await self._database.read(find, settled=False):
                return False
            if turn == self._turns and key.key not in self._keys:  # else it may have come meanwhile
                return True

    def take_over(self) -> asyncio.Future[None] | None:
        """Has everything that was recorded so far written before whatever the database is asked for next; the future
        of that, or None where there is nothing to wait for."""
        if self._opened or self._closed:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._taking = self._start_taking()
        return self._taking

    async def settle(self) -> None:
        """Waits until the database has everything."""
        while (taking := self.take_over()) is not None:
            await asyncio.wait([taking])

    async def scrub(self) -> None:
        """Overwrites in the journal what the database has."""
        await self.settle()
        if self._journal is not None and not self._opened and not self._closed:
            self._journal.scrub()

    async def close(self) -> None:
        """Takes over what there is."""
        await self.settle()
        if self._timer is not None:
            self._timer.cancel()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _schedule(self) -> None:
        if len(self._closed) >= MANY and self._taking is None:
            self.take_over()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._taking is None:
            self.take_over()
        else:
            self._schedule()

    def _start_taking(self) -> asyncio.Future[None]:
        assert self._journal is not None
        opened, self._opened = self._opened, {}
        closed, self._closed = self._closed, {}
        position, before = self._journal.end, self._latest

        def work(connection: Connection) -> None:
            if before is not None and before.error is not None:  # else the position would say that it is there
                raise RuntimeError("what came before it could not be written") from before.error
            _take_over(connection, self._quotas, opened, closed)
            _note(connection, position)

        async def take() -> None:
            try:
                await item.future
            except Exception:  # whatever the database has: nothing is lost, and it is tried again
                logger.exception("the records of calls could not be written; they will be tried again")
                self._opened, self._closed = {**opened, **self._opened}, {**closed, **self._closed}
                if self._latest is item:
                    self._latest = None
                await asyncio.sleep(AGAIN)
            else:
                self._has_kept(opened)
            finally:
                self._has_taken(task, position)

        item = self._latest = self._database.begin(work, durable=False)
        task = asyncio.ensure_future(take())
        return task

    def _has_kept(self, opened: dict[str, Opening]) -> None:
        """The database shows these from now on."""
        for job_id, opening in opened.items():
            if opening.request_key is not None:
                self._keys.discard(opening.request_key)
            if job_id in self._live:
                self._live[job_id] = (opening, True)

    def _has_taken(self, task: "asyncio.Future[None]", position: Position) -> None:
        self._turns += 1
        if self._taking is task:
            self._taking = None
        if self._journal is None:
            return
        if not self._opened and not self._closed and self._taking is None and self._journal.end == position:
            self._journal.restart()
        elif self._opened or self._closed:
            self._schedule()


def _known(connection: Connection, job_ids: Sequence[str]) -> list[str]:
    """Those of which there is a record."""
    found: list[str] = []
    for at in range(0, len(job_ids), ROWS):
        found += connection.execute(select(_jobs.c.id).where(_jobs.c.id.in_(job_ids[at : at + ROWS]))).scalars()
    return found


def _take_over(connection: Connection, quotas: Quotas, opened: dict[str, Opening], closed: dict[str, Closing]) -> None:
    """Writes records, within a transaction."""
    gone = {  # first the ends, as one that began later may have the key that another gave back
        job_id for job_id, closing in closed.items() if job_id not in opened and not _end(connection, quotas, closing)
    }
    rows = [_row(opening, closed.get(job_id)) for job_id, opening in opened.items()]
    _insert_jobs(connection, rows)
    charged = (row for row in rows if row[_CHARGED])
    for (user, key_id, minute), count in Counter(
        (row[_USER], row[_KEY_ID], row[_CREATED_AT] // 60) for row in charged
    ).items():
        quotas.count(connection, user, key_id, minute * 60, count)
    kept = [closing for job_id, closing in closed.items() if job_id not in gone] if gone else closed.values()
    results = [(one.id, one.result, one.ended_at) for one in kept if one.result is not None]
    logs = [(one.id, one.log, one.ended_at) for one in kept if one.log]
    _insert(connection, "job_results", ("job_id", "body", "ended_at"), results)
    _insert(connection, "job_logs", ("job_id", "body", "ended_at"), logs)
    for one in kept:
        if one.events:
            store(connection, one.id, one.events, ends=True)


def _row(opening: Opening, closing: Closing | None) -> tuple[Any, ...]:
    created_at = opening.created_at
    if closing is None:
        return opening + ("running", 1, 0, created_at, None, None, None, True)  # noqa: RUF005  # the faster way
    _, status, ended_at, error, is_fault, charged, forget_key, *_ = closing
    if forget_key:
        opening = opening._replace(request_key=None)
    return opening + (status, 1, 0, created_at, ended_at, error, is_fault, charged)  # noqa: RUF005


def _insert_jobs(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    try:
        with connection.begin_nested():
            _insert(connection, "jobs", _COLUMNS, rows)
    except IntegrityError:  # a key was taken by a job that was submitted at the same moment: the record counts more
        key = _COLUMNS.index("request_key")
        taken = select(_jobs.c.request_key).where(_jobs.c.request_key.in_([row[key] for row in rows if row[key]]))
        known = set(connection.execute(taken).scalars())
        _insert(
            connection,
            "jobs",
            _COLUMNS,
            [(*row[:key], None, *row[key + 1 :]) if row[key] in known else row for row in rows],
        )


def _insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows, many with one statement; those that are there already stay as they are."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    names = ", ".join(f'"{name}"' for name in columns)
    row = f"({', '.join([mark] * len(columns))})"
    at = 0
    while at < len(rows):
        count = min(ROWS, 1 << (len(rows) - at).bit_length() - 1)  # few different statements, to be prepared once
        text = f'INSERT INTO "{table}" ({names}) VALUES {", ".join([row] * count)} ON CONFLICT DO NOTHING'  # noqa: S608
        if table == "jobs":
            text = text.replace("ON CONFLICT DO", "ON CONFLICT (id) DO")
        connection.exec_driver_sql(text, tuple(chain.from_iterable(rows[at : at + count])))
        at += count


def _end(connection: Connection, quotas: Quotas, closing: Closing) -> bool:
    """Closes the record of a call that began before; False if it is gone, or has been closed."""
    values: dict[str, Any] = {
        "status": closing.status,
        "ended_at": closing.ended_at,
        "error": closing.error,
        "is_fault": closing.is_fault,
    }
    if closing.forget_key:
        values["request_key"] = None
    change = _jobs.update().where(_jobs.c.id == closing.id, _jobs.c.ended_at.is_(None)).values(values)
    if not connection.execute(change).rowcount:
        return False
    quotas.settle(connection, closing.id, refund=not closing.charged)
    return True


def _note(connection: Connection, position: Position) -> None:
    insert = inserting(connection)(_position).values(id=1, epoch=position.epoch, offset=position.offset)
    change = {"epoch": insert.excluded.epoch, "offset": insert.excluded.offset}
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=change))
