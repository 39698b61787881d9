"""How many workers and versions wait for another call."""

from engine.conftest import run, running_engine, value

from gateway_server.engine.local import pool


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
