"""A zygote that ends, while a worker of it is being made, or serves, or waits: nobody else hears of it."""

import asyncio
import errno
import os
import py_compile
import signal
import threading

import pytest
from engine.conftest import run, running_engine, until, value
from engine.test_workers import alive_below

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


async def settled_zygote(engine):
    """One that has an idle worker, and perhaps one that was made ahead."""
    assert value(await engine.call("behaves", "count")) == 1
    host = engine.local._hosts["behaves"]
    await until(lambda: host.spares.are_ready and all(one._has_greeted for one in host.zygote._workers.values()))
    return host.zygote


def left_by(engine, zygote):
    """What the workers of a zygote have: folders, control groups, descriptors and processes."""
    groups = engine.local._cgroups.folders if engine.local._cgroups is not None else []
    folders = [os.listdir(path) for path in (zygote._work, *groups)]
    return (
        [sorted(names) for names in folders],
        len(os.listdir("/proc/self/fd")),
        len(alive_below(zygote.pid)),
        set(zygote._workers),
    )


async def fails_to_connect(worker, connection, output):
    connection.close()
    os.close(output)
    raise MANY


def does_not_send(packets, message, descriptors=None):
    raise ServiceUnavailable("the zygote does not read")


@pytest.mark.parametrize(
    ("owner", "name", "failing"),
    [
        (zygotes.workspace, "make", None),
        (Zygote, "_new_group", None),
        (zygotes.os, "pipe", None),
        (Worker, "connect", fails_to_connect),
        (Packets, "send", does_not_send),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_worker_that_cannot_be_made_leaves_nothing(folder, monkeypatch, owner, name, failing):
    async def main():
        async with running_engine(folder) as engine:
            zygote = await settled_zygote(engine)
            before = left_by(engine, zygote)
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing or fails_once(getattr(owner, name), MANY))
                with pytest.raises(ServiceUnavailable):
                    await zygote.fork("ben")
                await until(lambda: left_by(engine, zygote) == before)
            worker = await zygote.fork("ben")
            await worker.dispose()
            await until(lambda: left_by(engine, zygote) == before)

    run(main())


def test_a_worker_that_nobody_waits_for_any_more_leaves_nothing(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            zygote = await settled_zygote(engine)
            before = left_by(engine, zygote)
            os.kill(zygote.pid, signal.SIGSTOP)
            fork = asyncio.create_task(zygote.fork("ben"))
            await until(lambda: zygote._forks)
            fork.cancel()
            await asyncio.wait([fork])
            os.kill(zygote.pid, signal.SIGCONT)
            await until(lambda: not zygote._forks and left_by(engine, zygote) == before)

    run(main())


@pytest.mark.usefixtures("no_groups")
def test_nobody_has_the_number_of_a_worker_whose_folder_is_still_being_removed(folder, monkeypatch):
    remove, may_go_on = Worker.remove, threading.Event()

    def removes_late(worker):
        may_go_on.wait(20)
        remove(worker)

    async def main():
        async with running_engine(folder) as engine:
            zygote = await settled_zygote(engine)
            monkeypatch.setattr(zygotes, "LAST_NUMBER", 2)
            monkeypatch.setattr(Worker, "remove", removes_late)
            late = await zygote.fork("ben")
            ending = asyncio.create_task(late.dispose())
            await until(lambda: late.number not in zygote._workers)
            with pytest.raises(ServiceUnavailable, match="in use"):
                await zygote.fork("cid")
            may_go_on.set()
            await ending
            worker = await zygote.fork("cid")
            assert worker.workspace == late.workspace
            assert worker.workspace.exists()

    run(main())


def test_a_call_that_has_not_begun_gets_another_zygote_where_its_own_has_ended(folder, sandbox, monkeypatch):
    connect, ended = Worker.connect, []

    async def connects_and_loses_its_zygote(worker, connection, output):
        await connect(worker, connection, output)
        if not ended:
            ended.append(worker.zygote)
            worker.zygote.close()

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            engine.deployment("behaves")
            monkeypatch.setattr(Worker, "connect", connects_and_loses_its_zygote)
            assert value(await engine.call("behaves", "count")) == 1
            assert ended
            assert not ended[0].alive

    run(main())


def test_a_library_that_brings_a_src_of_its_own_is_not_taken_for_the_package(folder):
    async def main():
        async with running_engine(folder) as engine:
            deployment = engine.deployment("behaves")
            (deployment.code / "src" / "__init__.py").unlink()
            (deployment.packages / "src").mkdir(mode=0o755)
            (deployment.packages / "src" / "__init__.py").write_text("")
            assert value(await engine.call("behaves", "count")) == 1

    run(main())


def test_a_package_that_is_compiled_finds_its_libraries(folder):
    async def main():
        async with running_engine(folder) as engine:
            deployment = engine.deployment("behaves")
            init = deployment.code / "src" / "__init__.py"
            init.write_text("import library")
            py_compile.compile(str(init), str(init.with_suffix(".pyc")))
            init.unlink()
            (deployment.packages / "library.py").write_text("")
            assert value(await engine.call("behaves", "count")) == 1

    run(main())
