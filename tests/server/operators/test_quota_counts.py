"""Counts are what is charged and stored, whatever order things happen in: a state machine over a real database."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, create_engine, event, func, select
from sqlalchemy.pool import NullPool

from gateway_server.calls import trees
from gateway_server.calls.jobs import Ending, Jobs, new_id
from gateway_server.calls.quotas import Quotas
from gateway_server.errors import QuotaExceeded
from gateway_server.models import Call, JobStatus, Principal, rfc3339_at
from gateway_server.store import counters, migrations, schema
from gateway_server.store.counters import USER, Counter, Metric, Period

CALL = Call(prefab_id="echo", version="1.0.0", function_name="echo", parameters={})
ANN = Principal(user="ann", key_id="key_1")
PRINCIPALS = [ANN, Principal(user="ann"), Principal(user="ann", key_id="key_2"), Principal(user="bob")]
ADMIN = Principal(user="admin")
COUNTERS = [
    Counter("ann", key_id, metric, period)
    for key_id in (USER, "key_1")
    for metric in (Metric.CALLS, Metric.SECONDS)
    for period in (Period.MINUTE, Period.DAY, Period.MONTH)
]
CONCURRENT = [Counter("ann", key_id, Metric.CONCURRENT, Period.NOW) for key_id in (USER, "key_1")]
BORDER = 1_767_225_590.0
"""Ten seconds before a new minute, day, month and year."""
SLOW = HealthCheck.too_slow, HealthCheck.data_too_large


class Store:
    """A database whose every write is a transaction of its own; a write that raises leaves nothing."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.engine = create_engine(f"sqlite:///{self.folder / 'gateway.db'}", poolclass=NullPool)
        event.listen(self.engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        self.connection = self.engine.connect()
        self.do(lambda c: c.connection.cursor().execute("PRAGMA synchronous=OFF") and None, begun=False)
        with self.engine.begin() as connection:
            migrations.upgrade(connection)
        self.do(
            lambda c: c.execute(
                schema.api_keys.insert().values(
                    id="key_1", digest="1", user="ann", name="", scopes="call", created_at=0.0
                )
            )
        )

    def do(self, work: Callable[[Connection], Any], begun: bool = True) -> Any:
        if not begun:
            return work(self.connection)
        with self.connection.begin():
            return work(self.connection)

    async def write(self, work: Callable[[Connection], Any], *, durable: bool = True) -> Any:
        return self.do(work)

    async def read(self, work: Callable[[Connection], Any], *, settled: bool = True) -> Any:
        return self.do(work)

    def close(self) -> None:
        self.connection.close()
        shutil.rmtree(self.folder)


class Calls:
    """Calls that begin, end and die, on a clock that the test moves."""

    def __init__(self) -> None:
        self.store = Store()
        self.moment = BORDER
        self.jobs = Jobs(self.store)  # type: ignore[arg-type]
        self.quotas = Quotas(self.store, None, clock=lambda: self.moment)  # type: ignore[arg-type]
        self.open: dict[str, float] = {}
        """Calls that run, and the seconds that they were granted."""

    def set(self, counter: Counter, limit: int | None) -> None:
        asyncio.run(self.quotas.set(counter, limit, ADMIN))

    def begin(self, principal: Principal = ANN, seconds: float = 5.0) -> str:
        job_id = new_id()

        def work(connection: Connection) -> float:
            self.jobs.open(connection, job_id=job_id, principal=principal, call=CALL, charged_at=self.moment)
            return self.quotas.reserve(connection, principal, job_id, self.moment, seconds)

        self.open[job_id] = self.store.do(work)
        return job_id

    def end(self, job_id: str, seconds: float = 0.0, refund: bool = False) -> None:
        def work(connection: Connection) -> None:
            self.jobs.close(connection, job_id, Ending(status=JobStatus.SUCCEEDED))
            self.quotas.settle(connection, job_id, seconds=seconds, refund=refund)

        self.store.do(work)
        self.open.pop(job_id, None)

    def die(self) -> None:
        """The gateway is killed and starts again."""
        asyncio.run(self.jobs.end_orphans(self.quotas.release))
        self.open.clear()

    def used(self, counter: Counter) -> float:
        shown = {quota.counter: quota.used for quota in asyncio.run(self.quotas.show(counter.user))}
        return shown[counter]

    def charged(self, counter: Counter) -> int:
        """What the records say."""
        jobs = schema.jobs
        since = counters.start_of(counter.period, self.moment)
        until = counters.end_of(counter.period, self.moment)
        mine = [jobs.c.user == counter.user, jobs.c.charged, jobs.c.created_at >= since, jobs.c.created_at < until]
        if counter.key_id:
            mine.append(jobs.c.key_id == counter.key_id)
        return self.store.do(lambda c: c.execute(select(func.count()).select_from(jobs).where(*mine)).scalar())


@pytest.fixture
def calls():
    made = Calls()
    yield made
    made.store.close()


class Machine(RuleBasedStateMachine):
    """Calls of several keys, limits that come and go, deaths, and a clock that crosses every kind of border."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Calls()
        self.limits: dict[Counter, int] = {}
        self.time: dict[tuple[Counter, int], float] = {}
        """Seconds that are used or reserved, by counter and begin of period, since the limit was set."""
        self.held: dict[str, list[tuple[Counter, int]]] = {}
        self.ended: dict[str, bool] = {}

    def teardown(self) -> None:
        self.calls.store.close()

    def place(self, counter: Counter) -> tuple[Counter, int]:
        return counter, counters.start_of(counter.period, self.calls.moment)

    @rule(counter=st.sampled_from(COUNTERS + CONCURRENT), limit=st.none() | st.integers(0, 12))
    def set(self, counter: Counter, limit: int | None) -> None:
        self.calls.set(counter, limit)
        fresh = counter not in self.limits
        self.limits.pop(counter, None)
        if limit is not None:
            self.limits[counter] = limit
        if counter.metric is not Metric.SECONDS or (limit is not None and not fresh):
            return
        for place in [place for place in self.time if place[0] == counter]:
            del self.time[place]
        for places in self.held.values():
            places[:] = [place for place in places if place[0] != counter]
        if limit is not None:
            place = self.place(counter)
            self.time[place] = 0.0
            for job_id, (moment, key_id, granted) in self.reserved().items():
                if moment >= place[1] and counter.key_id in (USER, key_id):
                    self.time[place] += granted
                    self.held[job_id].append(place)

    def reserved(self) -> dict[str, tuple[float, str, float]]:
        rows = self.calls.store.do(lambda c: c.execute(select(schema.reservations)).all())
        return {row.job_id: (row.at, row.key_id, row.amount / 1000) for row in rows if row.user == "ann"}

    @rule(principal=st.sampled_from(PRINCIPALS), seconds=st.sampled_from([0.5, 1.0, 2.5, 5.0]))
    def begin(self, principal: Principal, seconds: float) -> None:
        keys = {USER, principal.key_id}
        mine = [c for c in self.limits if principal.user == "ann" and c.key_id in keys]
        before = {counter: self.calls.used(counter) for counter in mine}
        full = [counter for counter in mine if before[counter] + 1 > self.limits[counter]]
        try:
            job_id = self.calls.begin(principal, seconds)
        except QuotaExceeded as refusal:
            assert refusal.members["quota_type"] in {counter.quota_type for counter in full}
            ends = [counters.end_of(c.period, self.calls.moment) for c in full if c.period is not Period.NOW]
            if ends and all(c.metric is Metric.CALLS for c in full):
                assert refusal.members["reset_at"] == rfc3339_at(max(ends))
            assert {counter: self.calls.used(counter) for counter in mine} == before  # nothing was counted
            return
        assert not full
        timed = [counter for counter in mine if counter.metric is Metric.SECONDS]
        left = [self.limits[counter] - before[counter] for counter in timed]
        assert self.calls.open[job_id] == pytest.approx(min([seconds, *left]), abs=0.001)
        self.held[job_id] = [self.place(counter) for counter in timed]
        for place in self.held[job_id]:
            self.time[place] = self.time.get(place, 0.0) + self.calls.open[job_id]

    @precondition(lambda self: self.calls.open)
    @rule(data=st.data(), share=st.sampled_from([0.0, 0.5, 1.0, 3.0]), refund=st.booleans())
    def end(self, data: st.DataObject, share: float, refund: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.calls.open)))
        granted = self.calls.open[job_id]
        self.calls.end(job_id, granted * share, refund)
        self.give_back(job_id, granted, 0.0 if refund else granted * min(share, 1.0))
        self.ended[job_id] = refund

    def give_back(self, job_id: str, granted: float, used: float) -> None:
        for place in self.held.pop(job_id):
            self.time[place] += used - granted

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def end_again(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.ended)))
        self.calls.end(job_id, 5.0, self.ended[job_id])

    @rule()
    def die(self) -> None:
        for job_id, granted in self.calls.open.items():
            self.give_back(job_id, granted, 0.0)
        self.calls.die()

    @rule(seconds=st.sampled_from([1.0, 9.0, 15.0, 61.0, 3500.0, 86_400.0, 31 * 86_400.0]))
    def pass_time(self, seconds: float) -> None:
        self.calls.moment += seconds

    @rule()
    def sweep(self) -> None:
        asyncio.run(self.calls.quotas.sweep())

    @invariant()
    def counts_are_what_the_records_say(self) -> None:
        day = Counter("ann", USER, Metric.CALLS, Period.DAY)
        for counter in {day, *self.limits}:
            used = self.calls.used(counter)
            if counter.metric is Metric.CALLS:
                assert used == self.calls.charged(counter)
            elif counter.metric is Metric.SECONDS:
                assert used == pytest.approx(self.time.get(self.place(counter), 0.0), abs=0.05)

    @invariant()
    def nothing_is_held_for_what_has_ended(self) -> None:
        rows = self.calls.store.do(lambda c: c.execute(select(schema.reservations.c.job_id)).scalars().all())
        assert set(rows) <= set(self.calls.open)
        lowest = self.calls.store.do(lambda c: c.execute(select(func.min(schema.counters.c.amount))).scalar())
        assert lowest is None or lowest >= 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=SLOW)


def test_a_refund_after_midnight_goes_to_the_day_of_the_charge(calls: Calls):
    day, minute = (Counter("ann", USER, Metric.CALLS, period) for period in (Period.DAY, Period.MINUTE))
    calls.set(minute, 5)
    first, second = calls.begin(), calls.begin()
    calls.moment += 20
    third = calls.begin()
    calls.end(first, refund=True)
    assert (calls.used(day), calls.used(minute)) == (1, 1)
    calls.end(third, refund=True)
    assert (calls.used(day), calls.used(minute)) == (0, 0)
    calls.end(second)
    calls.moment -= 20
    assert (calls.used(day), calls.used(minute)) == (1, 1)


def test_run_time_is_granted_up_to_what_is_left(calls: Calls):
    limit = Counter("ann", USER, Metric.SECONDS, Period.DAY)
    calls.set(limit, 10)
    first = calls.begin(seconds=7)
    second = calls.begin(seconds=7)
    assert (calls.open[first], calls.open[second]) == (7.0, 3.0)
    with pytest.raises(QuotaExceeded) as refusal:
        calls.begin(seconds=7)
    told = refusal.value.detail()
    assert (told["quota_type"], told["limit"], told["used"]) == ("seconds_per_day", 10, 10)
    assert refusal.value.retry_after <= 60  # what those that run do not use is free again
    calls.end(first, seconds=1.2345)
    calls.end(second, seconds=99)
    assert calls.used(limit) == 4.235
    calls.end(calls.begin(seconds=99), seconds=99)
    with pytest.raises(QuotaExceeded) as refusal:
        calls.begin()
    assert refusal.value.detail()["reset_at"] == "2026-01-01T00:00:00.000000Z"
    used = calls.used(limit)
    inside = Principal(user="ann", job_id="j", root_job_id="j", depth=1)
    calls.begin(inside, seconds=100)
    assert calls.used(limit) == used  # its time lies within that of the call above


def test_run_time_is_settled_where_it_was_reserved(calls: Calls):
    limit = Counter("ann", USER, Metric.SECONDS, Period.MINUTE)
    calls.set(limit, 30)
    first = calls.begin(seconds=20)
    calls.moment += 20
    calls.end(calls.begin(seconds=20), seconds=15)
    calls.end(first, seconds=5)
    assert calls.used(limit) == 15
    calls.moment -= 20
    assert calls.used(limit) == 5


@pytest.mark.parametrize("metric", [Metric.CALLS, Metric.SECONDS])
def test_a_limit_that_comes_again_counts_anew(calls: Calls, metric: Metric):
    limit = Counter("ann", "key_1", metric, Period.MONTH)
    calls.set(limit, 10)
    calls.end(calls.begin(seconds=3), seconds=3)
    calls.set(limit, None)
    calls.begin(seconds=2)
    calls.set(limit, 10)
    assert calls.used(limit) == (2 if metric is Metric.CALLS else 0)  # what ran without a limit has no reservation
    calls.die()
    assert calls.used(limit) == (1 if metric is Metric.CALLS else 0)


def test_the_one_that_resets_last_is_told(calls: Calls):
    for period in (Period.DAY, Period.MONTH, Period.MINUTE):
        calls.set(Counter("ann", USER, Metric.CALLS, period), 1)
    calls.set(CONCURRENT[1], 1)
    calls.moment = 1_767_300_000.0
    calls.begin()
    for try_again in (calls.begin, lambda: calls.store.do(lambda c: calls.quotas.check(c, ANN))):
        with pytest.raises(QuotaExceeded) as refusal:
            try_again()
        assert refusal.value.detail()["quota_type"] == "calls_per_month"
        assert refusal.value.detail()["reset_at"] == "2026-02-01T00:00:00.000000Z"
        assert refusal.value.retry_after == counters.start_of(Period.MONTH, 1_770_000_000.0) - calls.moment


def test_places_are_those_of_calls_that_run(calls: Calls):
    calls.set(CONCURRENT[0], 2)
    first, _second = calls.begin(), calls.begin()
    calls.begin(Principal(user="ann", job_id=first, root_job_id=first, depth=1))  # its caller has the place
    with pytest.raises(QuotaExceeded) as refusal:
        calls.begin()
    assert (refusal.value.detail()["quota_type"], refusal.value.detail()["used"]) == ("concurrent_calls", 2)
    assert 1 <= refusal.value.retry_after <= 60
    calls.end(first)
    calls.begin()
    calls.die()
    assert calls.used(CONCURRENT[0]) == 0


@pytest.mark.parametrize("principal", [Principal(user="ann", root_job_id="t"), Principal(user="ann", tree_id="t")])
def test_a_tree_has_a_size(calls: Calls, principal: Principal):
    def grow(connection: Connection) -> None:
        trees.check(connection, principal, 3)
        trees.grow(connection, principal, 3, time.time())

    for _ in range(3):
        calls.store.do(grow)
    for work in (grow, lambda c: trees.grow(c, principal, 3, time.time())):
        with pytest.raises(QuotaExceeded) as refusal:
            calls.store.do(work)
        told = refusal.value.detail()
        assert (told["quota_type"], told["limit"], told["used"]) == ("calls_per_tree", 3, 3)
        assert refusal.value.retry_after is None
    calls.store.do(lambda c: trees.sweep(c, time.time() + trees.KEPT + 1))
    calls.store.do(grow)


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        (Period.MINUTE, 1_767_225_599.9, 1_767_225_540, 1_767_225_600),
        (Period.DAY, 1_767_225_599.9, 1_767_139_200, 1_767_225_600),
        (Period.MONTH, 1_767_225_599.9, 1_764_547_200, 1_767_225_600),
        (Period.MONTH, 1_767_225_600.0, 1_767_225_600, 1_769_904_000),
        (Period.MONTH, 1_709_210_000.0, 1_706_745_600, 1_709_251_200),
    ],
)
def test_periods(period: Period, moment: float, start: int, end: int):
    assert (counters.start_of(period, moment), counters.end_of(period, moment)) == (start, end)
