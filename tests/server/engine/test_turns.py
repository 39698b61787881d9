"""Short calls take turns at few workers, and nobody waits for one that takes long."""

import asyncio
import json
import time
from typing import Any

import pytest
from engine.callers import Call, Callers, Clock, run
from engine.conftest import Engine, running_engine, until
from engine.conftest import run as run_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_server.engine.local.turns import FEW, LONG, MOST, SHORT
from gateway_server.models import Result


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("alone", [False, True])
def test_calls_of_unknown_or_long_functions_begin_at_once(clock: Clock, alone: bool) -> None:
    async def main() -> None:
        callers = Callers(clock)
        for _ in range(2):
            await callers.come(50, alone=alone)
            assert len(callers.running) == 50
            for _ in range(50):
                await callers.end(SHORT * 2)
        await callers.finish()

    run(clock, main)


@pytest.mark.parametrize("took", [0.0, 0.00005, 0.0001, 0.0002, 0.0003, 0.0006])
def test_short_calls_lie_in_the_queues_of_few_workers_then_wait_in_their_order(clock: Clock, took: float) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn(took)
        depth = max(1, callers.depth)
        await callers.come(FEW * MOST + 10)
        left = FEW * MOST + 10
        while left:
            assert len(callers.running) == min(FEW, left)
            assert all(len(worker.calls) <= depth for worker in callers.running)
            assert len(callers.waiting) == max(0, left - FEW * depth)
            await callers.end(took, max(callers.running, key=lambda worker: len(worker.calls)))
            left -= 1
        await callers.finish()

    run(clock, main)


def test_a_new_process_is_made_only_where_no_queue_has_room(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        callers.has_idle = False
        await callers.come(callers.depth)
        assert len(callers.running) == 1
        await callers.come()
        assert len(callers.running) == 2
        await callers.come(alone=True)
        assert len(callers.running) == min(3, FEW)
        await callers.finish()

    run(clock, main)


def test_who_lies_behind_a_long_call_for_want_of_an_idle_worker_gets_a_new_one(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        callers.has_idle = False
        head, *behind = await callers.come(4)
        assert len(callers.running) == 1
        assert all(call.worker is head.worker for call in behind)
        await callers.go_on(LONG * 2)
        assert all(call.worker is not head.worker for call in behind)
        await callers.finish()

    run(clock, main)


def test_the_queue_that_is_shortest_gets_the_next_call(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(2 * FEW)
        assert [len(worker.calls) for worker in callers.running] == [2] * FEW
        worker = callers.running[-1]
        await callers.end(worker=worker)
        (call,) = await callers.come()
        assert call.worker is worker
        await callers.finish()

    run(clock, main)


def test_a_worker_that_takes_no_more_gets_no_more(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW)
        for worker in callers.running:
            worker.takes_more = False
        await callers.come(5)
        assert len(callers.waiting) == 5
        await callers.end()
        assert len(callers.waiting) < 5, "another worker has taken its place"
        await callers.finish()

    run(clock, main)


def test_who_has_to_be_alone_shares_with_nobody_and_is_not_passed_over(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW)
        (call,) = await callers.come(alone=True)
        for ended in range(FEW * MOST):
            if call.has_begun:
                break
            await callers.come()
            await callers.end()
        assert ended < FEW * 2, "those who come later do not keep the workers busy"
        assert call.worker is not None
        await callers.come(FEW * MOST * 2)
        assert call.worker.calls == [call]
        assert callers.waiting
        await callers.finish()

    run(clock, main)


def test_who_was_taken_back_comes_first_and_alone(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        heads = await callers.come(FEW)
        stuck = callers.running
        late = await callers.come(FEW * MOST)
        behind, waiting = [call for call in late if call.worker is not None], callers.waiting
        assert behind
        assert waiting
        assert all(call.worker in stuck for call in behind)
        begun = len(callers.begun)
        await callers.go_on(LONG * 2.01)
        assert all(call.again for call in behind)
        assert [worker.calls for worker in stuck] == [[head] for head in heads], "these run on"
        while others := [worker for worker in callers.running if worker not in stuck]:
            assert len(others) <= FEW
            assert all(len(worker.calls) == 1 for worker in others if worker.calls[0].again)
            await callers.end(worker=others[0])
        order = callers.begun[begun:]
        assert [call for call in order if call.again] == sorted(behind, key=lambda call: call.again)
        assert [call for call in order if not call.again] == waiting
        assert all(call.again for call in order[FEW : FEW + len(behind)]), "no more come before them than had waited"
        await callers.finish()

    run(clock, main)


def test_who_was_taken_back_begins_at_once_where_all_the_others_take_long(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW)
        heads = callers.running
        behind = await callers.come(FEW)
        assert all(len(worker.calls) == 2 for worker in heads)
        await callers.go_on(LONG * 2.01)
        assert all(call.again for call in behind)
        assert all(call.worker is not None and call.worker not in heads for call in behind)
        await callers.finish()

    run(clock, main)


def test_who_is_sent_behind_a_long_call_after_the_look_is_taken_back_as_well(clock: Clock) -> None:
    """Between a turn and the call that is sent there is time for a look."""

    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW)
        head: Any = await callers.turns.take(alone=False)
        assert head in callers.running
        clock.go_on(LONG * 2.01)
        behind = Call(alone=False)
        behind.over = asyncio.get_event_loop().create_future()
        head.send(behind)
        clock.go_on(LONG * 2.01)
        assert behind.over.done()
        callers.turns.end(head, None)
        await callers.finish()

    run(clock, main)


def test_others_begin_beside_a_call_that_becomes_long(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW)  # which never end
        stuck = callers.running
        await callers.come(FEW * MOST + 10)
        began = clock.now
        while len(callers.calls) > FEW:
            await callers.go_on(LONG / 10)
            others = [worker for worker in callers.running if worker not in stuck]
            while others:
                await callers.end(worker=others[0])
                others = [worker for worker in callers.running if worker not in stuck]
        assert clock.now - began < LONG * 3, "they are slowed by no more than a look or two"
        await callers.finish()

    run(clock, main)


def test_waiting_calls_all_begin_once_calls_turn_out_to_be_long(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW * MOST + 30)
        assert callers.waiting
        await callers.end(10.0)
        await callers.go_on(LONG * 1.01)
        assert not callers.waiting
        await callers.finish()

    run(clock, main)


@pytest.mark.parametrize("alone", [False, True])
def test_who_gives_up_waiting_takes_nobody_s_turn(clock: Clock, alone: bool) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW * callers.depth)
        waiting = await callers.come(FEW + 10, alone=alone)
        for call in waiting[:5]:
            await callers.give_up(call)
        while any(not call.again and call not in waiting for call in callers.calls):
            await callers.end(worker=next(w for w in callers.running if w.calls[0] not in waiting))
        assert [call.has_begun for call in waiting[5 : 5 + FEW]] == [True] * FEW
        await callers.finish()

    run(clock, main)


@pytest.mark.parametrize("alone", [False, True], ids=["at a worker", "at one of its own"])
def test_who_gives_up_in_the_moment_of_its_turn_gives_it_on(clock: Clock, alone: bool) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW if alone else FEW * callers.depth)
        first, second = await callers.come(2, alone=alone)
        assert callers.waiting == [first, second]
        turn = callers.turns._waiting[0][0]
        callers.running[0].end_first(0.0001)
        while not turn.done():
            await asyncio.sleep(0)
        assert not first.has_begun
        await callers.give_up(first)
        assert second.has_begun
        assert callers.turns._beginning == 0
        assert sum(callers.turns._busy.values()) == len(callers.calls)
        await callers.finish()

    run(clock, main)


def test_who_gets_no_worker_gives_its_turn_on(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        callers.gates, callers.idle = [], []
        await callers.come(FEW + 3)
        assert len(callers.gates) == FEW
        for at in range(FEW + 3):
            callers.gates[at].set_result(False)
            await callers.look()
        assert not callers.calls
        assert not callers.freed[200:]
        await callers.finish()

    run(clock, main)


def test_nothing_is_left_when_everybody_gives_up(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers(clock)
        await callers.learn()
        await callers.come(FEW * MOST + 10)
        for call in reversed(callers.calls[:]):
            await callers.give_up(call)
        await callers.finish()

    run(clock, main)


COUNTS, AT = st.integers(1, 6), st.integers(0, 50)
TIMES = st.sampled_from([0.0, 0.00001, 0.0002, SHORT, LONG, 1.0])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), COUNTS, st.booleans()),
        st.tuples(st.just("end"), AT, TIMES),
        st.tuples(st.just("give up"), AT, st.booleans()),
        st.tuples(st.just("fill"), AT, st.booleans()),
        st.tuples(st.just("worker"), AT, st.booleans()),
        st.tuples(st.just("time"), st.floats(0, LONG * 3)),
    ),
    max_size=60,
)


async def take_step(callers: Callers, step: str, *details: Any) -> None:
    at: Any = details[0]
    if step == "come":
        await callers.come(at, alone=details[1])
    elif step == "end" and callers.running:
        await callers.end(details[1], callers.running[at % len(callers.running)])
    elif step == "give up" and callers.calls:
        if details[1] and callers.running:
            callers.running[0].end_first(0.0001)  # it may become somebody's turn in this moment
            await asyncio.sleep(0)
        if callers.calls:
            call = callers.calls[at % len(callers.calls)]
            if not call.task.done():
                await callers.give_up(call)
    elif step == "fill" and callers.running:
        worker = callers.running[at % len(callers.running)]
        worker.takes_more = False
        if details[1]:
            worker.take_back()
        await callers.look()
    elif step == "worker" and (gates := [gate for gate in callers.gates or () if not gate.done()]):
        gates[at % len(gates)].set_result(details[1])
        await callers.look()
    elif step == "time":
        await callers.go_on(at)


def check(callers: Callers) -> None:
    """Each call is in one place, as the turns say as well; and whoever waits does so for a reason, and not for ever."""
    turns = callers.turns
    running: list[Any] = callers.running
    assert turns._busy == {worker: len(worker.calls) for worker in running}
    assert turns._beginning == len([gate for gate in callers.gates or () if not gate.done()])
    assert len(callers.waiting) + turns._beginning + sum(turns._busy.values()) == len(callers.calls)
    assert all(len(worker.calls) <= MOST for worker in running)
    assert all(len(worker.calls) == 1 for worker in running if worker.calls[0].alone or worker.calls[0].again)
    if callers.waiting:
        assert turns._timer is not None, "somebody looks after those who wait"
        assert len(running) + turns._beginning >= FEW
    if any(len(worker.calls) > 1 for worker in running):
        assert turns._timer is not None, "somebody looks after those that lie behind others"


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.booleans(), STEPS)
def test_whatever_the_order_nobody_is_lost(is_learned: bool, is_slow: bool, steps: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)

        async def main() -> None:
            callers = Callers(clock)
            if is_learned:
                await callers.learn()
            if is_slow:  # workers are made, which takes time
                callers.gates, callers.idle = [], []
            for step, *details in steps:
                await take_step(callers, step, *details)
                check(callers)
            for gate in callers.gates or ():
                if not gate.done():
                    gate.set_result(True)
            callers.gates = None
            await callers.look()
            for _ in range(2 * len(callers.calls) + 2):  # even where no call ever ends
                await callers.go_on(LONG * 1.01)
                check(callers)
            assert not callers.waiting
            assert all(len(worker.calls) == 1 for worker in callers.running)
            await callers.finish()

        run(clock, main)


async def echo(engine: Engine, number: int, user: str = "ann") -> float:
    began = time.monotonic()
    answer = await engine.ask("behaves", "add", user=user, a=number)
    assert isinstance(answer.last, Result)
    assert json.loads(answer.last.json) == number + 2
    return time.monotonic() - began


def test_nobody_waits_for_a_call_that_sleeps(folder: Any) -> None:
    async def main() -> None:
        async with running_engine(folder, sandbox="off", workers=16, queue=1000) as engine:
            for number in range(60):
                await echo(engine, number)
            sleepers = [asyncio.create_task(engine.ask("behaves", "sleeps", seconds=2.0)) for _ in range(FEW + 1)]
            await asyncio.sleep(0.05)
            began = time.monotonic()
            took = await asyncio.gather(*(echo(engine, number) for number in range(100)))
            assert not any(task.done() for task in sleepers)
            assert time.monotonic() - began < 1.5
            assert max(took) < 1.5
            for task in sleepers:
                assert isinstance((await task).last, Result)
            await until(engine.has_nothing_left)

    run_engine(main())


def test_calls_that_are_given_up_leave_every_turn_to_others(folder: Any) -> None:
    async def main() -> None:
        async with running_engine(folder, sandbox="off", workers=16, queue=1000) as engine:
            for number in range(60):
                await echo(engine, number)
            for wait in (0.0, 0.001, 0.002, 0.005):
                tasks = [asyncio.create_task(echo(engine, number)) for number in range(40)]
                await asyncio.sleep(wait)
                for task in tasks[::2]:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(outcome, float | asyncio.CancelledError) for outcome in outcomes)
                assert all(isinstance(outcome, float) for outcome in outcomes[1::2])
            await until(engine.has_nothing_left)

    run_engine(main())


def test_a_call_that_leaves_nothing_leaves_its_worker_ready(folder: Any, sandbox: str) -> None:
    async def main() -> None:
        async with running_engine(folder, sandbox=sandbox) as engine:
            pids = set()
            for _ in range(5):
                answer = await engine.ask("behaves", "whoami")
                assert isinstance(answer.last, Result)
                pids.add(json.loads(answer.last.json)["pid"])
                (waiting,) = (host.idle for host in engine.local._hosts.values())
                (worker,) = waiting["ann"]
                assert not worker.has_files, "it is not cleaned for nothing"
            assert len(pids) == 1

    run_engine(main())
