"""Who runs now and who waits: a bounded number of calls, the deepest first, and users in turn."""

import asyncio
import math
import time
from collections import Counter, deque

from gateway_server.errors import Overloaded

EACH_NESTING = 0.5
"""How much of the limit each level of nesting may add, so that callers waiting for their callees never block them."""
MOST_EACH_USER = 0.75
"""Of the places, and of those to wait, that one user may take."""
REMEMBERED = 64
"""Ends of calls from which their rate is told."""
RECENT = 0.25
"""Seconds after a call in which its user counts as one who calls: most calls are shorter than the pauses between."""
SHORTEST, LONGEST = 1, 60
"""Seconds that an overloaded gateway may ask to wait."""


class Places:
    """The places of one engine. Lives on one event loop."""

    def __init__(self, workers: int, queue: int) -> None:
        self._workers = workers
        self._queue = queue
        self._running = Counter[str]()
        self._total = 0
        self._waiting: dict[int, dict[str, deque[asyncio.Future[None]]]] = {}
        """By depth, then by user: the user whose turn is next comes first."""
        self._ends: deque[float] = deque(maxlen=REMEMBERED)
        self._latest = self._before = ("", -math.inf)
        """The user whose call ended last, and when; and the same of the latest other user."""

    def take_now(self, user: str, depth: int) -> bool:
        """Takes a place for a call of `user`, which must be given back, if there is one."""
        if not self._has_place(user, depth):
            return False
        self._count(user)
        return True

    async def take(self, user: str, depth: int) -> None:
        """Waits for a place for a call of `user`, which must be given back.

        Raises:
            Overloaded: too many are waiting already.
        """
        if self.take_now(user, depth):
            return
        waiting = [turns for users in self._waiting.values() for turns in users.items()]
        count, theirs = sum(len(turns) for _, turns in waiting), sum(len(turns) for u, turns in waiting if u == user)
        if count >= self._queue or theirs >= max(1, int(self._queue * MOST_EACH_USER)):
            who = "The gateway has" if count >= self._queue else "You have"
            raise Overloaded(f"{who} more calls waiting than it takes.", retry_after=self._retry_after(count))
        turn = asyncio.get_running_loop().create_future()
        turns = self._waiting.setdefault(depth, {}).setdefault(user, deque())
        turns.append(turn)
        try:
            await turn  # whoever wakes us has counted us already
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(user)
            elif turn in turns:  # else a call that ended has passed over it already
                turns.remove(turn)
                self._forget(depth, user)
            raise

    def give_back(self, user: str) -> None:
        """A call has ended: the deepest that wait come first, since those above them cannot end before they have."""
        self._ends.append(moment := time.monotonic())
        if user != self._latest[0]:
            self._before = self._latest
        self._latest = (user, moment)
        self._running[user] -= 1
        self._total -= 1
        if not self._running[user]:
            del self._running[user]
        for depth in sorted(self._waiting, reverse=True) if self._waiting else ():
            while (chosen := self._next(depth)) is not None:
                turns = self._waiting[depth].pop(chosen)
                turn = turns.popleft()
                if turns:
                    self._waiting[depth][chosen] = turns  # behind all others
                if not turn.done():
                    self._count(chosen)
                    turn.set_result(None)
            if not self._waiting[depth]:
                del self._waiting[depth]

    def has_others(self, user: str) -> bool:
        """Whether calls of anybody else run, or did a moment ago."""
        if len(self._running) > (user in self._running):
            return True
        _, ended = self._before if user == self._latest[0] else self._latest
        return time.monotonic() - ended < RECENT

    def _next(self, depth: int) -> str | None:
        return next((user for user in self._waiting[depth] if self._has_place(user, depth)), None)

    def _has_place(self, user: str, depth: int) -> bool:
        """Whether a call of this depth may begin: the deeper, the more places there are."""
        places = self._workers * (1 + EACH_NESTING * depth)
        return self._total < places and self._running[user] < max(1, math.floor(places * MOST_EACH_USER))

    def _count(self, user: str) -> None:
        self._running[user] += 1
        self._total += 1

    def _retry_after(self, waiting: int) -> int:
        """Seconds until those who wait now will have had their turn, if calls go on ending as fast as they did."""
        if not self._ends:
            return SHORTEST
        rate = len(self._ends) / max(time.monotonic() - self._ends[0], 0.001)
        return min(LONGEST, max(SHORTEST, math.ceil(waiting / rate)))

    def _forget(self, depth: int, user: str) -> None:
        users = self._waiting[depth]
        if not users.get(user, True):
            del users[user]
        if not users:
            del self._waiting[depth]
