"""Work of threads that whoever waits for it may not leave alone."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def finished(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What `work` makes in a thread. Canceled, even again, this ends only when the thread has, too."""
    future = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await until_done(future)
        raise


async def until_done(future: asyncio.Future[Any]) -> None:
    """However often whoever waits is canceled: they would take away what a thread still works on."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # nobody wants to hear of it
