"""Limits, and the counts that stand against them: of a user, and of each API key of one.

Functions of a connection, for `Database`. A count is changed in the transaction of what it counts, or not at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, or_, select

from gateway_server.store.database import inserting
from gateway_server.store.schema import counters, quotas

USER = ""
"""Stands in the place of a key for everything that a user does, with whichever key."""


class Metric(StrEnum):
    """What is limited."""

    CALLS = "calls"
    CONCURRENT = "concurrent"
    SECONDS = "seconds"
    BYTES = "bytes"


class Period(StrEnum):
    """When a count begins anew, in UTC; `NOW` is for what there is at the moment."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"
    NOW = ""


_AT_ONCE = 500
"""Users that one statement asks for at most."""
_KEPT = {Period.MINUTE: 3600, Period.DAY: 86400, Period.MONTH: 86400}
"""Seconds after the end of a period for which its count may still be corrected."""


@dataclass(frozen=True, slots=True)
class Counter:
    """What is counted, of whom."""

    user: str
    key_id: str
    metric: Metric
    period: Period

    @property
    def quota_type(self) -> str:
        """Its name in answers."""
        if self.metric is Metric.CONCURRENT:
            return "concurrent_calls"
        return "stored_bytes" if self.metric is Metric.BYTES else f"{self.metric}_per_{self.period}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A counter and how far it may go: calls, seconds or bytes."""

    counter: Counter
    limit: int | None
    """None: it is counted all the same."""


def start_of(period: Period, moment: float) -> int:
    """When the period began in which a moment lies, both in POSIX seconds; 0 where there is no period."""
    if period is Period.MONTH:
        day = datetime.fromtimestamp(moment, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp())
    length = {Period.MINUTE: 60, Period.DAY: 86400}.get(period)
    return 0 if length is None else int(moment // length) * length


def end_of(period: Period, moment: float) -> int:
    """When the period ends in which a moment lies, both in POSIX seconds."""
    longest = {Period.MINUTE: 60, Period.DAY: 86400}.get(period, 32 * 86400)
    return start_of(period, start_of(period, moment) + longest)


# Every call needs these, and to put one together takes longer than to run it.
_LIMITS = select(quotas.c.key_id, quotas.c.metric, quotas.c.period, quotas.c.limit).where(
    quotas.c.user == bindparam("user"), or_(quotas.c.key_id == USER, quotas.c.key_id == bindparam("key_id"))
)
_CALL_LIMITS = select(quotas.c.user, quotas.c.key_id, quotas.c.period).where(
    quotas.c.metric == Metric.CALLS, quotas.c.user.in_(bindparam("users", expanding=True))
)
_AMOUNT = select(counters.c.amount).where(
    *(column == bindparam(f"the_{column.name}") for column in counters.primary_key.columns)
)


@cache
def _counting(insert: Any, *, is_limited: bool) -> Any:
    """The statement that counts; with `is_limited`, only up to a bound."""
    adding = insert(counters)
    total = counters.c.amount + adding.excluded.amount
    within = total <= bindparam("most") if is_limited else None
    row: dict[str, Any] = {name: bindparam(name) for name in counters.c.keys()}  # noqa: SIM118  # no dictionary
    keys = list(counters.primary_key)
    return adding.values(row).on_conflict_do_update(index_elements=keys, set_={"amount": total}, where=within)


def limits(connection: Connection, user: str, key_id: str | None) -> list[Limit]:
    """Every limit that holds for a user who came with a key."""
    rows = connection.execute(_LIMITS, {"user": user, "key_id": key_id or USER}).all()
    return [Limit(Counter(user, key, Metric(metric), Period(period)), most) for key, metric, period, most in rows]


def of_calls(connection: Connection, users: Iterable[str]) -> list[Counter]:
    """What calls of these users are limited by, with whichever key."""
    names, found = sorted(set(users)), list[Counter]()
    for at in range(0, len(names), _AT_ONCE):
        rows = connection.execute(_CALL_LIMITS, {"users": names[at : at + _AT_ONCE]}).all()
        found += [Counter(user, key, Metric.CALLS, Period(period)) for user, key, period in rows]
    return found


def amount(connection: Connection, counter: Counter, moment: float) -> int:
    """What is counted in the period of a moment: calls, milliseconds or bytes."""
    where = {f"the_{name}": value for name, value in _row(counter, moment).items()}
    return connection.execute(_AMOUNT, where).scalar() or 0


def add(connection: Connection, counter: Counter, moment: float, more: int, most: int | None = None) -> bool:
    """Counts `more`, unless that were beyond `most`; says whether it was counted. Exact among several gateways, too."""
    if most is not None and more > most:
        return False
    row = _row(counter, moment) | {"amount": more} | ({} if most is None else {"most": most})
    change = _counting(inserting(connection), is_limited=most is not None)
    return connection.execute(change, row).rowcount > 0


def add_all(connection: Connection, more: Iterable[tuple[Counter, float, int]]) -> None:
    """Counts much at once: so much more in each counter, for the period of a moment."""
    amounts: dict[tuple[Counter, int], int] = {}
    for counter, moment, amount in more:
        place = counter, start_of(counter.period, moment)
        amounts[place] = amounts.get(place, 0) + amount
    rows = [_row(counter, start) | {"amount": amount} for (counter, start), amount in amounts.items()]
    if rows:
        rows.sort(key=lambda row: [str(value) for value in row.values()])  # that gateways rarely wait for each other
        connection.execute(_counting(inserting(connection), is_limited=False), rows)


def correct(
    connection: Connection, user: str, key_ids: Iterable[str], metric: Metric, moment: float, change: int
) -> None:
    """Changes the counts that there are for the periods of a moment; what is not counted any more stays so."""
    periods = (Period.NOW,) if metric is Metric.BYTES else (Period.MINUTE, Period.DAY, Period.MONTH)
    where = (
        counters.c.user == user,
        counters.c.key_id.in_(sorted(set(key_ids))),
        counters.c.metric == metric,
        or_(*(and_(counters.c.period == each, counters.c.start == start_of(each, moment)) for each in periods)),
        counters.c.amount >= -change,  # a clock that was set back may have begun a count anew
    )
    connection.execute(counters.update().where(*where).values(amount=counters.c.amount + change))


def start(connection: Connection, counter: Counter, moment: float, already: int) -> None:
    """Begins to count from `already`, unless it is counted."""
    row = _row(counter, moment) | {"amount": already}
    connection.execute(inserting(connection)(counters).on_conflict_do_nothing(), row)


def stop(connection: Connection, counter: Counter) -> None:
    """Counts no longer."""
    names = ("user", "key_id", "metric", "period")
    connection.execute(delete(counters).where(*(counters.c[name] == getattr(counter, name) for name in names)))


def sweep(connection: Connection, moment: float) -> None:
    """Forgets periods that are over, so long that nothing of them will be corrected any more."""
    for period, kept in _KEPT.items():
        before = start_of(period, moment - kept)
        connection.execute(
            delete(counters).where(counters.c.start > 0, counters.c.start < before, counters.c.period == period)
        )


def _row(counter: Counter, moment: float) -> dict[str, object]:
    return {
        "user": counter.user,
        "key_id": counter.key_id,
        "metric": counter.metric,
        "period": counter.period,
        "start": start_of(counter.period, moment),
    }
