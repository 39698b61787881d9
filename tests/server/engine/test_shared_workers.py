"""Calls that lie behind others at a worker, with real processes."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from engine.conftest import plain, run, running_engine, value

from gateway_server.engine.local.turns import FEW
from gateway_server.engine.local.worker import NotBegun
from gateway_server.errors import RuntimeCrashed

OPTIONS: dict[str, Any] = {"sandbox": "off", "workers": 64, "queue": 1000}


@pytest.mark.parametrize("function", ["writes", "leaves", "dies"])
def test_who_comes_too_late_to_lie_behind_another_has_not_begun(folder: Path, function: str) -> None:
    """The worker was busy and fit when the turn came; when the call is sent it waits to be cleaned, or is no more."""

    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine, AsyncExitStack() as stack:
            await engine.learn("short", "echo", text="")
            leases = [engine.local.worker(engine.deployment("short"), "ann", alone=False) for _ in range(FEW + 1)]
            heads = {await lease.__aenter__(): lease for lease in leases[:FEW]}
            worker = await stack.enter_async_context(leases[FEW])
            for head, lease in heads.items():
                if head is worker and function == "dies":
                    with pytest.raises(RuntimeCrashed, match="code 3"):
                        await head.run(plain(function), lambda _: None, alone=False)
                elif head is worker:
                    await head.run(plain(function), lambda _: None, alone=False)
                await lease.__aexit__()
            with pytest.raises(NotBegun):
                async with asyncio.timeout(5):
                    await worker.run(plain("echo", text="x"), lambda _: None, alone=False)

    run(main())


@pytest.mark.parametrize("has_run", [False, True], ids=["before", "after"])
def test_nobody_waits_for_workers_whose_function_does_not_run(folder: Path, has_run: bool) -> None:
    """A call has its worker while its files are fetched and stored as well, which may take longer than any function."""

    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine, AsyncExitStack() as stack:
            await engine.learn("short", "echo", text="")
            lease = engine.local.worker
            for _ in range(FEW):
                worker = await stack.enter_async_context(lease(engine.deployment("short"), "ann"))
                if has_run:
                    await worker.run(plain("writes"), lambda _: None)
            async with asyncio.timeout(5):
                for number in range(10):
                    assert value(await engine.call("short", "echo", text=str(number))) == str(number)
                    assert value(await engine.ask("short", "echo", text=str(number))) == str(number)

    run(main())
