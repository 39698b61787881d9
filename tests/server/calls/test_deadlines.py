"""The deadlines of calls: each ends when its time is over, whether that was near or far when it began."""

import asyncio
from time import monotonic
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_server.calls import deadlines as module
from gateway_server.calls.deadlines import Deadlines
from gateway_server.calls.running import Running


class Call:
    """Stands for a call that runs, and notes when it expired."""

    def __init__(self) -> None:
        self.expired_at: float | None = None

    def expire(self) -> None:
        self.expired_at = monotonic()


def watched(deadlines: Deadlines, seconds: float) -> tuple[Call, float]:
    """A call that may run for so long, and when it ends."""
    call, ends = Call(), asyncio.get_running_loop().time() + seconds
    deadlines.watch(cast(Running, call), ends)
    return call, ends


async def until(*calls: Call) -> None:
    async with asyncio.timeout(10):
        while not all(call.expired_at for call in calls):
            await asyncio.sleep(0.001)  # between two looks


@settings(max_examples=20, deadline=None)
@given(
    seconds=st.lists(st.floats(-0.01, 0.2), min_size=1, max_size=12),
    ended=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_calls_end_in_time_and_not_before(seconds: list[float], ended: list[bool]) -> None:
    async def main() -> None:
        deadlines = Deadlines()
        calls = [watched(deadlines, one) for one in seconds]
        for (call, _), has_ended in zip(calls, ended, strict=False):
            if has_ended:
                deadlines.forget(cast(Running, call))
        last, _ = watched(deadlines, 0.21)
        await until(last, *[call for (call, _), has_ended in zip(calls, ended, strict=False) if not has_ended])
        for (call, ends), has_ended in zip(calls, ended, strict=False):
            assert (call.expired_at is None) == has_ended
            assert (
                call.expired_at is None or call.expired_at >= ends - 0.002
            )  # what the clock of the loop is coarser by

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NEAR", 0.05)
        asyncio.run(main())


def test_calls_whose_time_is_far_away_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop, timers = asyncio.get_running_loop(), []
        monkeypatch.setattr(loop, "call_later", lambda *arguments: timers.append(arguments) or arguments)
        monkeypatch.setattr(loop, "call_at", lambda *arguments: timers.append(arguments) or arguments)
        deadlines = Deadlines()
        calls = [watched(deadlines, 1200.0)[0] for _ in range(100)]
        assert len(timers) == 1
        for call in calls:
            deadlines.forget(cast(Running, call))
        assert not deadlines._far
        assert not deadlines._near
        monkeypatch.undo()

    asyncio.run(main())


def test_nothing_goes_on_once_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEAR", 0.01)

    async def main() -> None:
        deadlines = Deadlines()
        call, _ = watched(deadlines, 60.0)
        deadlines.forget(cast(Running, call))
        async with asyncio.timeout(5):
            while deadlines._timer is not None:
                await asyncio.sleep(0.001)  # between two looks
        again, _ = watched(deadlines, 0.03)
        await until(again)
        deadlines.forget(cast(Running, again))

    asyncio.run(main())
