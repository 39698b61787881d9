"""The rounds in which a gateway removes what has expired."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway_server.app import Gateway


def test_a_step_that_fails_keeps_no_other_from_its_work(caplog: pytest.LogCaptureFixture) -> None:
    swept = asyncio.Event()

    async def fail() -> None:
        raise OSError("The store answers with 403.")

    async def succeed() -> None:
        swept.set()

    class Sweeping:
        def _sweeping(self, _moment: float) -> dict[str, Callable[[], Awaitable[None]]]:
            return {"files": fail, "jobs": succeed}

    async def rounds() -> None:
        task = asyncio.create_task(Gateway._sweep(Sweeping()))  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            await swept.wait()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(rounds())
    assert "sweeping files failed" in caplog.text
