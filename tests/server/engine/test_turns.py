"""Short calls take turns at few workers, and nobody waits for one that takes long."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from engine.conftest import Engine, running_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_server.engine.local import turns as module
from gateway_server.engine.local.turns import FEW, LONG, SHORT, Turns
from gateway_server.models import Result


class Clock:
    """A loop and a monotonic clock that go on when they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: self)
        self._loop: asyncio.AbstractEventLoop | None = None

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def create_future(self) -> asyncio.Future[Any]:
        assert self._loop is not None
        return self._loop.create_future()

    def call_later(self, seconds: float, act: Callable[[], None]) -> object:
        self._timers.append((self.now + seconds, len(self._timers), act))
        return object()

    def go_on(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self._timers if timer[0] <= end]:
            first = min(due)
            self._timers.remove(first)
            self.now = first[0]
            first[2]()
        self.now = end


class Callers:
    """Calls that want turns, in the order in which they came."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.turns = Turns()
        self.clock = clock
        self.waiting: list[asyncio.Task[int]] = []
        self.running: list[int] = []
        self.begun = 0

    async def come(self, count: int = 1) -> None:
        waited = len(self.waiting)
        self.waiting += [asyncio.create_task(self.turns.take()) for _ in range(count)]
        await self.look(waited)

    async def look(self, waited: int | None = None) -> None:
        """Who has its turn; of those who waited, in their order. Where calls are long, whoever comes begins at once."""
        for _ in range(4):
            await asyncio.sleep(0)
        done = [task for task in self.waiting if task.done()]
        before = self.waiting[:waited]
        called = [task for task in before if task.done()]
        assert before[: len(called)] == called, "first come, first served"
        self.waiting = [task for task in self.waiting if task not in done]
        self.running += [task.result() for task in done]
        self.begun += len(done)

    async def end(self, took: float | None = 0.0001, at: int = 0) -> None:
        self.turns.end(self.running.pop(at), took)
        await self.look()

    async def learn(self, took: float = 0.0001) -> None:
        """Runs so many calls one after the other that their time is known."""
        for _ in range(200):
            await self.come()
            await self.end(took)


def run(clock: Clock | None, main: Callable[[], Any]) -> None:
    async def whole() -> None:
        if clock is not None:
            clock.use(asyncio.get_event_loop_policy().get_event_loop())
        await main()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(whole())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_calls_of_unknown_or_long_functions_begin_at_once(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.come(50)
        assert len(callers.running) == 50
        for _ in range(50):
            await callers.end(SHORT * 2)
        await callers.come(50)
        assert len(callers.running) == 50

    run(clock, main)


def test_short_calls_run_few_at_a_time_and_in_their_order(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.learn()
        await callers.come(50)
        assert len(callers.running) == FEW
        for left in range(50, 0, -1):
            assert len(callers.running) == min(FEW, left)
            clock.go_on(0.0001)
            await callers.end()
        assert callers.turns.are_unused

    run(clock, main)


def test_others_begin_beside_a_call_that_becomes_long(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.learn()
        await callers.come(FEW)  # which never end
        await callers.come(10)
        assert len(callers.waiting) == 10
        for _ in range(10):
            clock.go_on(LONG * 2.01)
            await callers.look()
            while len(callers.running) > FEW:
                await callers.end(at=-1)
        assert not callers.waiting

    run(clock, main)


def test_stuck_calls_slow_short_ones_by_no_more_than_a_look(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.learn()
        await callers.come(FEW)
        clock.go_on(LONG)
        await callers.come(20)
        began = clock.now
        while callers.waiting:
            clock.go_on(LONG / 10)
            await callers.look()
            while len(callers.running) > FEW:
                await callers.end(at=-1)
        assert clock.now - began < LONG * (20 / FEW + 2)

    run(clock, main)


def test_waiting_calls_all_begin_once_calls_turn_out_to_be_long(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.learn()
        await callers.come(30)
        assert len(callers.waiting) == 30 - FEW
        await callers.end(10.0)
        clock.go_on(LONG)
        await callers.look()
        assert not callers.waiting

    run(clock, main)


def test_who_gives_up_waiting_takes_nobody_s_turn(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.learn()
        await callers.come(FEW + 10)
        for task in callers.waiting[:5]:
            task.cancel()
        await asyncio.gather(*callers.waiting[:5], return_exceptions=True)
        del callers.waiting[:5]
        for _ in range(FEW):
            await callers.end()
        assert len(callers.running) == min(FEW, 5)

    run(clock, main)


def test_who_gives_up_in_the_moment_of_its_turn_gives_it_on(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.learn()
        await callers.come(FEW + 2)
        first, second = callers.waiting
        callers.turns.end(callers.running.pop(), 0.0001)  # it is the turn of the first, which does not know it yet
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        callers.waiting.remove(first)
        await callers.look()
        assert second.done()
        assert len(callers.turns._running) == FEW

    run(clock, main)


def test_nothing_is_left_when_everybody_gives_up(clock: Clock) -> None:
    async def main() -> None:
        callers = Callers()
        await callers.learn()
        await callers.come(FEW + 10)
        for task in callers.waiting:
            task.cancel()
        await asyncio.gather(*callers.waiting, return_exceptions=True)
        callers.waiting.clear()
        while callers.running:
            await callers.end()
        clock.go_on(LONG * 3)
        assert callers.turns.are_unused
        assert not clock._timers, "nobody waits, and nothing looks"

    run(clock, main)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(1, 5)),
        st.tuples(st.just("end"), st.integers(0, 20), st.sampled_from([None, 0.00001, 0.0002, SHORT, LONG, 1.0])),
        st.tuples(st.just("cancel"), st.integers(0, 20), st.booleans()),
        st.tuples(st.just("time"), st.floats(0, LONG * 3)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(st.booleans(), steps)
def test_whatever_the_order_nobody_is_lost(learned: bool, steps: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)

        async def main() -> None:
            callers = Callers()
            if learned:
                await callers.learn()
            came, gone = callers.begun, 0
            for step, *details in steps:
                if step == "come":
                    await callers.come(details[0])
                    came += details[0]
                elif step == "end" and callers.running:
                    await callers.end(details[1], details[0] % len(callers.running))
                elif step == "cancel" and callers.waiting:
                    task = callers.waiting.pop(details[0] % len(callers.waiting))
                    if details[1] and callers.running:
                        callers.turns.end(callers.running.pop(), None)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    assert task.cancelled()
                    gone += 1
                    await callers.look()
                elif step == "time":
                    clock.go_on(details[0])
                    await callers.look()
                assert set(callers.turns._running) == set(callers.running)
                assert callers.begun + gone + len(callers.waiting) == came
                if callers.waiting:
                    assert callers.turns._timer is not None, "somebody looks after those who wait"
                    assert len(callers.running) >= FEW
            for _ in range(len(callers.waiting) + 2):  # even where no call ever ends
                clock.go_on(LONG * 1.01)
                await callers.look()
            assert not callers.waiting
            while callers.running:
                await callers.end()
            clock.go_on(LONG * 2)
            assert callers.turns.are_unused

        run(clock, main)


def product(main: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), 60))


async def echo(engine: Engine, number: int, user: str = "ann") -> float:
    began = time.monotonic()
    answer = await engine.call("behaves", "add", user=user, a=number)
    assert isinstance(answer.last, Result)
    assert json.loads(answer.last.json) == number + 2
    return time.monotonic() - began


def test_nobody_waits_for_a_call_that_sleeps(folder: Any) -> None:
    async def main() -> None:
        async with running_engine(folder, sandbox="off", workers=16, queue=1000) as engine:
            for number in range(60):
                await echo(engine, number)
            sleepers = [asyncio.create_task(engine.call("behaves", "sleeps", seconds=2.0)) for _ in range(FEW + 1)]
            await asyncio.sleep(0.05)
            began = time.monotonic()
            took = await asyncio.gather(*(echo(engine, number) for number in range(100)))
            assert not any(task.done() for task in sleepers)
            assert time.monotonic() - began < 1.5
            assert max(took) < 1.5
            for task in sleepers:
                assert isinstance((await task).last, Result)
            assert all(turns.are_unused for host in engine.local._hosts.values() for turns in host.turns.values())

    product(main)


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
            assert all(turns.are_unused for host in engine.local._hosts.values() for turns in host.turns.values())
            assert all(host.busy == 0 for host in engine.local._hosts.values())

    product(main)


def test_a_call_that_leaves_nothing_leaves_its_worker_ready(folder: Any, sandbox: str) -> None:
    async def main() -> None:
        async with running_engine(folder, sandbox=sandbox) as engine:
            pids = set()
            for _ in range(5):
                answer = await engine.call("behaves", "whoami")
                assert isinstance(answer.last, Result)
                pids.add(json.loads(answer.last.json)["pid"])
                (waiting,) = (host.idle for host in engine.local._hosts.values())
                (worker,) = waiting["ann"]
                assert not worker.has_files, "it is not cleaned for nothing"
            assert len(pids) == 1

    product(main)
