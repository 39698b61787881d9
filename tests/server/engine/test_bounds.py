"""What packages take beyond their share ends them, with the reason told; with the sandbox off it comes through."""

import asyncio
import contextlib
import os
from dataclasses import replace

import pytest
from engine.conftest import running_engine
from engine.test_workers import run, until, value

from gateway_server.engine.local import pool, watchdog
from gateway_server.engine.local.cgroups import Unavailable
from gateway_server.engine.local.isolation import Isolation
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import RuntimeCrashed
from gateway_server.models import Failure, Result

SMALL = 96 << 20
"""Memory of the packages below."""


@pytest.mark.parametrize("function", ["memory_at_once", "memory_in_children", "memory_unmapped"])
def test_memory_beyond_the_manifests_ends_the_family(folder, sandbox, function):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            engine.memory = SMALL
            if sandbox == "off":
                return value(await engine.call("greedy", function, megabytes=160, seconds=0))
            with pytest.raises(RuntimeCrashed) as error:
                await engine.call("greedy", function, megabytes=160, seconds=30)
            assert value(await engine.call("greedy", "memory_at_once", megabytes=8, seconds=0)) == 8
            return str(error.value)

    told = run(main())
    if sandbox == "off":
        assert told == 160
    else:
        assert "exceeded the memory limit of 96 MiB" in told
        assert "execution_environment.memory" in told


@pytest.mark.parametrize(
    ("function", "amount"), [("memory_shared", {"megabytes": 48}), ("memory_reserved", {"gigabytes": 64})]
)
def test_honest_memory_is_left_alone(folder, sandbox, function, amount):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            engine.memory = SMALL
            return value(await engine.call("greedy", function, seconds=0.5, **amount))

    assert run(main()) == next(iter(amount.values()))


def test_an_import_that_takes_too_much_says_so(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            engine.memory = SMALL
            await engine.call("import_takes_memory", "size")

    if sandbox == "off":
        run(_import_without_limit(folder))
        return
    with pytest.raises(ImportFailed) as error:
        run(main())
    assert "memory limit of 96 MiB" in error.value.told["message"]


async def _import_without_limit(folder):
    async with running_engine(folder, sandbox="off") as engine:
        engine.memory = SMALL
        assert value(await engine.call("import_takes_memory", "size")) == 400 << 20


@pytest.fixture
def watched(sandbox, monkeypatch):
    """The same without control groups, at the level none, too: the setting that asks for it."""

    def none():
        raise Unavailable("not in this test")

    monkeypatch.setattr(pool, "Cgroups", none)
    if sandbox == "off":
        monkeypatch.setattr(pool, "candidates", lambda _setting: [Isolation.NONE])
        return "auto"
    return sandbox


@pytest.mark.parametrize("function", ["memory_at_once", "memory_in_children", "memory_unmapped"])
def test_without_control_groups_the_watchdog_bounds_memory(folder, watched, function):
    async def main():
        async with running_engine(folder, sandbox=watched) as engine:
            engine.memory = SMALL
            with pytest.raises(RuntimeCrashed) as error:
                await engine.call("greedy", function, megabytes=160, seconds=30)
            assert value(await engine.call("greedy", "memory_at_once", megabytes=8, seconds=0)) == 8
            return str(error.value)

    assert "exceeded the memory limit of 96 MiB" in run(main())


@pytest.mark.parametrize(
    ("function", "amount"), [("memory_shared", {"megabytes": 48}), ("memory_reserved", {"gigabytes": 64})]
)
def test_the_watchdog_leaves_honest_memory_alone(folder, watched, function, amount):
    async def main():
        async with running_engine(folder, sandbox=watched) as engine:
            engine.memory = SMALL
            return value(await engine.call("greedy", function, seconds=1, **amount))

    assert run(main()) == next(iter(amount.values()))


def test_an_idle_worker_may_not_keep_too_much_either(folder, watched, monkeypatch):
    monkeypatch.setattr(watchdog, "BUSY", 1.5)  # the call itself is over before anybody looks
    monkeypatch.setattr(watchdog, "IDLE", 0.05)

    async def main():
        async with running_engine(folder, sandbox=watched) as engine:
            engine.memory = SMALL
            assert value(await engine.call("greedy", "memory_at_once", megabytes=160, seconds=0)) == 160
            await until(lambda: all(family.pid is None for family in engine.local._families()))

    run(main())


DISK = [
    ("disk_one_file", {"place": "data/outputs", "megabytes": 40}),
    ("disk_several_files", {"place": "/dev/shm", "megabytes": 40}),
    ("disk_several_files", {"place": "/tmp", "megabytes": 40}),
    ("disk_unlinked", {"place": "data", "megabytes": 40}),
    ("disk_mapped", {"megabytes": 40}),
    ("disk_hidden", {"megabytes": 40}),
]


@pytest.mark.parametrize(("function", "amount"), DISK)
def test_a_workspace_has_a_limit_however_it_is_filled(folder, sandbox, function, amount):
    async def main():
        options = {} if function == "disk_one_file" else {"workspace_limit": 24 << 20}
        async with running_engine(folder, sandbox=sandbox, **options) as engine:
            if options == {}:
                engine.local._settings = replace(engine.local._settings, workspace_limit=24 << 20)
            if sandbox == "off":
                if amount.get("place", "").startswith("/"):
                    return None  # these are the machine's own there
                return value(await engine.call("greedy", function, seconds=0, **amount))
            if sandbox == "pids" and os.geteuid() != 0 and function == "disk_mapped":
                return None  # shown to root alone
            with pytest.raises(RuntimeCrashed) as error:
                await engine.call("greedy", function, seconds=30, **amount)
            await until(lambda: _files(folder / "work") < 20)
            return str(error.value)

    told = run(main())
    if sandbox == "off":
        assert told in (None, 40)
    elif told is not None:
        assert "limit of 24 MiB" in told


def _files(folder) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def test_one_file_cannot_be_larger_than_the_workspace(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox, workspace_limit=24 << 20) as engine:
            return (await engine.call("greedy", "disk_sparse", megabytes=40, seconds=0)).last

    last = run(main())
    if sandbox == "off":
        assert isinstance(last, Result)
    else:
        assert isinstance(last, Failure)
        assert "File too large" in last.error["message"]


def test_holes_in_files_take_no_room(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox, workspace_limit=24 << 20) as engine:
            return value(await engine.call("greedy", "disk_sparse", megabytes=20, seconds=1, files=4))

    assert run(main()) == 20


@pytest.mark.parametrize(("function", "told"), [("many_files", "200 files"), ("deep_folders", "100 folders inside")])
def test_the_number_of_files_has_a_limit(folder, sandbox, function, told):
    async def main():
        async with running_engine(folder, sandbox=sandbox, workspace_files=200) as engine:
            count = 250 if function == "many_files" else 150
            if sandbox == "off":
                assert value(await engine.call("greedy", function, count=count, seconds=0)) == count
                return
            with pytest.raises(RuntimeCrashed, match=told):
                await engine.call("greedy", function, count=count, seconds=30)

    run(main())


def test_inputs_do_not_count(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox, workspace_limit=24 << 20) as engine:
            deployment = engine.deployment("greedy")
            with await engine.local.worker(deployment, "ann") as worker:
                (worker.workspace / "data/inputs/large").write_bytes(bytes(40 << 20))
                await worker.measure_inputs()
                order = {"function": "waits", "parameters": {"seconds": 1}, "environment": {}}
                return await worker.run({**order, "stream": False, "fold": False}, lambda _data: None)

    assert isinstance(run(main()), Result)


def test_the_disk_never_gets_full(folder, sandbox, monkeypatch):
    """With a reserve that no disk has left, whoever takes most has to go, and those who take little stay."""
    monkeypatch.setattr(watchdog, "RESERVE_SHARE", 1.0)

    async def main():
        async with running_engine(folder, sandbox=sandbox, disk_reserve=1 << 60) as engine:
            small = asyncio.create_task(
                engine.call("greedy", "disk_one_file", user="bob", place="data", megabytes=1, seconds=1)
            )
            large = engine.call("greedy", "disk_one_file", place="data", megabytes=20, seconds=30 * (sandbox != "off"))
            if sandbox == "off":
                assert value(await large) == 20
            else:
                with pytest.raises(RuntimeCrashed, match="this call took the most of it"):
                    await large
            assert value(await small) == 1

    run(main())


def test_folders_too_deep_to_be_removed_are_removed_all_the_same(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            with contextlib.suppress(RuntimeCrashed):  # the watchdog may have seen it in time
                await engine.call("greedy", "deep_folders", count=3000, seconds=0)
            await until(lambda: not [*(folder / "work").glob("*/*/d")])
            assert value(await engine.call("greedy", "waits", seconds=0)) == 0

    run(main())


def test_what_a_dead_gateway_left_too_deep_does_not_keep_the_next_from_starting(folder, sandbox):
    here, deep = os.getcwd(), folder / "work" / "0.1" / "1"
    deep.mkdir(parents=True)
    os.chdir(deep)
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)

    async def main():
        async with running_engine(folder, sandbox=sandbox):
            assert not deep.exists()

    run(main())
