"""Packages that do not let go: of the process that imports them, of a worker that has answered."""

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest
from engine.conftest import gives_groups, running_engine
from engine.test_workers import alive_below, run, until, value

from gateway_server.engine.local import pool, watchdog, worker, zygotes
from gateway_server.engine.local.cgroups import Unavailable
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import RuntimeCrashed, ServiceUnavailable

PACKAGE = "import_takes_over"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(zygotes, "PATIENCE", 0.5)
    monkeypatch.setattr(worker, "PATIENCE", 0.5)
    monkeypatch.setattr(watchdog, "IDLE", 0.4)


@pytest.fixture(params=["groups", "no groups"])
def groups(request, monkeypatch):
    if request.param == "no groups":

        def none():
            raise Unavailable("not in this test")

        monkeypatch.setattr(pool, "Cgroups", none)
    return request.param == "groups"


def take_over(engine, way):
    engine.vary(PACKAGE, PACKAGE, settings={"TAKES_OVER": way})


@pytest.mark.parametrize("way", ["lies", "deaf"])
def test_who_does_not_end_its_workers_is_ended(folder, sandbox, groups, way):
    if way == "lies" and (sandbox == "off" or not ((groups and gives_groups()) or has_uids(sandbox))):
        pytest.skip("there nobody can tell whose a process is")

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            take_over(engine, way)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await engine.call(PACKAGE, "hangs")
            await until(lambda: not alive_below(engine.local._launcher.pid), 10)
            assert value(await engine.call("behaves", "add", a=1)) == 3

    run(main())


def has_uids(sandbox):
    return sandbox == "required" and pool.candidates(sandbox)[0] == "uids"


@pytest.mark.parametrize("way", ["exited", "forked", "killed", "refused", "ready", "failed", "nothing known"])
def test_nonsense_in_a_zygotes_name_ends_it_and_nothing_else(folder, way):
    async def main():
        async with running_engine(folder) as engine:
            take_over(engine, way)
            calm = asyncio.create_task(engine.call("behaves", "waits", seconds=1))
            async with asyncio.timeout(15):
                for _ in range(2):
                    try:
                        assert value(await engine.call(PACKAGE, "answers")) == "answered"
                    except (ServiceUnavailable, RuntimeCrashed, ImportFailed):
                        continue
            assert value(await calm) == {"waited": 1}

    run(main())


@pytest.mark.parametrize(
    "news",
    [
        {"forked": 1, "pid": [1]},
        {"forked": 1, "pid": None},
        {"forked": True, "pid": 1},
        {"forked": 1.0, "pid": 1},
        {"exited": 1, "code": 0, "signal": [9]},
        {"exited": 1, "code": "none", "signal": 0},
        {"killed": 1.5},
        {"refused": True, "message": ""},
    ],
)
def test_what_is_no_number_ends_a_zygote_before_anybody_reckons_with_it(folder, monkeypatch, news):
    def none():
        raise Unavailable("not in this test")

    monkeypatch.setattr(pool, "Cgroups", none)

    async def main():
        async with running_engine(folder) as engine:
            take_over(engine, json.dumps(news))
            with contextlib.suppress(ServiceUnavailable, RuntimeCrashed):
                assert value(await engine.call(PACKAGE, "answers")) == "answered"
            await until(lambda: not any(zygote.alive for zygote in engine.local._zygotes))
            assert value(await engine.call("behaves", "add", a=1)) == 3

    run(main())


def test_a_worker_can_be_ended_before_it_has_taken_its_uid(folder, sandbox, groups):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            take_over(engine, "late")
            zygote = await engine.local._zygote(engine.local._host(engine.deployment(PACKAGE)))
            worker = await zygote.fork("ann")
            await worker.dispose()
            await until(lambda: not alive_below(zygote.pid))
            assert zygote.alive

    run(main())


def test_who_computes_between_calls_is_ended(folder, sandbox):
    if sandbox == "off":
        return

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            take_over(engine, "spins")
            assert value(await engine.call(PACKAGE, "answers")) == "answered"
            await until(lambda: not alive_below(engine.local._launcher.pid), 20)

    run(main())


def test_a_worker_that_goes_on_after_its_answer_is_ended_and_an_honest_one_is_not(folder, sandbox):
    if sandbox == "off":
        return

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            assert value(await engine.call("hostile", "stays_busy", seconds=60)) == "answered"
            assert value(await engine.call("behaves", "add", a=1)) == 3
            assert engine.local.count_workers() == 2
            hosts = engine.local._hosts
            await until(lambda: not any(one.alive for one in hosts["hostile"].idle.get("ann", ())), 20)
            assert hosts["behaves"].idle["ann"][0].alive

    run(main())


@pytest.mark.parametrize(("calls", "spent", "doomed"), [(1, 0.9, True), (1, 0.3, False), (2, 0.9, False)])
def test_what_counts_is_what_was_taken_since_the_last_look_with_nothing_to_do(
    monkeypatch, tmp_path, calls, spent, doomed
):
    times = iter([5.0, 5.0 + spent])
    monkeypatch.setattr(watchdog.measuring, "processor_time", lambda _pids: next(times))
    dog = watchdog.Watchdog(list, tmp_path, most_files=10, reserve=0)
    family = watchdog.Family(
        folder=tmp_path, memory=1, disk=1, is_busy=False, calls=1, group=None, zygote=0, pid=7, end=None
    )
    assert dog._restless([family], [[7]], 2.0) == []
    assert bool(dog._restless([replace(family, calls=calls)], [[7]], 2.0)) is doomed
