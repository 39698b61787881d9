"""How many calls a user may make a day. Days are UTC; the count is exact, whatever runs at the same time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, select

from gateway_server.errors import QuotaExceeded
from gateway_server.identity import audit
from gateway_server.models import Principal, now
from gateway_server.store import schema
from gateway_server.store.database import Database

PERIOD = "day"
_TYPE = "calls_per_day"


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Where a user stands today; `limit` is None where there is none."""

    user: str
    limit: int | None
    used: int
    reset_at: datetime


class Quotas:
    """Limits and counts."""

    def __init__(self, database: Database, default_limit: int | None) -> None:
        self._database = database
        self._default = default_limit

    async def set(self, user: str, limit: int | None, by: Principal) -> Quota:
        """Sets the limit; None goes back to the default of the gateway."""
        key = {"user": user, "period": PERIOD}

        def work(connection: Connection) -> None:
            connection.execute(delete(schema.quotas).filter_by(**key))
            if limit is not None:
                connection.execute(schema.quotas.insert().values(**key, limit=limit))
            audit.record(connection, by, "quota.set", user, limit=limit, period=PERIOD)

        await self._database.write(work)
        return await self.show(user)

    async def show(self, user: str) -> Quota:
        """Where the user stands."""
        return await self._database.read(lambda connection: self._read(connection, user))

    def check(self, connection: Connection, user: str, calls: int = 1) -> Quota:
        """Looks, within a transaction, whether `calls` more would fit.

        Raises:
            QuotaExceeded: they would not.
        """
        quota = self._read(connection, user)
        if quota.limit is not None and quota.used + calls > quota.limit:
            raise QuotaExceeded(
                limit=quota.limit, used=quota.used, quota_type=_TYPE, reset_at=quota.reset_at, now=now()
            )
        return quota

    def charge(self, connection: Connection, user: str) -> None:
        """Counts one call, within the transaction that records it.

        Raises:
            QuotaExceeded: the limit is reached; nothing is counted.
        """
        self.check(connection, user)
        self._count(connection, user, 1)

    def refund(self, connection: Connection, user: str) -> None:
        """Takes back a call that failed through no fault of its own."""
        self._count(connection, user, -1)

    async def sweep(self) -> None:
        """Forgets the counts of days that are over."""
        old = delete(schema.usage).where(schema.usage.c.day < _today())
        await self._database.write(lambda c: c.execute(old), durable=False)

    def _count(self, connection: Connection, user: str, calls: int) -> None:
        table, day = schema.usage, _today()
        change = table.update().where(table.c.user == user, table.c.day == day).values(calls=table.c.calls + calls)
        if calls < 0:  # of a call that was charged before midnight nothing is left to take back
            change = change.where(table.c.calls > 0)
        if not connection.execute(change).rowcount and calls > 0:
            connection.execute(table.insert().values(user=user, day=day, calls=calls))

    def _read(self, connection: Connection, user: str) -> Quota:
        limits, counts = schema.quotas, schema.usage
        limit = connection.execute(select(limits.c.limit).filter_by(user=user, period=PERIOD)).scalar()
        used = connection.execute(select(counts.c.calls).filter_by(user=user, day=_today())).scalar()
        midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
        return Quota(
            user=user,
            limit=self._default if limit is None else limit,
            used=used or 0,
            reset_at=midnight + timedelta(days=1),
        )


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
