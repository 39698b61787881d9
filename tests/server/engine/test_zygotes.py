"""A zygote that ends, while a worker of it is being made, or serves, or waits: nobody else hears of it."""

import asyncio
import errno
import os
import signal

import pytest
from engine.conftest import run, running_engine, until, value

from gateway_server.engine.local import pool, zygotes
from gateway_server.engine.local.cgroups import Unavailable
from gateway_server.engine.local.packets import Packets
from gateway_server.engine.local.worker import Worker
from gateway_server.engine.local.zygotes import Zygote
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


def fails_once(function, error):
    """What it raises the first time; then it does as `function`."""
    errors = [error]

    def failing(*arguments):
        if errors:
            raise errors.pop()
        return function(*arguments)

    return failing


FULL = OSError(errno.ENOSPC, "No space left on device")
MANY = OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (Zygote, "_lay_out", FULL),
        (zygotes.socket, "socketpair", MANY),
        (zygotes.os, "pipe", MANY),
        (Zygote, "_new_group", ServiceUnavailable("no group")),
        (Packets, "send", ServiceUnavailable("no answer")),
    ],
)
@pytest.mark.filterwarnings("error")
def test_one_that_could_not_be_started_leaves_nothing(folder, monkeypatch, owner, name, error):
    async def main():
        async with running_engine(folder) as engine:
            await until(lambda: not engine.local._zygotes and not engine.local._cleanups)
            before = os.listdir(folder / "work"), len(os.listdir("/proc/self/fd"))
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fails_once(getattr(owner, name), error))
                with pytest.raises(ServiceUnavailable):
                    await engine.call("behaves", "count")
            await until(lambda: not engine.local._zygotes and not engine.local._cleanups)
            assert not engine.local._slots
            assert (os.listdir(folder / "work"), len(os.listdir("/proc/self/fd"))) == before
            assert value(await engine.call("behaves", "count")) == 1
            assert engine.local._hosts["behaves"].zygote.slot == 0

    run(main())


def test_who_stops_waiting_for_the_launcher_leaves_nothing(folder, sandbox):
    """What was ordered is ended as soon as the launcher has made it, and its place is taken until then."""

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            launcher = engine.local._launcher
            await until(lambda: not engine.local._zygotes)
            os.kill(launcher.pid, signal.SIGSTOP)
            call = asyncio.create_task(engine.call("behaves", "count"))
            await until(lambda: launcher._waiting)
            engine.local._hosts["behaves"].starting.cancel()
            await asyncio.wait([call])
            assert engine.local._slots == {0}
            os.kill(launcher.pid, signal.SIGCONT)
            await until(lambda: not engine.local._slots)
            assert not launcher._ended
            assert value(await engine.call("behaves", "count")) == 1

    run(main())


def test_the_launcher_forgets_what_it_could_not_start(folder, monkeypatch):
    async def main():
        async with running_engine(folder) as engine:
            await until(lambda: not engine.local._zygotes)
            order = engine.local._layout.order
            with monkeypatch.context() as patch:
                patch.setattr(type(engine.local._layout), "order", lambda _, *words: {**order(*words), "root": "/no"})
                with pytest.raises(ServiceUnavailable, match="could not be started"):
                    await engine.call("behaves", "count")
            assert not engine.local._slots
            assert not engine.local._launcher._ended

    run(main())
