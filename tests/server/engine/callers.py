"""Calls that want turns at workers, without any process, on a clock that goes on when it is told."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from gateway_server.engine.local import turns as module
from gateway_server.engine.local.turns import AHEAD, LONG, MOST, Turns


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


class Call:
    """One call, and the task that wants a turn for it."""

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.again = 0
        """Where it was taken back, its number among those that were."""
        self.has_begun = False
        """Whether it has a worker, or is about to get one."""
        self.worker: Desk | None = None
        self.over: asyncio.Future[float | None]
        """The seconds that it ran; None where it was taken back."""
        self.task: asyncio.Task[None]


class Desk:
    """A worker that runs the first of its calls until it is told that it has ended."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[Call] = []
        self.since = 0.0
        self.takes_more = True
        self.is_free = False

    def has_run_since(self, moment: float) -> bool:
        return self.since < moment

    def take_back(self) -> None:
        for call in self.calls[1:]:
            assert not call.alone
            call.over.set_result(None)
        del self.calls[1:]

    def send(self, call: Call) -> None:
        assert not self.is_free
        assert not self.calls or self.takes_more
        if not self.calls:
            self.since = self.clock.now
        self.calls.append(call)

    def end_first(self, took: float | None) -> None:
        self.since = self.clock.now
        self.calls.pop(0).over.set_result(took)


class Callers:
    """Calls that want turns, in the order in which they came."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.has_idle = True
        """Whether calls that begin find a worker."""
        self.turns = Turns(self.free, lambda: self.has_idle)  # type: ignore[arg-type]
        self.freed: list[Desk] = []
        self.idle: list[Desk] = []
        self.calls: list[Call] = []
        """Those that have neither ended nor been given up."""
        self.begun: list[Call] = []
        """Those that got a worker, in their order; once more where they got another."""
        self.ended = self.taken_back = 0
        self.gates: list[asyncio.Future[bool]] | None = None
        """Where set, who gets a worker of its own waits until it is told whether there is one."""

    @property
    def waiting(self) -> list[Call]:
        """Those whose turn is next come first."""
        waiting = [call for call in self.calls if not call.has_begun]
        return sorted(waiting, key=lambda call: call.again or math.inf)

    @property
    def running(self) -> list[Desk]:
        return list(dict.fromkeys(call.worker for call in self.calls if call.worker is not None))

    def free(self, worker: Any) -> None:
        assert not worker.calls, "it has calls"
        assert not worker.is_free, "it is free already"
        worker.is_free = True
        self.freed.append(worker)
        if worker.takes_more:
            self.idle.append(worker)

    async def come(self, count: int = 1, *, alone: bool = False) -> list[Call]:
        waited, new = self.waiting, [Call(alone=alone) for _ in range(count)]
        self.calls += new
        for call in new:
            call.task = asyncio.create_task(self._serve(call))
        await self.look(waited)
        return new

    async def _serve(self, call: Call) -> None:
        while True:
            worker: Any = await self.turns.take(alone=call.alone or bool(call.again), again=bool(call.again))
            call.has_begun = True
            try:
                call.worker = worker or await self._own(call)
            except RuntimeError:
                self.calls.remove(call)
                return
            call.over = asyncio.get_event_loop().create_future()
            call.worker.send(call)
            self.begun.append(call)
            took: float | None = None
            try:
                took = await call.over
            finally:
                self._leave(call, took)
            if took is not None:
                self.calls.remove(call)
                self.ended += 1
                return
            self.taken_back += 1
            call.again = self.taken_back

    async def _own(self, call: Call) -> Desk:
        try:
            if self.gates is not None:
                self.gates.append(asyncio.get_event_loop().create_future())
                if not await self.gates[-1]:
                    raise RuntimeError
            worker = self.idle.pop() if self.idle else Desk(self.clock)
        except BaseException:
            self.turns.fail()
            raise
        worker.is_free = False
        self.turns.begin(worker, alone=call.alone or bool(call.again))  # type: ignore[arg-type]
        return worker

    def _leave(self, call: Call, took: float | None) -> None:
        worker = call.worker
        assert worker is not None
        if call in worker.calls:  # it was given up
            worker.takes_more = worker.takes_more and worker.calls[0] is not call
            worker.calls.remove(call)
        call.worker, call.has_begun = None, took is not None
        self.turns.end(worker, took)  # type: ignore[arg-type]

    async def look(self, waited: list[Call] | None = None) -> None:
        """Lets everybody see what has changed. Of those who waited, the first come first."""
        waited = self.waiting if waited is None else waited
        for _ in range(12):
            await asyncio.sleep(0)
        called = [call for call in waited if call.has_begun]
        assert waited[: len(called)] == called, "first come, first served"

    async def end(self, took: float = 0.0001, worker: Desk | None = None) -> None:
        waited = self.waiting
        (worker or self.running[0]).end_first(took)
        await self.look(waited)

    async def go_on(self, seconds: float) -> None:
        waited = self.waiting
        self.clock.go_on(seconds)
        await self.look(waited)

    async def give_up(self, call: Call) -> None:
        self.calls.remove(call)
        call.task.cancel()
        await asyncio.gather(call.task, return_exceptions=True)
        assert call.task.cancelled()
        await self.look()

    async def learn(self, took: float = 0.0001) -> None:
        """Runs so many calls one after the other that their time is known."""
        for _ in range(200):
            await self.come()
            await self.end(took)

    @property
    def depth(self) -> int:
        """Calls that one worker may have."""
        return int(AHEAD / max(self.turns.mean, AHEAD / MOST))

    async def finish(self) -> None:
        """Lets all calls end, one after the other, and sees that nothing is left."""
        while self.running:
            await self.end()
        assert not self.calls
        self.clock.go_on(LONG * 3)
        assert self.turns.are_unused
        assert not self.turns._long
        assert not self.turns._open
        assert not self.clock._timers, "nobody waits, and nothing looks"


def run(clock: Clock, main: Callable[[], Any]) -> None:
    async def whole() -> None:
        clock.use(loop)
        await main()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(whole())
    finally:
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
