"""The room that files take: a running sum for each user, and for each API key that has a limit.

It changes in the transactions that change the records of files and of uploads that have begun, and so it is exact.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select

from gateway_server.errors import QuotaExceeded
from gateway_server.store import counters
from gateway_server.store.counters import USER, Counter, Limit, Metric, Period
from gateway_server.store.schema import files, uploads


@dataclass(frozen=True, slots=True)
class Room:
    """The limits of bytes that hold for somebody, each with what is used of it."""

    limits: tuple[tuple[Limit, int], ...]

    def require(self, size: int) -> None:
        """Looks whether `size` more bytes fit.

        Raises:
            QuotaExceeded: they do not.
        """
        for limit, used in self.limits:
            if limit.limit is not None and used + size > limit.limit:
                raise _exceeded(limit, used)


def look(connection: Connection, user: str, key_id: str | None) -> Room:
    """The room of a user who came with a key."""
    found = _limits(connection, user, key_id)
    return Room(tuple((limit, counters.amount(connection, limit.counter, 0)) for limit in found.values()))


def change(connection: Connection, user: str, by_key: Mapping[str | None, int]) -> None:
    """Counts bytes that come (or go, where negative), by the key that they were stored with.

    Raises:
        QuotaExceeded: they do not fit.
    """
    limits: dict[str, Limit] = {}
    for key_id in by_key:
        limits |= _limits(connection, user, key_id)
    changes = {USER: sum(by_key.values())} | {key_id: size for key_id, size in by_key.items() if key_id in limits}
    for key_id, size in changes.items():
        assert key_id is not None
        counter = Counter(user, key_id, Metric.BYTES, Period.NOW)
        limit = limits.get(key_id, Limit(counter, None))
        if size < 0:
            counters.correct(connection, user, [key_id], Metric.BYTES, 0, size)
        elif size and not counters.add(connection, counter, 0, size, limit.limit):
            raise _exceeded(limit, counters.amount(connection, counter, 0))


def recount(connection: Connection, user: str, key_id: str) -> int:
    """The bytes that were stored with a key, counted anew."""
    total = 0
    for table, kept in ((files, files.c.key.is_not(None)), (uploads, uploads.c.completed.is_(False))):
        mine = table.c.user == user, table.c.key_id == key_id, kept
        total += connection.execute(select(func.sum(table.c.size)).where(*mine)).scalar() or 0
    return total


def give_back(connection: Connection, rows: Iterable[Any]) -> None:
    """Counts no longer what the rows of files or uploads took."""
    by_user: dict[str, Tally[str | None]] = {}
    for row in rows:
        by_user.setdefault(row.user, Tally())[row.key_id] -= row.size
    for user, by_key in by_user.items():
        change(connection, user, by_key)


def end_uploads(connection: Connection, *where: ColumnElement[bool]) -> None:
    """Forgets uploads, and gives back what was kept free for those that were not completed."""
    rows = connection.execute(select(uploads).where(*where)).all()
    connection.execute(delete(uploads).where(uploads.c.id.in_([row.id for row in rows])))
    give_back(connection, [row for row in rows if not row.completed])


def _limits(connection: Connection, user: str, key_id: str | None) -> dict[str, Limit]:
    found = counters.limits(connection, user, key_id)
    return {limit.counter.key_id: limit for limit in found if limit.counter.metric is Metric.BYTES}


def _exceeded(limit: Limit, used: int) -> QuotaExceeded:
    whose = f"API key {limit.counter.key_id}" if limit.counter.key_id else f"user {limit.counter.user}"
    assert limit.limit is not None
    return QuotaExceeded(
        f"The file does not fit: {used} of the {limit.limit} bytes of the {whose} are taken. Delete files, or ask the "
        "operator for more.",
        limit=limit.limit,
        used=used,
        quota_type=limit.counter.quota_type,
        subject="key" if limit.counter.key_id else "user",
    )
