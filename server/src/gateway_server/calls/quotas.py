"""What a user may use, and what an API key of theirs: calls, calls at once, seconds of run time, stored bytes.

A call is charged, and its run time reserved, in the transaction that opens its record; what it did not use, or was no
fault of its own, is given back in the one that closes it. Both go by what is written down, so that they are exact
whatever runs at the same time, dies, or lasts over midnight. Periods are UTC.

Calls that a function makes count as calls; their run time lies within that of the function, and neither it nor a place
among the concurrent ones is taken twice. The bytes are counted with the files, in `files.room`.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, func, select

from gateway_server.calls import trees
from gateway_server.errors import NotFound, QuotaExceeded
from gateway_server.files import room
from gateway_server.identity import audit
from gateway_server.models import JobStatus, Principal, rfc3339_at
from gateway_server.store import counters, schema
from gateway_server.store.counters import USER, Counter, Limit, Metric, Period
from gateway_server.store.database import Database

SHORTEST = 1.0
"""Seconds of run time that must be left for a call to begin."""
LONGEST_WAIT = 60.0
"""Seconds after which a call that found no place is worth another try at the latest."""
RECENT = 20
"""Calls from whose time that is guessed."""
_jobs, _reservations = schema.jobs, schema.reservations
_mine = _reservations.c.job_id == bindparam("job_id")
_HELD, _LET_GO = select(_reservations).where(_mine), delete(_reservations).where(_mine)


@dataclass(frozen=True, slots=True)
class Quota:
    """Where a counter stands."""

    counter: Counter
    limit: int | None
    """Calls, seconds or bytes; None for none."""
    used: float
    """In the unit of the limit; whole but for seconds."""
    resets_at: float | None
    """POSIX seconds; None where there is no period."""

    @property
    def has_room(self) -> bool:
        """Whether one more call may begin."""
        least = SHORTEST if self.counter.metric is Metric.SECONDS else 1
        return self.limit is None or self.used + least <= self.limit


class Quotas:
    """Limits and counts. Within transactions it works on a connection."""

    def __init__(
        self,
        database: Database,
        default_limit: int | None,
        *,
        tree_limit: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._default = default_limit
        self._tree_limit = tree_limit
        self._clock = clock

    async def set(self, counter: Counter, limit: int | None, by: Principal) -> Quota:
        """Sets a limit; None takes it away, and for calls a day goes back to the default of the gateway.

        What is not always counted is counted from then on: of calls and bytes with those that there are, of run time
        with what runs.

        Raises:
            NotFound: the user has no such key.
        """
        names = {"user": counter.user, "key_id": counter.key_id, "metric": counter.metric, "period": counter.period}

        def work(connection: Connection) -> Quota:
            _require_key(connection, counter)
            moment = self._clock()
            connection.execute(delete(schema.quotas).filter_by(**names))
            if limit is not None:
                connection.execute(schema.quotas.insert().values(**names, limit=limit))
            if counter.metric is not Metric.CONCURRENT and not _is_always_counted(counter):
                if limit is None:
                    counters.stop(connection, counter)
                else:
                    counters.start(connection, counter, moment, _counted(connection, counter, moment))
            told = {name: str(value) for name, value in names.items() if name != "user" and value}
            audit.record(connection, by, "quota.set", counter.user, limit=limit, **told)
            return self._read(connection, Limit(counter, limit if limit is not None else self._usual(counter)), moment)

        return await self._database.write(work)

    async def show(self, user: str) -> list[Quota]:
        """Where a user stands, calls of the day first; then those of the keys that have limits."""

        def work(connection: Connection) -> list[Quota]:
            rows = connection.execute(select(schema.quotas).where(schema.quotas.c.user == user)).all()
            known = {Counter(user, row.key_id, Metric(row.metric), Period(row.period)): row.limit for row in rows}
            shown = {counter: known.get(counter, self._usual(counter)) for counter in (*_always_shown(user), *known)}
            moment = self._clock()
            return [self._read(connection, Limit(counter, limit), moment) for counter, limit in shown.items()]

        return await self._database.read(work)

    def standing(self, connection: Connection, principal: Principal, moment: float) -> list[Quota]:
        """Where everything stands that a call more would count in."""
        return [self._read(connection, limit, moment) for limit in self._limits(connection, principal)]

    def count(self, connection: Connection, calls: Mapping[tuple[str, str | None, float], int]) -> None:
        """Counts calls that are charged whatever the limits say, so many of a user, a key and a moment, within the
        transaction that opens their records."""
        limited: dict[str, set[Counter]] = {}
        for counter in counters.of_calls(connection, (user for user, _, _ in calls)):
            limited.setdefault(counter.user, set()).add(counter)
        more = []
        for (user, key_id, moment), count in calls.items():
            counted = {counter for counter in limited.get(user, ()) if counter.key_id in (USER, key_id)}
            day = Counter(user, USER, Metric.CALLS, Period.DAY)
            more += [(counter, moment, count) for counter in counted | {day}]
        counters.add_all(connection, more)

    def check(self, connection: Connection, principal: Principal, *, waits: bool = False) -> None:
        """Looks whether a call more would fit, or one that waits until there is a place and run time for it.

        Raises:
            QuotaExceeded: it would not; of several limits that one is told which resets last.
        """
        trees.check(connection, principal, self._tree_limit)
        moment = self._clock()
        limits = self._limits(connection, principal)
        asked = [limit for limit in limits if not waits or limit.counter.metric is Metric.CALLS]
        found = [self._read(connection, limit, moment) for limit in asked]
        self._refuse(connection, [quota for quota in found if not quota.has_room], moment)

    def reserve(
        self, connection: Connection, principal: Principal, job_id: str, moment: float, seconds: float | None
    ) -> float:
        """Charges a call, within the transaction that opens its record, which says so and bears the `moment`. `seconds`
        are what the call would like to run at most, None where it waits for `begin`. Gives how long it may run.

        Raises:
            QuotaExceeded: another call took the last place meanwhile; the transaction must not be kept.
        """
        trees.grow(connection, principal, self._tree_limit, moment)
        limits = self._limits(connection, principal)
        full = []
        for limit in limits:
            if limit.counter.metric is Metric.CALLS:
                if not counters.add(connection, limit.counter, moment, 1, limit.limit):
                    full.append(self._read(connection, limit, moment))
            elif seconds is not None and not (quota := self._read(connection, limit, moment, job_id)).has_room:
                full.append(quota)
        self._refuse(connection, full, moment)
        return (
            self._reserve_time(connection, principal, job_id, seconds, limits, moment) if seconds is not None else 0.0
        )

    def begin(self, connection: Connection, principal: Principal, job_id: str, seconds: float) -> float:
        """Reserves run time for an attempt at a job that was charged when it was taken in, and takes a place for it;
        gives how long it may run. What an attempt before this one has left is given back.

        Raises:
            QuotaExceeded: there is none now; the transaction must not be kept.
        """
        self.settle(connection, job_id)
        moment = self._clock()
        limits = [limit for limit in self._limits(connection, principal) if limit.counter.metric is not Metric.CALLS]
        found = [self._read(connection, limit, moment, job_id) for limit in limits]
        self._refuse(connection, [quota for quota in found if not quota.has_room], moment)
        if any(limit.counter.metric is Metric.CONCURRENT for limit in limits):  # else nobody counts the places
            connection.execute(_jobs.update().where(_jobs.c.id == job_id).values(status=JobStatus.RUNNING))
        return self._reserve_time(connection, principal, job_id, seconds, limits, moment)

    def settle(self, connection: Connection, job_id: str, *, seconds: float = 0.0, refund: bool = False) -> None:
        """Settles what was reserved for a call, within the transaction that closes its record or ends an attempt.

        It counts once, in the periods in which the call was charged. `refund` takes the charge back altogether.
        """
        held = connection.execute(_HELD, {"job_id": job_id}).first()
        if held is not None and connection.execute(_LET_GO, {"job_id": job_id}).rowcount:
            used = 0 if refund else min(math.ceil(seconds * 1000), held.amount)
            keys = (USER, held.key_id)
            counters.correct(connection, held.user, keys, Metric.SECONDS, held.at, used - held.amount)
        if refund:
            self._refund(connection, job_id)

    def release(self, connection: Connection, job_ids: Iterable[str]) -> None:
        """Takes back what was charged for calls that the end of a gateway has cut, before their records are closed."""
        for job_id in job_ids:
            self.settle(connection, job_id, refund=True)

    async def sweep(self) -> None:
        """Forgets the counts of periods that are over."""

        def work(connection: Connection) -> None:
            counters.sweep(connection, self._clock())
            trees.sweep(connection, self._clock())

        await self._database.write(work, durable=False)

    def _refund(self, connection: Connection, job_id: str) -> None:
        change = _jobs.update().where(_jobs.c.id == job_id, _jobs.c.charged).values(charged=False)
        if connection.execute(change).rowcount:
            wanted = select(_jobs.c.user, _jobs.c.key_id, _jobs.c.created_at).where(_jobs.c.id == job_id)
            user, key_id, charged_at = connection.execute(wanted).one()
            counters.correct(connection, user, (USER, key_id or USER), Metric.CALLS, charged_at, -1)

    def _reserve_time(
        self,
        connection: Connection,
        principal: Principal,
        job_id: str,
        seconds: float,
        limits: Iterable[Limit],
        moment: float,
    ) -> float:
        """Reserves as much run time as there is, at most what is asked for; says how many seconds."""
        limits = [limit for limit in limits if limit.counter.metric is Metric.SECONDS]
        if not limits:
            return seconds
        most = {limit: (limit.limit or 0) * 1000 for limit in limits}
        left = [most[limit] - counters.amount(connection, limit.counter, moment) for limit in limits]
        amount = min(math.ceil(seconds * 1000), *left)
        for limit in limits:
            if not counters.add(connection, limit.counter, moment, amount, most[limit]):
                self._refuse(connection, [self._read(connection, limit, moment)], moment)
        row = {"job_id": job_id, "user": principal.user, "key_id": principal.key_id or USER}
        connection.execute(_reservations.insert().values(row | {"at": moment, "amount": amount}))
        return min(seconds, amount / 1000)

    def _limits(self, connection: Connection, principal: Principal) -> list[Limit]:
        """The limits that hold for a call, calls of the day first, which are always counted."""
        day = Counter(principal.user, USER, Metric.CALLS, Period.DAY)
        found = {limit.counter: limit for limit in counters.limits(connection, principal.user, principal.key_id)}
        limits = [found.pop(day, Limit(day, self._default)), *found.values()]
        counted = (Metric.CALLS,) if principal.job_id else (Metric.CALLS, Metric.CONCURRENT, Metric.SECONDS)
        return [limit for limit in limits if limit.counter.metric in counted]

    def _usual(self, counter: Counter) -> int | None:
        is_daily = (counter.key_id, counter.metric, counter.period) == (USER, Metric.CALLS, Period.DAY)
        return self._default if is_daily else None

    def _read(self, connection: Connection, limit: Limit, moment: float, but: str = "") -> Quota:
        counter = limit.counter
        used: float
        if counter.metric is Metric.CONCURRENT:
            places = _PLACES if counter.key_id == USER else _PLACES_OF_KEY
            whose = {"user": counter.user, "key_id": counter.key_id, "but": but}
            used = connection.execute(places, whose).scalar_one()
        else:
            used = counters.amount(connection, counter, moment)
        if counter.metric is Metric.SECONDS:
            used /= 1000
        resets_at = None if counter.period is Period.NOW else float(counters.end_of(counter.period, moment))
        return Quota(counter, limit.limit, used, resets_at)

    def _refuse(self, connection: Connection, full: Iterable[Quota], moment: float) -> None:
        refusals = [(_opens_at(connection, quota, moment), quota) for quota in full]
        if refusals:
            opens_at, quota = max(refusals, key=lambda refusal: refusal[0])
            raise _refusal(quota, opens_at, moment)


def _refusal(quota: Quota, opens_at: float, moment: float) -> QuotaExceeded:
    counter, reset_at = quota.counter, rfc3339_at(opens_at)
    assert quota.limit is not None
    whose = f"API key {counter.key_id}" if counter.key_id else f"user {counter.user}"
    what = f"The quota of {quota.limit} {counter.quota_type.replace('_', ' ')} of the {whose} is used up"
    when = (
        f"it resets at {datetime.fromtimestamp(opens_at, UTC):%Y-%m-%d %H:%M} UTC"
        if quota.resets_at == opens_at
        else "try again when a call has ended"
    )
    return QuotaExceeded(
        f"{what}; {when}.",
        limit=quota.limit,
        used=quota.used if counter.metric is not Metric.SECONDS else math.ceil(quota.used),
        quota_type=counter.quota_type,
        subject="key" if counter.key_id else "user",
        reset_at=reset_at,
        retry_after=max(1.0, opens_at - moment),
    )


def _opens_at(connection: Connection, quota: Quota, moment: float) -> float:
    """When there may be room again: in the next period, or once a call has ended that holds a place or run time."""
    counter, limit = quota.counter, quota.limit or 0
    if counter.metric is Metric.CONCURRENT:
        return moment + _usual_time(connection, counter.user) / max(limit, 1)
    assert quota.resets_at is not None
    if counter.metric is Metric.SECONDS:
        held = _counted(connection, counter, moment) / 1000
        if held and quota.used - held + SHORTEST <= limit:
            return min(quota.resets_at, moment + _usual_time(connection, counter.user))
    return quota.resets_at


def _usual_time(connection: Connection, user: str) -> float:
    """Seconds of a call of a user, as far as those before it tell: at least one, and no longer than anybody waits."""
    took = _jobs.c.ended_at - _jobs.c.started_at
    mine = _jobs.c.user == user, _jobs.c.charged, took.is_not(None)
    recent = select(took).where(*mine).order_by(_jobs.c.created_at.desc()).limit(RECENT)
    times = list(connection.execute(recent).scalars())
    return min(max(sum(times) / len(times) if times else 0.0, 1.0), LONGEST_WAIT)


def _running(*more: ColumnElement[bool]) -> Select[Any]:
    """Counts the calls that take a place, beside one: those that run and were not made by a function."""
    mine = _jobs.c.user == bindparam("user"), _jobs.c.id != bindparam("but"), *more
    is_top = _jobs.c.root_id == func.coalesce(_jobs.c.parent_id, _jobs.c.id)
    runs = _jobs.c.ended_at.is_(None), _jobs.c.status == JobStatus.RUNNING, _jobs.c.charged
    return select(func.count()).where(*mine, *runs, is_top)


_PLACES, _PLACES_OF_KEY = _running(), _running(_jobs.c.key_id == bindparam("key_id"))


def _always_shown(user: str) -> list[Counter]:
    pairs = ((Metric.CALLS, Period.DAY), (Metric.CONCURRENT, Period.NOW), (Metric.BYTES, Period.NOW))
    return [Counter(user, USER, metric, period) for metric, period in pairs]


def _is_always_counted(counter: Counter) -> bool:
    return counter in _always_shown(counter.user)


def _counted(connection: Connection, counter: Counter, moment: float) -> int:
    """What a new counter begins with."""
    if counter.metric is Metric.BYTES:
        return room.recount(connection, counter.user, counter.key_id)
    timed = counter.metric is Metric.SECONDS
    table, began = (_reservations, _reservations.c.at) if timed else (_jobs, _jobs.c.created_at)
    what: ColumnElement[int] = func.sum(_reservations.c.amount) if timed else func.count()
    mine = [table.c.user == counter.user, began >= counters.start_of(counter.period, moment)]
    if not timed:
        mine.append(_jobs.c.charged)
    if counter.key_id != USER:
        mine.append(table.c.key_id == counter.key_id)
    return connection.execute(select(what).where(*mine)).scalar() or 0


def _require_key(connection: Connection, counter: Counter) -> None:
    keys = schema.api_keys
    if counter.key_id != USER:
        mine = keys.c.id == counter.key_id, keys.c.user == counter.user
        if connection.execute(select(keys.c.id).where(*mine)).first() is None:
            raise NotFound(f"The user {counter.user} has no API key {counter.key_id[:80]}.")
