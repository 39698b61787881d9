"""Submitted jobs that have not ended: who is next, and which gateway is at which of them.

A gateway holds what it works on by a lease that it renews. When it dies the lease runs out, and the job is another's:
so every job is tried at least once, and its record is written by whoever holds the lease, once. Within a user's jobs
the priority decides, then the age; between users it is the dispatcher that is fair.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, or_, select, update

from gateway_server.calls.jobs import Jobs
from gateway_server.errors import Overloaded
from gateway_server.models import Call, JobStatus, Principal, Scope
from gateway_server.prefabs.retries import Retry
from gateway_server.store import schema
from gateway_server.store.database import Database

LEASE = 30.0
"""Seconds that a lease lasts without being renewed."""
AT_ONCE = 0.0
"""When a job may begin that does not rest: whatever becomes of the clock."""
MOST_WAITING = 10_000
"""Jobs of one user that may be in the queue."""
_table = schema.job_queue


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was submitted: everything that an attempt needs to know."""

    principal: Principal
    call: Call
    retry: Retry
    parent_id: str | None = None

    def dump(self) -> bytes:
        """As it is stored."""
        principal, call = self.principal, self.call
        who = {
            "user": principal.user,
            "agent": principal.agent,
            "scopes": sorted(principal.scopes),
            "prefabs": None if principal.prefabs is None else sorted(principal.prefabs),
            "key_id": principal.key_id,
            "depth": principal.depth,
            "tree_id": principal.tree_id,
            "issued_at": principal.issued_at,
            "made_by": principal.made_by,
        }
        what = {
            "prefab_id": call.prefab_id,
            "version": call.version,
            "function_name": call.function_name,
            "parameters": call.parameters,
            "files": call.files,
        }
        told = {"principal": who, "call": what, "retry": self.retry.plain(), "parent_id": self.parent_id}
        return orjson.dumps(told)

    @classmethod
    def load(cls, text: bytes) -> "Order":
        """What `dump` gave."""
        told = orjson.loads(text)
        who: dict[str, Any] = told["principal"]
        call: dict[str, Any] = told["call"]
        prefabs = who.pop("prefabs")
        principal = Principal(
            **{**who, "scopes": frozenset(map(Scope, who["scopes"]))},
            prefabs=None if prefabs is None else frozenset(prefabs),
        )
        files = {key: tuple(urls) for key, urls in call.pop("files").items()}
        return cls(
            principal=principal,
            call=Call(**call, files=files),
            retry=Retry(**told["retry"]),
            parent_id=told["parent_id"],
        )


@dataclass(frozen=True, kw_only=True)
class Leased:
    """A job that this gateway is at."""

    job_id: str
    attempt: int
    interruptions: int
    """How many attempts before this one the end of a gateway cut."""
    deadline: float | None
    """POSIX seconds."""
    order: Order


class Queue:
    """Reads and writes the queue. What must happen together is offered as work on a connection."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self._database = database
        self._jobs = jobs
        self.owner = secrets.token_hex(8)
        """This life of this gateway."""

    def add(self, connection: Connection, job_id: str, order: Order, *, priority: int, deadline: float | None) -> None:
        """Takes a job in, within the transaction that records it.

        Raises:
            Overloaded: too many jobs of this user wait already.
        """
        crowd = select(_table.c.job_id).where(_table.c.user == order.principal.user).limit(1).offset(MOST_WAITING - 1)
        if connection.execute(crowd).first() is not None:
            text = f"{MOST_WAITING} jobs of yours are waiting or running, and no more are taken. Submit again later."
            raise Overloaded(text, retry_after=30)
        connection.execute(
            _table.insert().values(
                job_id=job_id,
                user=order.principal.user,
                priority=priority,
                available_at=AT_ONCE,
                deadline=deadline,
                canceled=False,
                order=order.dump(),
            )
        )

    async def users(self) -> set[str]:
        """Everybody whose jobs wait."""
        wanted = select(_table.c.user).where(_table.c.lease_owner.is_(None)).distinct()
        return set(await self._database.read(lambda c: c.execute(wanted).scalars().all()))

    async def next_moment(self, after: float) -> float | None:
        """When the next job may begin that still rests at the moment `after`, in POSIX seconds."""
        resting = (_table.c.lease_owner.is_(None), _table.c.available_at > after)
        wanted = select(func.min(_table.c.available_at)).where(*resting)
        return await self._database.read(lambda c: c.execute(wanted).scalar())

    async def take(self, user: str) -> Leased | None:
        """Leases the next job of a user, if one may begin."""
        moment = time.time()
        wanted = (
            select(_table)
            .where(_table.c.user == user, _table.c.lease_owner.is_(None), _table.c.available_at <= moment)
            .where(_table.c.canceled.is_(False))
            .order_by(_table.c.priority.desc(), _table.c.job_id)
            .limit(1)
        )

        def work(connection: Connection) -> Leased | None:
            row = connection.execute(wanted.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            attempt = self._jobs.begin_attempt(connection, row.job_id)
            if attempt is None:  # its record is gone, or has been closed
                connection.execute(delete(_table).where(_table.c.job_id == row.job_id))
                return None
            lease = {"lease_owner": self.owner, "lease_until": moment + LEASE}
            connection.execute(update(_table).where(_table.c.job_id == row.job_id).values(lease))
            interruptions = connection.execute(
                select(schema.jobs.c.interruptions).where(schema.jobs.c.id == row.job_id)
            ).scalar_one()
            order = Order.load(row.order)
            if order.parent_id is not None:
                self._jobs.begin_batch(connection, order.parent_id)
            return Leased(
                job_id=row.job_id,
                attempt=attempt,
                interruptions=interruptions,
                deadline=row.deadline,
                order=order,
            )

        return await self._database.write(work, durable=False)

    async def renew(self) -> dict[str, bool]:
        """Renews this gateway's leases; gives the jobs, and whether they are to be canceled."""
        ours = _table.c.lease_owner == self.owner
        change = update(_table).where(ours).values(lease_until=time.time() + LEASE)
        wanted = select(_table.c.job_id, _table.c.canceled).where(ours)

        def work(connection: Connection) -> dict[str, bool]:
            connection.execute(change)
            return {row.job_id: row.canceled for row in connection.execute(wanted)}

        return await self._database.write(work, durable=False)

    def drop(self, connection: Connection, job_id: str) -> bool:
        """Takes a job out, within the transaction that closes its record; False if it is not this gateway's any
        more."""
        gone = delete(_table).where(_table.c.job_id == job_id, _table.c.lease_owner == self.owner)
        return connection.execute(gone).rowcount > 0

    def drop_waiting(self, connection: Connection, job_id: str) -> bool:
        """Takes a job out that nobody is at."""
        gone = delete(_table).where(_table.c.job_id == job_id, _table.c.lease_owner.is_(None))
        return connection.execute(gone).rowcount > 0

    def put_back(self, connection: Connection, job_id: str, at: float, *, interrupted: bool = False) -> bool:
        """Gives the lease back, within a transaction; the next attempt begins at `at`, in POSIX seconds."""
        change = (
            update(_table)
            .where(_table.c.job_id == job_id, _table.c.lease_owner == self.owner)
            .values(lease_owner=None, lease_until=None, available_at=at)
        )
        if not connection.execute(change).rowcount:
            return False
        self._jobs.set_status(connection, job_id, JobStatus.QUEUED, interrupted=interrupted)
        return True

    async def take_over(self, *, alone: bool) -> int:
        """Frees the jobs of gateways that have died: of all others, where this one is alone; says how many."""
        lost = _table.c.lease_until < time.time()
        if alone:
            lost = or_(lost, _table.c.lease_owner != self.owner)
        wanted = select(_table.c.job_id).where(_table.c.lease_owner.is_not(None), lost)

        def work(connection: Connection) -> int:
            found = list(connection.execute(wanted).scalars())
            for job_id in found:
                change = update(_table).where(_table.c.job_id == job_id)
                connection.execute(change.values(lease_owner=None, lease_until=None, available_at=AT_ONCE))
                self._jobs.set_status(connection, job_id, JobStatus.QUEUED, interrupted=True)
            return len(found)

        return await self._database.write(work)

    async def canceled(self) -> list[str]:
        """Waiting jobs that are to be ended."""
        wanted = select(_table.c.job_id).where(_table.c.lease_owner.is_(None), _table.c.canceled)
        return list(await self._database.read(lambda c: c.execute(wanted).scalars().all()))

    async def overdue(self) -> list[str]:
        """Waiting jobs whose time is over."""
        wanted = select(_table.c.job_id).where(_table.c.lease_owner.is_(None), _table.c.deadline <= time.time())
        return list(await self._database.read(lambda c: c.execute(wanted).scalars().all()))

    async def mark_canceled(self, job_id: str) -> bool:
        """Asks whichever gateway is at a job to end it."""
        change = update(_table).where(_table.c.job_id == job_id).values(canceled=True)
        return await self._database.write(lambda c: c.execute(change).rowcount > 0)


def below(connection: Connection, batch_id: str) -> list[str]:
    """The calls of a batch that have not ended, within a transaction."""
    jobs = schema.jobs
    wanted = select(_table.c.job_id).join(jobs, jobs.c.id == _table.c.job_id).where(jobs.c.parent_id == batch_id)
    return list(connection.execute(wanted.order_by(jobs.c.position)).scalars())
