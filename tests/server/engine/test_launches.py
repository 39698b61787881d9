"""The launcher is there once, however many ask for it, and another is there when it has ended."""

import asyncio
import errno
import os
import signal

import pytest
from engine.conftest import run, running_engine, until, value
from engine.test_workers import alive_below, commands

from gateway_server.engine.local import launches
from gateway_server.engine.local.launches import Launcher
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import ServiceUnavailable
from gateway_server.models import Failure
from gateway_server.prefabs.environments import lay_out_support


def launchers() -> set[int]:
    """Those of this process, by their pids: those of gateways that other tests share are among them."""
    return {pid for pid in alive_below(os.getpid()) if b"local/launcher.py" in commands(pid)}


def test_versions_called_together_share_the_one_that_is_started(folder, sandbox):
    others = launchers()

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            os.kill(engine.local._launcher.pid, signal.SIGKILL)
            await until(lambda: not engine.local._launcher.is_alive)
            engine.vary("behaves", "behaves-too")
            calls = [engine.call(package, "count") for package in ("behaves", "behaves-too")]
            assert [value(answer) for answer in await asyncio.gather(*calls)] == [1, 1]
            assert launchers() - others == {engine.local._launcher.pid}
            for host in engine.local._hosts.values():
                assert engine.local.owns(host.zygote.pid)
        assert launchers() <= others

    run(main())


def test_the_end_comes_after_a_start_that_is_on_its_way(folder, monkeypatch):
    execute = asyncio.create_subprocess_exec
    others = launchers()

    async def main():
        launcher, begun, may_go_on = Launcher(lay_out_support(folder)), asyncio.Event(), asyncio.Event()

        async def executes_late(*words, **options):
            begun.set()
            await may_go_on.wait()
            return await execute(*words, **options)

        monkeypatch.setattr(launches.asyncio, "create_subprocess_exec", executes_late)
        start = asyncio.create_task(launcher.start())
        await begun.wait()
        close = asyncio.create_task(launcher.close())
        await asyncio.sleep(0)
        may_go_on.set()
        await asyncio.gather(start, close)
        assert launchers() <= others
        with pytest.raises(ServiceUnavailable):
            await launcher.start()
        assert launchers() <= others

    run(main())


@pytest.mark.filterwarnings("error")
def test_one_that_cannot_be_started_is_told_of(folder, monkeypatch):
    async def fails(*_words, **_options):
        raise OSError(errno.EMFILE, "Too many open files")

    async def main():
        launcher = Launcher(lay_out_support(folder))
        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(launches.asyncio, "create_subprocess_exec", fails)
            with pytest.raises(ServiceUnavailable, match="Too many open files"):
                await launcher.start()
        assert len(os.listdir("/proc/self/fd")) == before
        assert not launcher.is_alive

    run(main())


def test_the_end_of_the_launcher_is_the_end_of_a_package_that_still_imports(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            launcher = engine.local._launcher
            call = asyncio.create_task(engine.call("import_hangs", "f"))
            await until(lambda: any(b"importing" in zygote.output for zygote in engine.local._zygotes))
            below = alive_below(launcher.pid)
            assert below
            os.kill(launcher.pid, signal.SIGKILL)
            await until(lambda: not any(map(commands, below)), 5)
            with pytest.raises((ImportFailed, ServiceUnavailable)):
                await call

    run(main())


def test_the_end_of_the_launcher_is_the_end_of_functions_with_all_that_they_started(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            launcher = engine.local._launcher
            call = asyncio.create_task(engine.call("misbehaves", "escapes"))
            await until(lambda: len(alive_below(launcher.pid)) >= 3)
            below = alive_below(launcher.pid)
            os.kill(launcher.pid, signal.SIGKILL)
            await until(lambda: not any(map(commands, below)), 5)
            await asyncio.wait([call])

    run(main())


def test_a_launcher_that_was_stopped_is_replaced(folder, sandbox, monkeypatch):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            os.kill(engine.local._launcher.pid, signal.SIGSTOP)
            with monkeypatch.context() as patch:
                patch.setattr(launches, "LAUNCH", 0.2)
                with pytest.raises(ServiceUnavailable, match="does not answer"):
                    await engine.call("behaves", "count")
            await until(lambda: not engine.local._launcher.is_alive)
            assert value(await engine.call("behaves", "count")) == 1

    run(main())


def test_a_gateway_stops_though_its_launcher_was(folder, sandbox, monkeypatch):
    monkeypatch.setattr(launches, "PATIENCE", 0.2)

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            assert value(await engine.call("behaves", "count")) == 1
            os.kill(engine.local._launcher.pid, signal.SIGSTOP)
            left = alive_below(engine.local._launcher.pid)
        await until(lambda: not any(map(commands, left)))

    run(main())


def test_a_launcher_that_dies_is_replaced(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            await engine.call("behaves", "count")
            os.kill(engine.local._launcher.pid, signal.SIGKILL)
            await until(lambda: not engine.local._launcher.is_alive)
            async with asyncio.timeout(10):
                answer = await engine.call("misbehaves", "raises")
            assert isinstance(answer.last, Failure)

    run(main())
