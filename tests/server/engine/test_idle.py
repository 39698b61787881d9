"""How many workers and versions wait for another call."""

import math
import os
import signal

import pytest
from engine.conftest import run, running_engine, until, value

from gateway_server.engine.local import pool, spares


def test_only_so_many_workers_and_versions_wait_for_another_call(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox, workers=1) as engine:
            for number in range(pool.MOST_IDLE + 3):
                assert value(await engine.call("behaves", "count", user=f"user-{number}")) == 1
            assert engine.local.count_workers() == pool.MOST_IDLE
            assert value(await engine.call("behaves", "count", user="user-3")) == 2  # the first three have gone
            assert value(await engine.call("behaves", "count", user="user-2")) == 1
            for number in range(pool.MOST_WARM):
                engine.vary("behaves", f"behaves-{number}")
                assert value(await engine.call(f"behaves-{number}", "count")) == 1
            assert list(engine.local._hosts) == [f"behaves-{number}" for number in range(pool.MOST_WARM)]
            assert engine.local.count_workers() == pool.MOST_WARM
            assert value(await engine.call("behaves", "count", user="user-3")) == 1

    run(main())


def test_what_was_made_ahead_for_users_in_a_row_is_ended_when_it_is_over(folder, monkeypatch):
    async def main():
        async with running_engine(folder, worker_idle=0.2) as engine:
            if engine.local._cgroups is None:
                pytest.skip("no worker is made ahead here")
            monkeypatch.setattr(spares, "ROW", math.inf)
            for number in range(2):
                assert value(await engine.call("behaves", "count", user=f"user-{number}")) == 1
            (host,) = engine.local._hosts.values()
            await until(lambda: host.spares.count() == spares.AHEAD)
            made = [fork.result() for fork in host.spares._forks]
            monkeypatch.setattr(spares, "ROW", -math.inf)
            await until(lambda: [worker.alive for worker in made] == [True, *[False] * (spares.AHEAD - 1)])
            await until(lambda: not any(worker.workspace.exists() for worker in made[1:]))
            assert host.spares.count() == 1

    run(main())


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_made_ahead_that_died_or_was_lost_leaves_nothing(folder, sign):
    async def main():
        async with running_engine(folder, worker_idle=0.2) as engine:
            if engine.local._cgroups is None:
                pytest.skip("no worker is made ahead here")
            assert value(await engine.call("behaves", "count")) == 1
            (host,) = engine.local._hosts.values()
            await until(lambda: host.spares.count() == 1)
            spare = host.spares._forks[0].result()
            await until(spare.group.processes)  # it enters when it has been forked
            for pid in spare.group.processes():
                os.kill(pid, sign)
            if sign is signal.SIGSTOP:
                spare._transport.abort()
            await until(lambda: not spare.workspace.exists())
            assert not spare.group.processes()
            assert not any(folder.exists() for folder in spare.group._folders)
            assert host.zygote.alive

    run(main())
