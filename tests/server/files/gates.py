"""Threads that a test holds up, while whoever waits for them is canceled."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


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


async def writes_into_no_other(copying: asyncio.Task[Any], gate: Gate, path: Path) -> None:
    """Cancels, twice, a copy that is about to write, and opens a file: it may not get what was meant for the first."""
    await gate.reached()
    await cancel(copying, times=2)
    with path.open("xb", buffering=0) as other:
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await copying
        await gate.done()
        assert os.fstat(other.fileno()).st_size == 0
