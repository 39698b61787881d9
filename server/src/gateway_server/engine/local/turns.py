"""Short calls take turns at few workers.

Where the functions of a version take less time than it takes to wake another process, its calls are served best by as
many workers as there are processors, one after the other; more of them only push each other out of the caches, and a
new one takes longer to make than many such calls. So a call is put in the queue of a worker that is busy, as long as
what lies there is soon done, or waits for its turn, as long as those before it come to their ends: one that takes long
is not counted, and what lies behind it is taken back.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from gateway_server.engine.local.worker import Worker

FEW = max(2, os.cpu_count() or 1)
"""Workers of one version and user that are busy at the same time where its calls are short."""
SHORT = 0.001
"""Seconds of a short call."""
LONG = 0.0015
"""Seconds after which a call was not short after all."""
AHEAD = 0.0005
"""Seconds of calls that may lie in the queue of a worker, as far as their mean tells."""
MOST = 32
"""Calls that a worker may have at a time."""
WEIGHT = 0.05
"""Of the latest call, in the mean of their times."""


class NoneLeft(Enum):
    """No turn for now."""

    IT = 0


NONE_LEFT = NoneLeft.IT


class Turns:
    """The turns of the calls of one version and user. Lives on the event loop."""

    __slots__ = ("_beginning", "_busy", "_free", "_has_idle", "_long", "_open", "_timer", "_waiting", "mean")

    def __init__(self, free: Callable[[Worker], None], has_idle: Callable[[], bool], mean: float = LONG) -> None:
        """`free` is told of each worker that has no call any more; `has_idle` says whether a call that begins finds
        one, or has to wait for a new process; `mean` are the seconds that calls are expected to run."""
        self._free = free
        self._has_idle = has_idle
        self._busy: dict[Worker, int] = {}
        """How many calls each has."""
        self._open: dict[Worker, None] = {}
        """Those of them that may get another."""
        self._long: set[Worker] = set()
        """Those that have had the same call for long."""
        self._beginning = 0
        """Calls that get a worker of their own, and do not have it yet."""
        self._waiting: deque[tuple[asyncio.Future[Worker | None], bool, bool]] = deque()
        """Those that were taken back come first; and whether each has to be alone, and was taken back."""
        self.mean = mean
        """Seconds that calls ran, those of late above all."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def are_unused(self) -> bool:
        """Whether nobody has or waits for a turn."""
        return not self._busy and not self._beginning and not self._waiting

    def take_now(self, *, alone: bool, again: bool = False) -> "Worker | NoneLeft | None":
        """Gives the worker that the call may be sent to, to be told when it has its `end` there; or None for one of
        its own, which then has to `begin`, or to `fail`. Where it is sooner to wait for a turn than to begin at once,
        there is none left.

        `alone` says that nothing may be sent to the worker beside the call; `again` that it was taken back.
        """
        if not self._waiting or again or self.mean >= SHORT:
            return self._turn(alone=alone)
        return NONE_LEFT

    async def take(self, *, alone: bool, again: bool = False) -> Worker | None:
        """Waits until there is a turn."""
        turn = self.take_now(alone=alone, again=again)
        if turn is not NONE_LEFT:
            return turn
        waiting: asyncio.Future[Worker | None] = asyncio.get_running_loop().create_future()
        before = sum(one[2] for one in self._waiting) if again else len(self._waiting)
        self._waiting.insert(before, (waiting, alone, again))
        self._watch()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._give_up(waiting.result())
            raise

    def begin(self, worker: Worker, *, alone: bool) -> None:
        """A call has got its own worker."""
        self._beginning -= 1
        self._busy[worker] = 1
        if not alone:
            self._open[worker] = None

    def fail(self) -> None:
        """A call got no worker."""
        self._beginning -= 1
        self._let_begin()

    def end(self, worker: Worker, took: float | None) -> None:
        """A turn at a worker is over; `took` are the seconds that the function ran, if it did."""
        if took is not None:
            self.mean += WEIGHT * (took - self.mean)
        self._busy[worker] -= 1
        if took is not None or not self._busy[worker]:  # else the call that takes long may run on
            self._long.discard(worker)
        if self._waiting:
            self._let_begin()
        if not self._busy[worker]:
            del self._busy[worker]
            self._open.pop(worker, None)
            self._free(worker)
            if self._waiting:
                self._let_begin()

    def _turn(self, *, alone: bool) -> "Worker | NoneLeft | None":
        may_begin = self.mean >= SHORT or len(self._busy) - len(self._long) + self._beginning < FEW
        if may_begin and (alone or self.mean >= SHORT or self._has_idle()):
            self._beginning += 1
            return None
        found = None if alone else self._least_busy()
        if found is not None:
            self._busy[found] += 1
            self._watch()
        elif may_begin:  # a new process takes longer than a queue, but there is room in none
            self._beginning += 1
        else:
            return NONE_LEFT
        return found

    def _least_busy(self) -> Worker | None:
        """The worker that gets the next call beside others, if any does."""
        most = int(AHEAD / max(self.mean, AHEAD / MOST))
        found = None
        for worker in self._open:
            count = self._busy[worker]
            if count < most and worker.takes_more:
                most, found = count, worker
        return found

    def _give_up(self, turn: Worker | None) -> None:
        if turn is None:
            self.fail()
        else:
            self.end(turn, None)

    def _let_begin(self) -> None:
        """Those that have waited for longest have their turns, as far as there are any."""
        while self._waiting:
            waiting, alone, _ = self._waiting[0]
            if not waiting.done():
                turn = self._turn(alone=alone)
                if turn is NONE_LEFT:
                    return
                waiting.set_result(turn)
            self._waiting.popleft()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LONG, self._look)

    def _look(self) -> None:
        """Lets others begin beside calls that take long, and takes back those behind them."""
        self._timer = None
        before = time.monotonic() - LONG
        self._long = {worker for worker in self._busy if worker.has_run_since(before)}
        for worker in self._long:
            self._open.pop(worker, None)
            if self._busy[worker] > 1:
                worker.take_back()
        self._let_begin()
        if self._waiting or any(count > 1 for count in self._busy.values()):  # one may be on its way to a long one
            self._watch()
