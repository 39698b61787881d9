"""The end of a user: everything of theirs goes, from every store, and nothing comes back.

First the user becomes nobody, which stops everything that could still write. Then their calls end, their files and
records go, and the room that these took is overwritten. A gateway that dies in the middle does the rest when it starts.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Table, delete, func, select, update

from gateway_server.calls.ledger import Ledger
from gateway_server.calls.running import RunningCalls
from gateway_server.errors import ServiceUnavailable
from gateway_server.files.library import Library
from gateway_server.identity import audit
from gateway_server.identity.keys import Keys
from gateway_server.identity.users import Deleted, Users
from gateway_server.models import Principal
from gateway_server.store import schema
from gateway_server.store.database import Database

logger = logging.getLogger("gateway")
JOBS_AT_ONCE = 1000
LATE_UPLOADS = 2 * 3600.0
"""Seconds in which URLs that were signed before a deletion may still put objects past the gateway into a store."""
ADMIN = "admin"
"""The user of the key that a gateway makes at its first start."""
NOBODY = "deleted"
"""Stands in the place of a publisher whose name is gone."""


@dataclass(frozen=True, kw_only=True)
class Belongings:
    """What a user has."""

    keys: int
    secrets: int
    files: int
    bytes: int
    jobs: int
    agents: tuple[str, ...]
    prefabs: tuple[str, ...]
    last_call_at: float | None
    """POSIX seconds."""


class Erasure:
    """Counts what a user has, and takes it away."""

    def __init__(
        self,
        *,
        database: Database,
        users: Users,
        keys: Keys,
        library: Library,
        running: RunningCalls,
        ledger: Ledger,
    ) -> None:
        self._ledger = ledger
        self._database = database
        self._users = users
        self._keys = keys
        self._library = library
        self._running = running
        self._is_scrubbed = True
        self.end_requests: Callable[[str], Awaitable[None]] = _nothing
        """Ends what a user has asked for and is not a call yet, or not any more."""

    async def belongings(self, user: str) -> Belongings:
        """What a user has."""
        return await self._database.read(lambda connection: _count(connection, user))

    async def end_calls(self, user: str) -> None:
        """Ends every call of a user, from the waiting ones of a batch to those that run."""
        await self.end_requests(user)
        await self._running.end_all_of(user)

    async def erase(self, user: str, by: Principal) -> Belongings:
        """Deletes a user with everything that is theirs. Prefabs that they published pass to `by`, as others use them.
        A deletion that was cut goes on.

        Raises:
            UserNotFound: there is none of that name.
            PermissionDenied: it is the caller.
        """
        async with self._users.held(user):
            await self._users.delete(user, by)
            await self.end_calls(user)
            had = await self.belongings(user)
            await self._take(user, by)
        return had

    async def finish(self) -> None:
        """Completes what was cut or failed before, and removes what still arrived in a store past the gateway."""
        for user in await self._users.deleted():
            try:
                async with self._users.held(user):
                    deleted = (await self._users.deleted()).get(user)
                    if deleted is not None and self._is_due(deleted):
                        await self._take(user, None)
            except ServiceUnavailable as fault:
                logger.warning("what was %s's is not all removed yet: %s", user, fault.message)
        if not self._is_scrubbed:
            self._is_scrubbed = await self._database.scrub()

    def _is_due(self, deleted: Deleted) -> bool:
        if deleted.erased_at is None:
            return True
        last = deleted.deleted_at + LATE_UPLOADS
        return self._library.objects.direct and deleted.erased_at < last <= time.time()

    async def _take(self, user: str, heir: Principal | None) -> None:
        await self._database.write(lambda connection: _hand_over(connection, user, heir))
        await self._library.erase(user)
        while await self._database.write(lambda connection: _take_jobs(connection, user), durable=False):
            pass  # other writes come between
        await self._database.write(lambda connection: _take_records(connection, user))
        self._keys.reread()
        await self._users.erased(user)
        await self._ledger.settle()  # what the journal had is overwritten then
        self._is_scrubbed = await self._database.scrub()


_COUNTED = (schema.quotas, schema.counters, schema.reservations, schema.usage_history)


async def _nothing(_user: str) -> None: ...


def _count(connection: Connection, user: str) -> Belongings:
    files, jobs, agents, prefabs = schema.files, schema.jobs, schema.agents, schema.prefabs

    def count(table: Table) -> int:
        return connection.execute(select(func.count()).select_from(table).where(table.c.user == user)).scalar_one()

    size = connection.execute(select(func.sum(files.c.size)).where(files.c.user == user)).scalar()
    last = connection.execute(select(func.max(jobs.c.created_at)).where(jobs.c.user == user)).scalar()
    own_agents = connection.execute(select(agents.c.id).where(agents.c.owner == user).order_by(agents.c.id)).scalars()
    own_prefabs = connection.execute(
        select(prefabs.c.id).where(prefabs.c.owner == user).order_by(prefabs.c.id)
    ).scalars()
    return Belongings(
        keys=count(schema.api_keys),
        secrets=count(schema.secrets),
        files=count(files),
        bytes=size or 0,
        jobs=count(jobs),
        agents=tuple(own_agents),
        prefabs=tuple(own_prefabs),
        last_call_at=last,
    )


def _hand_over(connection: Connection, user: str, heir: Principal | None) -> None:
    """Prefabs pass to whoever deletes their publisher; where that is not known any more, to the first admin."""
    prefabs, versions = schema.prefabs, schema.versions
    given = list(connection.execute(select(prefabs.c.id).where(prefabs.c.owner == user)).scalars())
    connection.execute(update(prefabs).where(prefabs.c.owner == user).values(owner=heir.user if heir else ADMIN))
    connection.execute(update(versions).where(versions.c.published_by == user).values(published_by=NOBODY))
    for prefab_id in given:
        audit.record(connection, heir, "prefab.take_over", prefab_id)


def _take_jobs(connection: Connection, user: str) -> int:
    jobs = schema.jobs
    some = list(connection.execute(select(jobs.c.id).where(jobs.c.user == user).limit(JOBS_AT_ONCE)).scalars())
    for table in (schema.job_results, schema.job_logs, schema.job_events, schema.job_queue):
        connection.execute(delete(table).where(table.c.job_id.in_(some)))
    connection.execute(delete(schema.job_files).where(schema.job_files.c.root_id.in_(some)))
    return connection.execute(delete(jobs).where(jobs.c.id.in_(some))).rowcount


def _take_records(connection: Connection, user: str) -> None:
    for table in (schema.api_keys, schema.secrets, *_COUNTED):
        connection.execute(delete(table).where(table.c.user == user))
    connection.execute(delete(schema.agents).where(schema.agents.c.owner == user))
