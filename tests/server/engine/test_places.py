"""Who runs and who waits, without any process."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.engine.local import places
from gateway_server.engine.local.places import Places
from gateway_server.errors import Overloaded


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_user_never_has_more_than_three_quarters():
    async def main():
        made = Places(8, 100)
        greedy = [asyncio.create_task(made.take("ann", 0)) for _ in range(20)]
        await settle()
        assert sum(task.done() for task in greedy) == 6
        await asyncio.wait_for(made.take("bob", 0), 1)
        await asyncio.wait_for(made.take("bob", 0), 1)
        late = asyncio.create_task(made.take("cay", 0))
        await settle()
        assert not late.done()
        made.give_back("ann")
        await settle()
        assert sum(task.done() for task in greedy) == 7  # ann came first
        made.give_back("ann")
        await asyncio.wait_for(late, 1)  # and has thirteen others waiting
        assert sum(task.done() for task in greedy) == 7
        for task in greedy:
            task.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)

    asyncio.run(main())


def test_users_get_their_turns_one_after_the_other():
    async def main():
        made, order = Places(4, 100), []
        for user in ("x", "x", "x", "y"):
            await made.take(user, 0)

        async def wait(user):
            await made.take(user, 0)
            order.append(user)
            made.give_back(user)

        tasks = [asyncio.create_task(wait(user)) for user in ["ann"] * 5 + ["bob"] * 2 + ["cay"]]
        await settle()
        made.give_back("y")
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        assert order == ["ann", "bob", "cay", "ann", "bob", "ann", "ann", "ann"]

    asyncio.run(main())


def test_deeper_calls_go_first_and_find_more_places():
    async def main():
        made = Places(2, 100)
        await made.take("ann", 0)
        await made.take("bob", 0)
        await asyncio.wait_for(made.take("bob", 1), 1)  # a third, for a call that one of the two waits for
        shallow = asyncio.create_task(made.take("cay", 0))
        deep = asyncio.create_task(made.take("dan", 1))
        await settle()
        made.give_back("bob")
        await asyncio.wait_for(deep, 1)
        assert not shallow.done()
        made.give_back("dan")
        made.give_back("ann")
        await asyncio.wait_for(shallow, 1)

    asyncio.run(main())


def test_the_queue_is_bounded_for_all_and_for_each():
    async def main():
        made = Places(1, 4)
        await made.take("ann", 0)
        waiting = [asyncio.create_task(made.take("ann", 0)) for _ in range(3)]
        await settle()
        with pytest.raises(Overloaded, match="You have"):
            await made.take("ann", 0)
        waiting.append(asyncio.create_task(made.take("bob", 0)))
        await settle()
        with pytest.raises(Overloaded, match="The gateway has"):
            await made.take("cay", 0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.parametrize(("between", "expected"), [(0.001, 1), (0.5, 5), (100.0, 60)])
def test_the_time_to_wait_follows_the_rate_of_ends(monkeypatch, between, expected):
    now = [1000.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: now[0])

    async def main():
        made = Places(1, 10)
        for _ in range(40):
            await made.take("ann", 0)
            now[0] += between
            made.give_back("ann")
        await made.take("ann", 0)
        waiting = [asyncio.create_task(made.take(str(number), 0)) for number in range(10)]
        await settle()
        with pytest.raises(Overloaded) as error:
            await made.take("bob", 0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return error.value.retry_after

    assert asyncio.run(main()) == expected


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.sampled_from(["take", "end", "cancel"]))),
    st.integers(1, 5),
)
def test_no_place_is_ever_lost_or_made_up(steps, workers):
    async def main():
        made, tasks, held = Places(workers, 50), [], []

        async def call(user, depth):
            await made.take(user, depth)
            held.append(user)

        for user, depth, step in steps:
            if step == "take":
                tasks.append(asyncio.create_task(call(user, depth)))
            elif step == "end" and held:
                made.give_back(held.pop(0))
            elif step == "cancel" and tasks:
                tasks[-1].cancel()
            await settle()
            assert made._running.total() == len(held) <= workers * 2
        while any(not task.done() for task in tasks):
            assert held, "calls wait, and nobody runs"
            made.give_back(held.pop(0))
            await settle()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Overloaded):
                task.result()
        for user in held:
            made.give_back(user)
        assert not made._running
        assert not made._waiting

    asyncio.run(main())


def test_a_place_that_comes_free_between_a_cancel_and_its_end():
    async def main():
        made = Places(1, 10)
        await made.take("ann", 0)
        waiting = asyncio.create_task(made.take("ann", 0))
        await settle()
        waiting.cancel()  # its turn is over at once, and the task hears of it later
        made.give_back("ann")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(made.take("bob", 0), 1)

    asyncio.run(main())


def test_a_user_who_called_a_moment_ago_counts_as_another(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: clock[0])
    made = Places(4, 4)
    for user in ("ann", "eve"):
        assert made.take_now(user, 0)
    assert made.has_others("ann")
    made.give_back("ann")
    assert made.has_others("eve")
    assert made.take_now("eve", 0)
    made.give_back("eve")
    assert made.has_others("eve")
    clock[0] += places.RECENT
    assert not made.has_others("eve")
    assert made.has_others("ann")
