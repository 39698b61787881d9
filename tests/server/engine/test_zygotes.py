"""A zygote that ends while a worker of it is being made."""

import asyncio
import os

import pytest
from engine.conftest import run, running_engine, until, value

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
