"""The deadlines of calls.

A timer for each call would take longer than many of them, of which hardly any comes to its deadline: those whose
deadline is far away are looked at together, now and then, and get a timer once it is near.
"""

import asyncio
from time import monotonic

from gateway_server.calls.running import Running

NEAR = 1.0
"""Seconds before its deadline in which a call has a timer of its own."""


class Deadlines:
    """Lives on the event loop, whose clock is the monotonic one."""

    def __init__(self) -> None:
        self._far: dict[Running, float] = {}
        self._near: dict[Running, asyncio.TimerHandle] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: Running, ends: float) -> None:
        """Has a call expire when its time is over, until it is forgotten."""
        if ends - monotonic() < NEAR:
            self._near[call] = asyncio.get_running_loop().call_at(ends, call.expire)
            return
        self._far[call] = ends
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NEAR / 2, self._look)

    def forget(self, call: Running) -> None:
        """A call has ended."""
        if self._far.pop(call, None) is None:
            self._near.pop(call).cancel()

    def _look(self) -> None:
        self._timer = None
        far, self._far = self._far, {}
        for call, ends in far.items():
            self.watch(call, ends)
