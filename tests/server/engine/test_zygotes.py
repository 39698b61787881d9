"""A zygote that ends, while a worker of it is being made, or serves, or waits: nobody else hears of it."""

import asyncio
import os
import signal

import pytest
from engine.conftest import run, running_engine, until, value

from gateway_server.engine.local import pool
from gateway_server.engine.local.cgroups import Unavailable
from gateway_server.engine.local.worker import Worker
from gateway_server.errors import ServiceUnavailable


@pytest.mark.parametrize("steps", range(4))
def test_nothing_is_closed_that_is_anothers_by_then(folder, monkeypatch, steps):
    connect, others = Worker.connect, []

    async def main():
        async with running_engine(folder) as engine:
            assert value(await engine.call("behaves", "count")) == 1
            zygote = engine.local._hosts["behaves"].zygote

            async def connects_while_its_zygote_ends(worker, connection, output):
                if worker.user != "ann":
                    return await connect(worker, connection, output)
                connecting = asyncio.ensure_future(connect(worker, connection, output))
                for _ in range(steps):
                    await asyncio.sleep(0)
                zygote.close()
                others.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(64))  # numbers that are free again
                return await connecting

            monkeypatch.setattr(Worker, "connect", connects_while_its_zygote_ends)
            with pytest.raises(ServiceUnavailable, match="call again"):
                await zygote.fork("ann")
            for number in others:
                os.close(number)
            await until(lambda: not zygote._workers and not zygote._forks)  # nor of the spare that is on its way
            assert value(await engine.call("behaves", "count")) == 1

    run(main())


def test_a_control_group_that_is_gone_is_told_of(folder, monkeypatch):
    async def main():
        async with running_engine(folder) as engine:
            assert value(await engine.call("behaves", "count")) == 1
            zygote = engine.local._hosts["behaves"].zygote
            if zygote.group is None:
                pytest.skip("this machine gives no control groups")
            furnish = zygote._furnish

            def furnishes_a_group_that_goes(*arguments):
                group = furnish(*arguments)
                group.remove()
                return group

            monkeypatch.setattr(zygote, "_furnish", furnishes_a_group_that_goes)
            with pytest.raises(ServiceUnavailable, match="control group"):
                await zygote.fork("ben")
            assert "ben" not in {worker.user for worker in zygote._workers.values()}

    run(main())


@pytest.fixture
def no_groups(monkeypatch):
    def none():
        raise Unavailable("not in this test")

    monkeypatch.setattr(pool, "Cgroups", none)


async def die(engine, zygote):
    """Ends a zygote from outside; its place is free then."""
    os.kill(zygote.pid, signal.SIGKILL)
    await until(lambda: zygote not in engine.local._zygotes)


@pytest.mark.usefixtures("no_groups")
def test_a_worker_that_outlives_its_zygote_does_not_end_the_next_one(folder, sandbox):
    """The next zygote's first worker has the uid of the one that is taken back then."""

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            with await engine.local.worker(engine.deployment("behaves"), "ann") as worker:
                host = engine.local._hosts["behaves"]
                await die(engine, host.zygote)
                assert value(await engine.call("behaves", "count", user="ben")) == 1
                successor = host.zygote
                assert host.idle["ben"][0].owner == worker.owner
            await until(lambda: not worker.workspace.exists() and not engine.local._cleanups)
            assert successor.alive
            assert value(await engine.call("behaves", "count", user="ben")) == 2

    run(main())


@pytest.mark.usefixtures("no_groups")
def test_workers_do_not_wait_for_calls_after_the_end_of_their_zygote(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            await engine.call("behaves", "count")
            await engine.call("misbehaves", "raises")
            assert engine.local.count_workers() == 2
            await die(engine, engine.local._hosts["behaves"].zygote)
            assert engine.local.count_workers() == 1
            assert not engine.local._hosts["behaves"].idle
            assert value(await engine.call("behaves", "count")) == 1

    run(main())
