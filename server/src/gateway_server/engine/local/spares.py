"""Workers that serve nobody yet: when a new user comes, one is there, or at least on its way."""

import asyncio
from collections import deque

from gateway_server.engine.local.worker import Worker
from gateway_server.engine.local.zygotes import Zygote


class Spares:
    """Those of one version. Lives on the event loop."""

    def __init__(self) -> None:
        self._forks: deque[asyncio.Task[Worker]] = deque()
        """Those that are there or on their way, the oldest first: one as a rule, and more where somebody left."""

    @property
    def are_ready(self) -> bool:
        """Whether none is on its way."""
        return all(fork.done() for fork in self._forks)

    def count(self) -> int:
        """Live ones."""
        return sum(fork.done() and not _is_useless(fork) for fork in self._forks)

    async def take(self, zygote: Zygote) -> Worker:
        """The one that was begun first, or one that is made now; for the next user another is begun meanwhile.

        Raises:
            ServiceUnavailable: none could be made.
        """
        while self._forks and _is_useless(self._forks[0]):
            self._forks.popleft()
        if not self._forks:
            worker = await zygote.fork("")
            self._prepare(zygote)
            return worker
        fork = self._forks.popleft()
        self._prepare(zygote)
        try:
            return await asyncio.shield(fork)
        except asyncio.CancelledError:
            self._forks.appendleft(fork)
            raise

    def close(self) -> None:
        """Lets those go that are on their way."""
        for fork in self._forks:
            fork.cancel()

    def _prepare(self, zygote: Zygote) -> None:
        if not self._forks:
            fork = asyncio.create_task(zygote.fork(""))
            fork.add_done_callback(_is_useless)  # so that its failure has been seen; whoever needs one will hear why
            self._forks.append(fork)


def _is_useless(fork: asyncio.Task[Worker]) -> bool:
    """Whether no worker came of it, or none that lives."""
    return fork.done() and (fork.cancelled() or fork.exception() is not None or not fork.result().alive)
