"""Threads that a test holds up, while whoever waits for them is canceled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any


class Gate:
    """Keeps a thread that comes to it until the test lets it go on."""

    def __init__(self) -> None:
        self.passed = 0
        self._reached, self._open, self._done = threading.Event(), threading.Event(), threading.Event()

    def before(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*arguments: Any) -> Any:
            self._reached.set()
            assert self._open.wait(10)
            self.passed += 1
            try:
                return work(*arguments)
            finally:
                self._done.set()

        return gated

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 10)

    def open(self) -> None:
        self._open.set()

    async def done(self) -> None:
        """The first that came has done its work."""
        assert await asyncio.to_thread(self._done.wait, 10)


async def cancel(task: asyncio.Task[Any], times: int) -> None:
    """As those do who do not know of each other; everything goes on that can."""
    for _ in range(times):
        task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
