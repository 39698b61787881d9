"""Short calls take turns at few workers.

Where the functions of a version take less time than it takes to wake another process, its calls are served best by as
many workers as there are processors, one after the other; more of them only push each other out of the caches. So a
call waits for its turn, as long as those before it come to their ends: one that takes long is not counted.
"""

import asyncio
import os
import time
from collections import deque
from itertools import count

FEW = max(2, os.cpu_count() or 1)
"""Calls of one version and user that run at the same time where they are short."""
SHORT = 0.001
"""Seconds of a short call."""
LONG = 0.0015
"""Seconds after which a call was not short after all."""
WEIGHT = 0.05
"""Of the latest call, in the mean of their times."""


class Turns:
    """The turns of the calls of one version and user. Lives on the event loop."""

    __slots__ = ("_mean", "_numbers", "_running", "_timer", "_waiting")

    def __init__(self) -> None:
        self._numbers = count()
        self._running: dict[int, float] = {}  # since when, on the monotonic clock
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._mean = LONG  # until something is known
        self._timer: asyncio.TimerHandle | None = None

    @property
    def are_unused(self) -> bool:
        """Whether nobody has or waits for a turn."""
        return not self._running and not self._waiting

    async def take(self) -> int:
        """Waits for a turn, if that is sooner than to begin at once; it has to `end`."""
        if len(self._running) < FEW or self._mean >= SHORT:
            return self._begin()
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LONG, self._look)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.end(turn.result(), None)
            raise

    def end(self, number: int, took: float | None) -> None:
        """A turn is over; `took` are the seconds that the function ran, if it did."""
        del self._running[number]
        if took is not None:
            self._mean += WEIGHT * (took - self._mean)
        if self._waiting and (len(self._running) < FEW or self._mean >= SHORT):
            self._let_begin()

    def _begin(self) -> int:
        number = next(self._numbers)
        self._running[number] = time.monotonic()
        return number

    def _let_begin(self) -> None:
        """The call that has waited for longest has its turn."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._begin())
                return

    def _look(self) -> None:
        """Lets others begin beside calls that take long."""
        self._timer = None
        moment = time.monotonic()
        short = sum(moment - since < LONG for since in self._running.values())
        for _ in range(FEW - short if self._mean < SHORT else len(self._waiting)):
            self._let_begin()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(LONG, self._look)
