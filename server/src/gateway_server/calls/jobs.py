"""The record of every call: who ran what, when, how it ended, what it answered and what it printed."""

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, bindparam, delete, func, select

from gateway_server.calls import usage
from gateway_server.calls.requests import OTHER_REQUEST, AlreadyKnown, RequestKey
from gateway_server.errors import Canceled, DeadlineExceeded, GatewayFault, IdempotencyConflict, JobNotFound
from gateway_server.identity import access, audit
from gateway_server.models import Call, JobStatus, Principal
from gateway_server.store import schema
from gateway_server.store.database import Database, inserting

KEPT_RESULT = 8 << 20
"""Longest result in bytes that is kept with the record of a plain call."""
LONGEST_NAME = 255
"""What a refused call names may be of any length; the record of it is not."""
SWEPT_AT_ONCE = 500
"""Records that go in one transaction."""
_BEFORE_IT_BEGAN: dict[type[GatewayFault], JobStatus] = {
    Canceled: JobStatus.CANCELED,
    DeadlineExceeded: JobStatus.EXPIRED,
}
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_jobs, _results, _logs = schema.jobs, schema.job_results, schema.job_logs
_WITH_KEY = select(_jobs.c.id).where(_jobs.c.request_key == bindparam("key"))
_with_result = select(_jobs, _results.c.body).outerjoin(_results, _results.c.job_id == _jobs.c.id)


def new_id() -> str:
    """A UUID of version 7: ids that are made one after the other sort that way."""
    moment, noise = f"{time.time_ns() // 1_000_000:012x}", _noise()
    variant = "89ab"[int(noise[3], 16) & 3]
    return f"{moment[:8]}-{moment[8:]}-7{noise[:3]}-{variant}{noise[4:7]}-{noise[7:19]}"


def is_id(text: str) -> bool:
    """Whether the id of a job could be this."""
    return _ID.fullmatch(text) is not None


_noises: list[str] = []


def _noise(size: int = 10) -> str:
    """Random bytes, as hexadecimal; the kernel is asked for many at once, as it takes longer than the rest of an id."""
    try:
        return _noises.pop()  # in one step, as the database's thread makes ids, too
    except IndexError:
        many = os.urandom(size * 200).hex()
        _noises.extend([many[at : at + 2 * size] for at in range(2 * size, len(many), 2 * size)])
        return many[: 2 * size]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as its owner sees it; moments in POSIX seconds."""

    id: str
    parent_id: str | None
    root_id: str
    user: str
    agent: str | None
    prefab_id: str | None
    version: str | None
    function_name: str | None
    status: JobStatus
    attempt: int
    """How many attempts have begun; a job that waits for its first has none."""
    interruptions: int
    """How many of them the end of a gateway cut."""
    created_at: float
    started_at: float | None
    ended_at: float | None
    error: dict[str, Any] | None
    is_fault: bool
    """Whether the gateway failed it, and not its function."""
    charged: bool
    """Whether it counts among the calls of its user."""
    result: bytes | None = None
    """The envelope, as JSON text. A job that failed has one if its function left files."""

    @property
    def is_batch(self) -> bool:
        """Whether it stands for the calls below it. A call of one that could not be read names no prefab, either."""
        return self.prefab_id is None and self.parent_id is None


class Ending(NamedTuple):
    """How a job ended."""

    status: JobStatus
    error: dict[str, Any] | None = None
    is_fault: bool = False
    result: bytes | None = None
    log: bytes = b""
    is_kept_whole: bool = False
    """Whether a result of any length is kept: nobody may have waited for it."""
    forget_key: bool = False
    """Whether the same request, sent again, is to be run anew."""


class Jobs:
    """Writes and reads records. What must happen together is offered as work on a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(
        self,
        connection: Connection,
        *,
        job_id: str,
        principal: Principal,
        call: Call | None,
        parent_id: str | None = None,
        position: int | None = None,
        key: RequestKey | None = None,
        status: JobStatus = JobStatus.RUNNING,
        started: bool = True,
        charged_at: float | None = None,
    ) -> None:
        """Records, within a transaction, that a job is there; `call` is None for a batch, `started` False where it has
        not begun, `charged_at` the moment of its grant.

        Raises:
            AlreadyKnown: the same request has been taken before.
            IdempotencyConflict: the key came with another request.
        """
        moment = time.time() if charged_at is None else charged_at
        values = {
            "id": job_id,
            "parent_id": parent_id,
            "position": position,
            "root_id": principal.root_job_id or parent_id or job_id,
            "depth": principal.depth,
            "user": principal.user,
            "agent": principal.agent,
            "key_id": principal.key_id,
            "prefab_id": call.prefab_id[:LONGEST_NAME] if call else None,
            "version": call.version[:LONGEST_NAME] if call else None,
            "function_name": call.function_name[:LONGEST_NAME] if call else None,
            "status": status,
            "attempt": 0 if status is JobStatus.QUEUED else 1,
            "interruptions": 0,
            "request_key": key.key if key else None,
            "request_digest": key.digest if key else None,
            "created_at": moment,
            "started_at": moment if started else None,
            "charged": charged_at is not None,
        }
        if key is None:
            connection.execute(_jobs.insert(), values)
            return
        insert = inserting(connection)(_jobs).on_conflict_do_nothing(index_elements=["request_key"])
        while not connection.execute(insert.values(values)).rowcount:
            _meet(connection, key)

    def refuse(
        self,
        connection: Connection,
        principal: Principal,
        call: Call | None,
        fault: GatewayFault,
        *,
        parent_id: str,
        position: int,
        job_id: str | None = None,
    ) -> JobStatus:
        """Records, within a transaction, a call of a batch that was refused, or ended before it began, and gives how;
        `call` is None where it could not be read."""
        job_id = job_id or new_id()
        place = {"parent_id": parent_id, "position": position}
        self.open(connection, job_id=job_id, principal=principal, call=call, started=False, **place)  # type: ignore[arg-type]
        status = _BEFORE_IT_BEGAN.get(type(fault), JobStatus.FAILED)
        self.close(connection, job_id, Ending(status=status, error=fault.detail(), is_fault=True))
        return status

    def close(self, connection: Connection, job_id: str, ending: Ending) -> bool:
        """Records, within a transaction, how a job ended. The first ending counts; says whether this was it."""
        moment = time.time()
        error = orjson.dumps(ending.error).decode() if ending.error is not None else None
        change = (
            _jobs.update()
            .where(_jobs.c.id == job_id, _jobs.c.ended_at.is_(None))
            .values(status=ending.status, ended_at=moment, error=error, is_fault=ending.is_fault)
        )
        if ending.forget_key:
            change = change.values(request_key=None)
        if not connection.execute(change).rowcount:
            return False
        if ending.result is not None and (ending.is_kept_whole or len(ending.result) <= KEPT_RESULT):
            connection.execute(_results.insert().values(job_id=job_id, body=ending.result, ended_at=moment))
        self.keep_log(connection, job_id, ending.log)
        return True

    def keep_log(self, connection: Connection, job_id: str, log: bytes) -> None:
        """Adds, within a transaction, what an attempt printed to what those before it did."""
        if not log:
            return
        before = connection.execute(select(_logs.c.body).where(_logs.c.job_id == job_id)).scalar()
        if before is not None:
            log = before + log
            connection.execute(delete(_logs).where(_logs.c.job_id == job_id))
        connection.execute(_logs.insert().values(job_id=job_id, body=log, ended_at=time.time()))

    def begin_attempt(self, connection: Connection, job_id: str) -> int | None:
        """Notes, within a transaction, that a submitted job is tried once more; gives the number of the attempt, or
        None if the job has ended."""
        change = (
            _jobs.update()
            .where(_jobs.c.id == job_id, _jobs.c.ended_at.is_(None))
            .values(
                status=JobStatus.STARTING,
                attempt=_jobs.c.attempt + 1,
                started_at=func.coalesce(_jobs.c.started_at, time.time()),
            )
            .returning(_jobs.c.attempt)
        )
        return connection.execute(change).scalar()

    def take_attempt_back(self, connection: Connection, job_id: str) -> None:
        """Notes, within a transaction, that nothing was tried after all; a job of which nothing ever was has not
        started."""
        change = _jobs.update().where(_jobs.c.id == job_id)
        connection.execute(change.values(attempt=_jobs.c.attempt - 1))
        connection.execute(change.where(_jobs.c.attempt == 0).values(started_at=None))

    def begin_batch(self, connection: Connection, batch_id: str) -> None:
        """Notes, within a transaction, that the first call of a submitted batch is tried."""
        change = _jobs.update().where(_jobs.c.id == batch_id, _jobs.c.status == JobStatus.QUEUED)
        connection.execute(change.values(status=JobStatus.RUNNING, attempt=1, started_at=time.time()))

    def set_status(self, connection: Connection, job_id: str, status: JobStatus, *, interrupted: bool = False) -> None:
        """Notes, within a transaction, where a job stands that has not ended."""
        change = _jobs.update().where(_jobs.c.id == job_id, _jobs.c.ended_at.is_(None)).values(status=status)
        if interrupted:
            change = change.values(interruptions=_jobs.c.interruptions + 1)
        connection.execute(change)

    async def find(self, job_id: str, principal: Principal) -> Job:
        """A job with its result, if the caller may see it.

        Raises:
            JobNotFound: there is none, or it is somebody else's.
        """
        row = await self._database.read(lambda c: c.execute(_with_result.where(_jobs.c.id == job_id)).first())
        if row is None or not access.may_see_job(principal, row.user, row.key_id):
            raise JobNotFound(f"There is no job {job_id[:60]}.")
        return _from_row(row, row.body)

    async def children(self, job_id: str) -> list[Job]:
        """The calls of a batch, in their order."""
        wanted = select(_jobs).where(_jobs.c.parent_id == job_id).order_by(_jobs.c.position, _jobs.c.id)
        return [_from_row(row) for row in await self._database.read(lambda c: c.execute(wanted).all())]

    async def children_with_results(self, job_id: str) -> list[Job]:
        """The same with what they answered."""
        wanted = _with_result.where(_jobs.c.parent_id == job_id).order_by(_jobs.c.position, _jobs.c.id)
        rows = await self._database.read(lambda c: c.execute(wanted).all())
        return [_from_row(row, row.body) for row in rows]

    async def adopt(self, job_id: str, parent_id: str) -> Job:
        """Moves a call that has been run to the batch that asks for it again; gives it with its result."""
        change = _jobs.update().where(_jobs.c.id == job_id).values(parent_id=parent_id)

        def work(connection: Connection) -> Any:
            connection.execute(change)
            return connection.execute(_with_result.where(_jobs.c.id == job_id)).one()

        row = await self._database.write(work, durable=False)
        return _from_row(row, row.body)

    async def find_by_place(self, place: bytes) -> Job | None:
        """The job that a request with such a key began, whatever the request was."""
        wanted = select(_jobs).where(_jobs.c.request_key == place)
        row = await self._database.read(lambda c: c.execute(wanted).first())
        return None if row is None else _from_row(row)

    async def knows(self, key: RequestKey) -> bool:
        """Whether any record in the database bears the key, even one that it does not stand for any more."""
        if self._database.looks_up:
            return self._database.look_up("SELECT 1 FROM jobs WHERE request_key = ?", key.key) is not None
        wanted = _WITH_KEY, {"key": key.key}
        return await self._database.read(lambda c: c.execute(*wanted).first() is not None, settled=False)

    async def find_by_key(self, key: RequestKey) -> Job | None:
        """The job that a request began which is sent again, with its result.

        Raises:
            IdempotencyConflict: the key came with another request.
        """

        def work(connection: Connection) -> Any:
            try:
                _meet(connection, key, forget=False)
            except AlreadyKnown as known:
                return connection.execute(_with_result.where(_jobs.c.id == known.job_id)).one()
            return None

        row = await self._database.read(work)
        return None if row is None else _from_row(row, row.body)

    async def log(self, job_id: str) -> bytes:
        """What the functions of a job printed: its own output, or that of a batch's calls one after the other."""
        own = select(_logs.c.body).where(_logs.c.job_id == job_id)
        below = select(_jobs.c.id, _logs.c.body).join(_logs, _logs.c.job_id == _jobs.c.id)

        def work(connection: Connection) -> bytes:
            parts = list(connection.execute(own).scalars())
            rows = connection.execute(below.where(_jobs.c.parent_id == job_id).order_by(_jobs.c.id)).all()
            parts += [f"--- {row.id}\n".encode() + row.body for row in rows]
            return b"".join(parts)

        return await self._database.read(work)

    async def list(
        self,
        user: str | None,
        *,
        key_id: str | None = None,
        status: JobStatus | None = None,
        prefab_id: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Jobs, newest first; of all users where `user` is None, and of all keys where `key_id` is. `before` is the
        id of the last one already seen."""
        wanted = select(_jobs).where(_jobs.c.parent_id.is_(None)).order_by(_jobs.c.id.desc()).limit(limit)
        conditions = (
            (_jobs.c.user, user),
            (_jobs.c.key_id, key_id),
            (_jobs.c.status, status),
            (_jobs.c.prefab_id, prefab_id),
        )
        for column, value in conditions:
            if value is not None:
                wanted = wanted.where(column == value)
        if before is not None:
            wanted = wanted.where(_jobs.c.id < before)
        return [_from_row(row) for row in await self._database.read(lambda c: c.execute(wanted).all())]

    async def record_cancel(self, job: Job, by: Principal) -> None:
        """Writes into the audit log that somebody ended another user's job."""
        await self._database.write(lambda c: audit.record(c, by, "job.cancel", job.id, user=job.user))

    async def end_orphans(self, release: Callable[[Connection, Iterable[str]], None]) -> int:
        """Closes the records of calls that a former life of this gateway never ended; says how many. Jobs that were
        submitted go on, and with them their batches. `release` takes back what the others were charged."""
        moment = time.time()
        error = orjson.dumps({"error_code": "RUNTIME_CRASHED", "message": "The gateway was restarted."}).decode()
        queued = select(schema.job_queue.c.job_id)
        batches = select(_jobs.c.parent_id).where(_jobs.c.id.in_(queued), _jobs.c.parent_id.is_not(None))
        cut = _jobs.c.ended_at.is_(None), _jobs.c.id.not_in(queued), _jobs.c.id.not_in(batches)
        values = {"status": JobStatus.FAILED, "ended_at": moment, "error": error}

        def work(connection: Connection) -> int:
            release(connection, connection.execute(select(_jobs.c.id).where(*cut)).scalars().all())
            change = _jobs.update().where(*cut).values(**values, is_fault=True, request_key=None)
            return connection.execute(change).rowcount

        return await self._database.write(work)

    async def sweep(self, *, records_before: float, results_before: float, logs_before: float) -> None:
        """Forgets what is older than it has to be kept; moments in POSIX seconds."""
        for kept_until, before in (
            (_results.c.ended_at, results_before),
            (_logs.c.ended_at, logs_before),
            (schema.job_events.c.created_at, results_before),
        ):
            gone = delete(kept_until.table).where(kept_until < before)
            if kept_until.table is schema.job_events:  # a job that goes on is told from its beginning
                open_jobs = select(_jobs.c.id).where(_jobs.c.ended_at.is_(None))
                gone = gone.where(schema.job_events.c.job_id.not_in(open_jobs))
            await self._database.write(lambda c, gone=gone: c.execute(gone), durable=False)  # type: ignore[misc]
        old = select(_jobs).where(_jobs.c.created_at < records_before, _jobs.c.ended_at.is_not(None))

        def work(connection: Connection) -> int:
            rows = connection.execute(old.order_by(_jobs.c.created_at).limit(SWEPT_AT_ONCE)).all()
            usage.remember(connection, rows)
            connection.execute(delete(_jobs).where(_jobs.c.id.in_([row.id for row in rows])))
            return len(rows)

        while await self._database.write(work, durable=False) == SWEPT_AT_ONCE:
            pass  # other writes come between


def _meet(connection: Connection, key: RequestKey, *, forget: bool = True) -> None:
    """Tells what a key stands for; one whose time is over is forgotten, unless `forget` is False.

    Raises:
        AlreadyKnown: a job.
        IdempotencyConflict: a job that another request began.
    """
    wanted = select(_jobs.c.id, _jobs.c.request_digest, _jobs.c.ended_at).where(_jobs.c.request_key == key.key)
    known = connection.execute(wanted).first()
    if known is None:
        return
    if known.ended_at is not None and time.time() - known.ended_at > key.kept:
        if forget:
            connection.execute(_jobs.update().where(_jobs.c.id == known.id).values(request_key=None))
        return
    if known.request_digest != key.digest:
        raise IdempotencyConflict(OTHER_REQUEST)
    raise AlreadyKnown(known.id)


def _from_row(row: Any, result: bytes | None = None) -> Job:
    return Job(
        id=row.id,
        parent_id=row.parent_id,
        root_id=row.root_id,
        user=row.user,
        agent=row.agent,
        prefab_id=row.prefab_id,
        version=row.version,
        function_name=row.function_name,
        status=JobStatus(row.status),
        attempt=row.attempt,
        interruptions=row.interruptions,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=orjson.loads(row.error) if row.error else None,
        is_fault=bool(row.is_fault),
        charged=row.charged,
        result=result,
    )
