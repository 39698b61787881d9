"""Workers that serve nobody yet: when a new user comes, one is there, or at least on its way.

To make one keeps both the gateway and the processors busy for milliseconds. Where new users come now and then, that
waits until the call is over, most probably, whose worker was taken; where they come one after the other, the next of
them would wait for it.
"""

import asyncio
from collections import deque

from gateway_server.engine.local.worker import Worker
from gateway_server.engine.local.zygotes import Zygote
from gateway_server.errors import ServiceUnavailable

ROW = 0.02
"""Seconds between two new users who come one after the other."""
LATER = 0.004
"""Seconds after which the next worker is begun where they do not: most calls are over then."""
AHEAD = 3
"""Workers that are made ahead for those who come one after the other. Otherwise it is one: each takes memory."""


class Spares:
    """Those of one version. Lives on the event loop."""

    def __init__(self) -> None:
        self._forks: deque[asyncio.Task[Worker]] = deque()
        """Those that are there or on their way, the oldest first."""
        self._dead: list[Worker] = []
        """Those that are to be ended: nobody gets them, and something may be left of each."""
        self._timer: asyncio.TimerHandle | None = None
        self._taken_at = 0.0
        self._is_closed = False

    @property
    def are_ready(self) -> bool:
        """Whether none is on its way, or will be soon."""
        return self._timer is None and all(fork.done() for fork in self._forks)

    def count(self) -> int:
        """Those that are there."""
        return sum(fork.done() and not _is_useless(fork) for fork in self._forks)

    async def take(self, zygote: Zygote) -> Worker:
        """The one that was begun first, or one that is made now; for the next user another is begun.

        Raises:
            ServiceUnavailable: none could be made.
        """
        self._prepare(zygote, 1)
        if not self._forks:
            raise ServiceUnavailable("The processes of this version are being ended.", retry_after=1)
        fork = self._forks.popleft()
        if self._is_in_a_row():
            self._make_ahead(zygote, fork)
        elif not self._forks:
            self._timer = asyncio.get_running_loop().call_later(LATER, self._prepare, zygote, 1)
        self._taken_at = asyncio.get_running_loop().time()
        try:
            return await asyncio.shield(fork)
        except asyncio.CancelledError:
            self._forks.appendleft(fork)
            raise

    def let_go(self) -> list[Worker]:
        """Those to be ended: that have died, or are too many where no new users come one after the other."""
        self._sort_out()
        gone, self._dead = self._dead, []
        while len(self._forks) > 1 and self._forks[-1].done() and not self._is_in_a_row():
            gone.append(self._forks.pop().result())
        return gone

    def close(self) -> None:
        """Begins no more, and lets those go that are on their way."""
        self._is_closed = True
        self._stop_timer()
        for fork in self._forks:
            fork.cancel()

    def _is_in_a_row(self) -> bool:
        return asyncio.get_running_loop().time() - self._taken_at < ROW

    def _make_ahead(self, zygote: Zygote, fork: asyncio.Task[Worker]) -> None:
        """Begins those that are missing as soon as a fork is made for which somebody waits: it goes before them."""

        def is_made(_: asyncio.Task[Worker]) -> None:
            if not _is_useless(fork):
                self._prepare(zygote, AHEAD)

        if fork.done():
            self._prepare(zygote, AHEAD)
        else:
            fork.add_done_callback(is_made)

    def _prepare(self, zygote: Zygote, count: int) -> None:
        """Begins as many as are missing."""
        self._stop_timer()
        self._sort_out()
        while not self._is_closed and len(self._forks) < count:
            fork = asyncio.create_task(zygote.fork(""))
            fork.add_done_callback(_is_useless)  # so that its failure has been seen; whoever needs one will hear why
            self._forks.append(fork)

    def _sort_out(self) -> None:
        """Takes out those that nobody can use."""
        useless = [fork for fork in self._forks if _is_useless(fork)]
        self._forks = deque(fork for fork in self._forks if fork not in useless)
        self._dead += [fork.result() for fork in useless if not fork.cancelled() and fork.exception() is None]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_useless(fork: asyncio.Task[Worker]) -> bool:
    """Whether no worker came of it, or none that lives."""
    return fork.done() and (fork.cancelled() or fork.exception() is not None or not fork.result().alive)
