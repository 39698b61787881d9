"""Limits hold exactly, whether the database decides or what is remembered, and whatever comes between."""

import asyncio
import http.client
import json
import sqlite3
import tempfile
import threading
import time
from collections import Counter as Counts
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from gateways import Gateway, running_gateway
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import write_package
from sqlalchemy import select

from gateway_server.calls import ledger, records
from gateway_server.calls import standings as module
from gateway_server.calls.events import Events
from gateway_server.calls.jobs import Ending, Jobs, new_id
from gateway_server.calls.ledger import Ledger
from gateway_server.calls.pipeline import Pipeline
from gateway_server.calls.preparation import Ready
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.running import RunningCalls
from gateway_server.calls.standings import Standings
from gateway_server.errors import QuotaExceeded, ServiceUnavailable
from gateway_server.identity.keys import Keys
from gateway_server.identity.users import Users
from gateway_server.models import Call, JobStatus, Principal, Scope
from gateway_server.store import migrations, schema
from gateway_server.store.counters import USER, Counter, Metric, Period, start_of
from gateway_server.store.database import Database
from gateway_server.store.journal import Journal

ADMIN = Principal(user="admin")
CALL = Call(prefab_id="p", version="1.0.0", function_name="f", parameters={})
DONE = Ending(status=JobStatus.SUCCEEDED, result=b"{}")


class Clock:
    """The time of day, which goes on when it is told, beside that of the loop."""

    def __init__(self) -> None:
        self.now = start_of(Period.DAY, time.time()) + 3600.0

    def __call__(self) -> float:
        self.now += 1e-4
        return self.now


@cache
def empty_database() -> bytes:
    """The file of a database as it is made, once for all examples."""
    with tempfile.TemporaryDirectory() as folder:
        with closing(Database.in_folder(Path(folder))._engine.connect()) as connection:
            migrations.upgrade(connection)
            connection.commit()
        return (Path(folder) / "gateway.db").read_bytes()


class Desk:
    """Where calls of ann are admitted as the pipeline does it."""

    def __init__(self, folder: Path, clock: Clock, *, journal: str = "journal") -> None:
        self.clock = clock
        if not (folder / "gateway.db").exists():
            (folder / "gateway.db").write_bytes(empty_database())
        self.database = Database.in_folder(folder)
        self.quotas = Quotas(self.database, None, clock=clock)
        self.standings = Standings(self.database, self.quotas)
        self.jobs = Jobs(self.database)
        self.ledger = Ledger(self.database, self.quotas, lambda: Journal(folder / journal, size=1 << 18))
        self.pipeline = Pipeline(
            log_limit=100,
            database=self.database,
            preparation=Mock(),
            attempts=Mock(),
            quotas=self.quotas,
            jobs=self.jobs,
            events=Events(self.database),
            running=RunningCalls(),
            ledger=self.ledger,
            standings=self.standings,
        )
        self.limits: dict[tuple[str, Period], int | None] = {}
        self.charged: list[tuple[str, float, str]] = []
        """Key, moment and id of each call that was admitted and not taken back."""
        self.running: list[str] = []

    async def open(self) -> None:
        self.database.open()
        await self.ledger.open()
        keys = Keys(self.database, Users(self.database))
        self.keys = [(await keys.create("ann", [Scope.CALL]))[1].id for _ in range(2)]

    async def close(self) -> None:
        await self.ledger.close()
        await self.database.close()

    def _ready(self, key: int) -> Ready:
        deadline = asyncio.get_running_loop().time() + 60
        principal = Principal(user="ann", key_id=self.keys[key])
        return Ready(
            principal=principal, call=CALL, version=Mock(), function=Mock(), files={}, secrets={}, deadline=deadline
        )

    async def call(self, key: int) -> str | None:
        """The id of a call that was admitted, or None."""
        ready, job_id = self._ready(key), new_id()
        try:
            if not await self.standings.has_room(ready.principal):
                await self.database.read(lambda c: self.quotas.check(c, ready.principal))
            await self.pipeline.admit(ready, job_id)
        except QuotaExceeded:
            return None
        return job_id

    async def submit(self, key: int) -> str | None:
        """The same for one that waits: the database decides."""
        ready, job_id = self._ready(key), new_id()
        try:
            work = lambda c: self.pipeline.accept(c, ready, job_id, key=None, status=JobStatus.QUEUED)  # noqa: E731
            await self.standings.decided("ann", self.database.hand_over(self.ledger.after(work)))
        except (QuotaExceeded, ServiceUnavailable):
            return None
        return job_id

    async def set(self, which: int | None, period: Period, limit: int | None) -> None:
        key = USER if which is None else self.keys[which]
        change = self.quotas.set(Counter("ann", key, Metric.CALLS, period), limit, ADMIN)
        await self.standings.decided("ann", change)
        self.limits[key, period] = limit

    def counted(self, key: str, period: Period, moment: float) -> int:
        start = start_of(period, moment)
        return sum(key in (USER, other) and start_of(period, at) == start for other, at, _ in self.charged)

    def is_full(self, key: int, moment: float) -> bool:
        return any(
            limit is not None and whose in (USER, self.keys[key]) and self.counted(whose, period, moment) >= limit
            for (whose, period), limit in self.limits.items()
        )

    async def come(self, wanted: list[tuple[str, int]]) -> None:
        """Several at the same moment; none beyond a limit, and none refused that had room."""
        before = {(whose, period): self.counted(whose, period, self.clock.now) for whose, period in self.limits}
        made = [self.call(key) if kind == "call" else self.submit(key) for kind, key in wanted]
        outcomes = await asyncio.gather(*made)
        moment = self.clock.now
        for (kind, key), job_id in zip(wanted, outcomes, strict=True):
            if job_id is not None:
                self.charged.append((self.keys[key], moment, job_id))
                if kind == "call":
                    self.running.append(job_id)
        for (whose, period), limit in self.limits.items():
            found = self.counted(whose, period, moment)
            assert limit is None or found <= max(limit, before[whose, period]), (whose, period)
        for (_, key), job_id in zip(wanted, outcomes, strict=True):
            assert job_id is not None or self.is_full(key, moment), "there was room"

    async def end(self, *, charged: bool) -> None:
        if not self.running:
            return
        job_id = self.running.pop(0)
        if not self.ledger.has_begun(job_id) or not self.ledger.end(job_id, DONE, charged=charged, events=b""):
            refund = not charged

            def work(connection: Any) -> None:
                self.jobs.close(connection, job_id, DONE)
                self.quotas.settle(connection, job_id, refund=refund)

            await self.database.write(work)
        if not charged:
            self.charged = [one for one in self.charged if one[2] != job_id]

    async def check(self) -> None:
        """What is counted is what is recorded, and what was told."""
        table = schema.jobs
        wanted = select(table.c.id, table.c.key_id).where(table.c.user == "ann", table.c.charged)
        rows = await self.database.read(lambda c: c.execute(wanted).all())
        assert sorted(row.id for row in rows) == sorted(job_id for _, _, job_id in self.charged)
        assert Counts(row.key_id for row in rows) == Counts(key for key, _, _ in self.charged)
        shown = {
            (quota.counter.key_id, quota.counter.metric, quota.counter.period): quota
            for quota in await self.quotas.show("ann")
        }
        assert shown[USER, Metric.CALLS, Period.DAY].used == len(rows)
        for (whose, period), limit in self.limits.items():
            if limit is not None:
                assert shown[whose, Metric.CALLS, period].used == self.counted(whose, period, self.clock.now)


kinds = st.tuples(st.sampled_from(["call", "call", "call", "submit"]), st.integers(0, 1))
steps = st.one_of(
    st.tuples(st.just("come"), st.lists(kinds, min_size=1, max_size=8)),
    st.tuples(st.just("come"), st.lists(kinds, min_size=1, max_size=8)),
    st.tuples(
        st.just("set"),
        st.tuples(
            st.sampled_from([None, 0, 1]),
            st.sampled_from([Period.MINUTE, Period.DAY]),
            st.none() | st.integers(0, 25),
        ),
    ),
    st.tuples(st.just("end"), st.booleans()),
    st.tuples(st.just("minute"), st.just(None)),
    st.tuples(st.just("settle"), st.just(None)),
)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.lists(steps, max_size=25))
def test_limits_hold_exactly_whatever_comes_between(limit: int, steps: list[tuple[str, Any]]) -> None:
    async def main(folder: Path, clock: Clock) -> None:
        desk = Desk(folder, clock)
        await desk.open()
        try:
            await desk.set(None, Period.DAY, limit)
            for step, detail in steps:
                if step == "come":
                    await desk.come(detail)
                elif step == "set":
                    await desk.set(*detail)
                elif step == "end":
                    await desk.end(charged=detail)
                elif step == "minute":
                    clock.now += 61
                elif step == "settle":
                    await desk.ledger.settle()
            await desk.check()
        finally:
            await desk.close()

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(time, "time", clock)
        asyncio.run(asyncio.wait_for(main(Path(folder), clock), 30))


def test_many_at_once_get_exactly_what_there_is(tmp_path: Path) -> None:
    async def main(clock: Clock) -> None:
        desk = Desk(tmp_path, clock)
        await desk.open()
        try:
            await desk.set(None, Period.DAY, 150)
            for _ in range(4):
                await desk.come([("submit" if number % 9 == 0 else "call", number % 2) for number in range(60)])
            assert len(desk.charged) == 150
            await desk.check()
        finally:
            await desk.close()

    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(time, "time", clock)
        asyncio.run(asyncio.wait_for(main(clock), 30))


def test_many_users_are_looked_up_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look has everything written that was recorded: one for each user would be a transaction for each."""
    monkeypatch.setattr(module, "GATHER", 0.01)
    callers = [Principal(user=f"user-{number}") for number in range(30)]

    async def main() -> None:
        desk = Desk(tmp_path, Clock())
        await desk.open()
        reads: list[Any] = []
        read = desk.database.read

        async def counted(work: Any, **options: Any) -> Any:
            reads.append(work)
            return await read(work, **options)

        monkeypatch.setattr(desk.database, "read", counted)
        try:
            assert all([await desk.standings.has_room(caller) for caller in callers])
            assert not reads  # nobody was known, and each was found at once
            known = {user: dict(found) for user, found in desk.standings._known.items()}
            monkeypatch.setattr(module, "AHEAD", 2 * module.REMEMBERED_FOR)  # all of them are old by now
            assert all([await desk.standings.has_room(caller) for caller in callers])
            while desk.standings._due or desk.standings._looks:
                await asyncio.sleep(0.001)
            assert len(reads) == 1
            assert all(desk.standings._known[user] != found for user, found in known.items())
        finally:
            await desk.close()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("looks_up", [True, False])
def test_who_has_called_is_looked_up_with_what_has_been_kept_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, looks_up: bool
) -> None:
    """Somebody new is found at once. Once they have called, the database does not know of it at once, and their limit
    holds all the same when what is remembered of them is too old."""
    monkeypatch.setattr(Database, "looks_up", looks_up)
    monkeypatch.setattr(ledger, "EVERY", 60)

    async def main() -> None:
        desk = Desk(tmp_path, Clock())
        await desk.open()
        try:
            await desk.set(None, Period.DAY, 3)
            for _ in range(5):
                await desk.come([("call", 0)])
                monkeypatch.setattr(module, "REMEMBERED_FOR", -1.0)  # from now on: each is looked up
            assert len(desk.charged) == 3
            await desk.check()
        finally:
            await desk.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_what_is_known_of_many_users_stays_bounded_and_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)

    async def main() -> None:
        clock = Clock()
        desk = Desk(tmp_path, clock)
        await desk.open()
        try:
            await desk.set(None, Period.DAY, 20)
            others = [Principal(user=f"user-{number}") for number in range(20)]
            looks = [desk.standings.has_room(other) for other in others]
            await asyncio.gather(desk.come([("call", 0)] * 10), *looks)
            for other in others:
                assert await desk.standings.has_room(other)
                await desk.come([("call", 1)])
            assert len(desk.standings._known) <= 3
            assert len(desk.charged) == 20
        finally:
            await desk.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_limit_holds_where_records_fail_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([sqlite3.OperationalError("disk I/O error")])
    write = records.write

    def fail_once(*arguments: Any) -> None:
        for error in outcomes:
            raise error
        write(*arguments)

    async def main() -> None:
        desk = Desk(tmp_path, Clock())
        await desk.open()
        try:
            await desk.set(None, Period.DAY, 6)
            await desk.come([("call", 0)] * 5)
            monkeypatch.setattr(ledger, "AGAIN", 0.01)
            monkeypatch.setattr(records, "write", fail_once)
            admitted = await asyncio.gather(*(desk.submit(0) for _ in range(3)))
            assert 3 - admitted.count(None) <= 1
            while await desk.submit(0) is None and desk.database.lags():
                await asyncio.sleep(0.005)  # between two tries
            quota = (await desk.quotas.show("ann"))[0]
            assert quota.used == 6
        finally:
            await desk.close()

    asyncio.run(asyncio.wait_for(main(), 30))


CALLERS, LIMIT = 50, 300


class Crowd:
    """Callers who call until they are refused."""

    def __init__(self, gateway: Gateway, keys: list[str]) -> None:
        self.statuses: Counts[int] = Counts()
        self.refusals: list[dict[str, Any]] = []
        self._host = gateway.url.removeprefix("http://")
        self._lock = threading.Lock()
        threads = [threading.Thread(target=self._call, args=(keys[n % len(keys)],)) for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)

    def _call(self, key: str) -> None:
        call = {"prefab_id": "ping", "version": "1.0.0", "function_name": "ping", "inputs": {"parameters": {}}}
        body, headers = json.dumps({"calls": [call]}), {"X-API-Key": key, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self._host, timeout=60)
        with closing(connection):
            for _ in range(LIMIT):
                connection.request("POST", "/v1/run", body, headers)
                answer = connection.getresponse()
                told = json.loads(answer.read())
                with self._lock:
                    self.statuses[answer.status] += 1
                    if answer.status == 429:
                        self.refusals.append(told["detail"])
                if answer.status != 200:
                    return


@pytest.mark.parametrize("keys", [1, 2])
def test_a_crowd_gets_exactly_as_many_calls_as_the_limit_says(gateway: Gateway, keys: int) -> None:
    user = f"crowd-{keys}"
    made = [gateway.key(user) for _ in range(keys)]
    gateway.request("PUT", f"/v1/quotas/{user}", json={"limit": LIMIT}).raise_for_status()
    crowd = Crowd(gateway, made)
    assert crowd.statuses == {200: LIMIT, 429: CALLERS}
    assert {(told["limit"], told["used"], told["quota_type"]) for told in crowd.refusals} == {
        (LIMIT, LIMIT, "calls_per_day")
    }
    assert gateway.request("GET", "/v1/quotas", key=made[0]).json()["used"] == LIMIT
    with closing(sqlite3.connect(gateway.data / "gateway.db", timeout=10)) as database:
        wanted = "SELECT count(*) FROM jobs WHERE user = ? AND charged AND status = 'succeeded'"
        assert database.execute(wanted, (user,)).fetchone() == (LIMIT,)


def test_a_lower_limit_holds_from_its_answer_on(gateway: Gateway) -> None:
    key = gateway.key("lowered")
    call = {"prefab_id": "ping", "version": "1.0.0", "function_name": "ping", "inputs": {"parameters": {}}}

    def status() -> int:
        return gateway.request("POST", "/v1/run", key=key, json={"calls": [call]}).status_code

    assert [status() for _ in range(5)] == [200] * 5
    for limit, wanted in ((5, 429), (6, 200), (6, 429), (None, 200), (7, 429), (0, 429), (8, 200), (8, 429)):
        gateway.request("PUT", "/v1/quotas/lowered", json={"limit": limit}).raise_for_status()
        assert status() == wanted, limit


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("standings")
    with running_gateway(folder / "data", "--sandbox", "off") as started:
        started.publish(write_package(folder / "ping", "def ping():\n    return 1\n", prefab_id="ping"))
        yield started
