"""What was used: calls, failures and seconds of run time, by user, agent, prefab, version or day.

The records of jobs are the books. Before old records go, their sums go into a history by day, in the same transaction,
so that every call is counted in one of the two, and once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, case, func, literal, select

from gateway_server.models import JobStatus
from gateway_server.store import schema
from gateway_server.store.database import Database, inserting

_jobs, _history = schema.jobs, schema.usage_history
Key = tuple[str | None, ...]


class Dimension(StrEnum):
    """What usage can be told apart by."""

    DAY = "day"
    USER = "user"
    AGENT = "agent"
    PREFAB = "prefab"
    VERSION = "version"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was used in one group."""

    group: dict[Dimension, str | None]
    calls: int
    """Accepted calls, nested ones and those of batches included; not refusals."""
    failed: int
    """Those of them that did not succeed."""
    seconds: float
    """Run time, summed."""


async def report(
    database: Database, *, since: date, until: date, user: str | None, by: Sequence[Dimension]
) -> list[Usage]:
    """Usage from the day `since` to the day `until`, both included (UTC); of everybody where `user` is None."""

    def work(connection: Connection) -> list[Usage]:
        calls, failed, seconds = Counter[Key](), Counter[Key](), defaultdict[Key, float](float)
        for row in (*_live(connection, since, until, user, by), *_old(connection, since, until, user, by)):
            key = tuple(row[: len(by)])
            calls[key] += row.calls
            failed[key] += row.failed
            seconds[key] += row.seconds or 0.0
        groups = sorted(calls, key=lambda key: (-calls[key], [part or "" for part in key]))
        if Dimension.DAY in by:
            groups.sort(key=lambda key: key[by.index(Dimension.DAY)] or "", reverse=True)
        return [
            Usage(
                group=dict(zip(by, key, strict=True)),
                calls=calls[key],
                failed=failed[key],
                seconds=round(seconds[key], 3),
            )
            for key in groups
        ]

    return await database.read(work)


def remember(connection: Connection, rows: Iterable[Any]) -> None:
    """Adds rows of jobs, which are about to be deleted, to the history."""
    calls, failed, seconds = Counter[Key](), Counter[Key](), defaultdict[Key, float](float)
    for row in rows:
        if row.prefab_id is None or row.started_at is None:  # a batch, or a refusal within one
            continue
        day = datetime.fromtimestamp(row.created_at, UTC).date().isoformat()
        key = (day, row.user, row.agent or "", row.prefab_id, row.version)
        calls[key] += 1
        failed[key] += row.status != JobStatus.SUCCEEDED
        seconds[key] += (row.ended_at or row.started_at) - row.started_at
    if not calls:
        return
    insert = inserting(connection)(_history)
    counts = {name: _history.c[name] + insert.excluded[name] for name in ("calls", "failed", "seconds")}
    keys = list(_history.primary_key.columns)
    names = [column.name for column in keys]
    values = [
        {**dict(zip(names, key, strict=True)), "calls": calls[key], "failed": failed[key], "seconds": seconds[key]}
        for key in calls
    ]
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=counts), values)


def _live(connection: Connection, since: date, until: date, user: str | None, by: Sequence[Dimension]) -> Iterable[Any]:
    """Sums of the records that there are; a day at a time where days are told apart, as databases name days unlike."""
    if Dimension.DAY in by:
        first = connection.execute(select(func.min(_jobs.c.created_at))).scalar()
        since = until if first is None else max(since, datetime.fromtimestamp(first, UTC).date())
        spans = [(since + timedelta(days=n),) * 2 for n in range((until - since).days + 1)]
    else:
        spans = [(since, until)]
    for start, end in spans:
        columns = {
            Dimension.DAY: literal(start.isoformat()),
            Dimension.USER: _jobs.c.user,
            Dimension.AGENT: _jobs.c.agent,
            Dimension.PREFAB: _jobs.c.prefab_id,
            Dimension.VERSION: _jobs.c.version,
        }
        grouped = [column for dimension, column in columns.items() if dimension in by and dimension != Dimension.DAY]
        wanted = (
            select(
                *(columns[dimension].label(f"by_{dimension}") for dimension in by),
                func.count().label("calls"),
                func.sum(case((_jobs.c.status == JobStatus.SUCCEEDED, 0), else_=1)).label("failed"),
                func.sum(_jobs.c.ended_at - _jobs.c.started_at).label("seconds"),
            )
            .where(
                _jobs.c.created_at >= _midnight(start),
                _jobs.c.created_at < _midnight(end + timedelta(days=1)),
                and_(_jobs.c.prefab_id.is_not(None), _jobs.c.started_at.is_not(None), _jobs.c.ended_at.is_not(None)),
            )
            .having(func.count() > 0)
            .group_by(*grouped)
        )
        if user is not None:
            wanted = wanted.where(_jobs.c.user == user)
        yield from connection.execute(wanted)


def _old(connection: Connection, since: date, until: date, user: str | None, by: Sequence[Dimension]) -> Iterable[Any]:
    """Sums of the records that are gone."""
    columns = {
        Dimension.DAY: _history.c.day,
        Dimension.USER: _history.c.user,
        Dimension.AGENT: func.nullif(_history.c.agent, ""),
        Dimension.PREFAB: _history.c.prefab_id,
        Dimension.VERSION: _history.c.version,
    }
    grouped = [columns[dimension] for dimension in by]
    wanted = (
        select(
            *(columns[dimension].label(f"by_{dimension}") for dimension in by),
            func.sum(_history.c.calls).label("calls"),
            func.sum(_history.c.failed).label("failed"),
            func.sum(_history.c.seconds).label("seconds"),
        )
        .where(_history.c.day >= since.isoformat(), _history.c.day <= until.isoformat())
        .having(func.count() > 0)
        .group_by(*grouped)
    )
    if user is not None:
        wanted = wanted.where(_history.c.user == user)
    return connection.execute(wanted)


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
