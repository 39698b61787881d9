"""A zygote that ends while a worker of it is being made."""

import asyncio
import contextlib
import os

import pytest
from engine.conftest import run, running_engine, until, value

from gateway_server.engine.local.worker import Worker
from gateway_server.errors import ServiceUnavailable


def descriptors():
    """What this process has open, by number and what is behind it."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the list's own
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


@pytest.mark.parametrize("steps", range(4))
def test_what_is_opened_for_a_worker_is_closed_once(folder, monkeypatch, steps):
    closed, ours = [], []
    close, connect = os.close, Worker.connect

    def closes(number):
        closed.append(number)
        close(number)

    async def main():
        async with running_engine(folder) as engine:
            assert value(await engine.call("behaves", "count")) == 1
            zygote = engine.local._hosts["behaves"].zygote

            async def is_connected_to_a_zygote_that_ends(worker, connection, output):
                ours.append(output)
                monkeypatch.setattr(os, "close", closes)
                connecting = asyncio.ensure_future(connect(worker, connection, output))
                for _ in range(steps):
                    await asyncio.sleep(0)
                zygote.close()
                await connecting

            monkeypatch.setattr(Worker, "connect", is_connected_to_a_zygote_that_ends)
            with pytest.raises(ServiceUnavailable, match="call again"):
                await zygote.fork("ann")
            monkeypatch.setattr(os, "close", close)
            assert closed.count(ours[0]) == 1
            monkeypatch.setattr(Worker, "connect", connect)
            assert not zygote._workers
            assert not zygote._forks
            assert value(await engine.call("behaves", "count")) == 1
        if os.path.exists("/proc/self/fd"):
            await until(lambda: f"{ours[0]}" not in descriptors())

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
