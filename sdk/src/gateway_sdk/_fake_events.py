"""What the functions of the fake say, as the gateway would tell it: the part of `testing.FakeGateway` about events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .models import StreamEventType

_END = object()


def awaited(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives. It runs in a thread of its own: here a loop may run already, that of an async client."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def one_by_one(values: AsyncGenerator[Any, Any]) -> Generator[Any, None, None]:
    """What an asynchronous generator yields, each as it is wanted."""

    async def following() -> Any:
        return await anext(values, _END)

    with ThreadPoolExecutor(1) as thread:
        runner = asyncio.Runner()
        try:
            while (value := thread.submit(runner.run, following()).result()) is not _END:
                yield value
        finally:
            thread.submit(runner.close).result()


def until_terminal(values: Generator[Any, None, Any]) -> Iterator[dict[str, Any]]:
    """The events of a generator to the one that ends them."""
    while True:
        try:
            event = _as_event(next(values))
        except StopIteration as end:
            yield {"type": "done", "data": None, "returned": end.value}
            return
        if event is None:
            continue
        yield event
        if event["type"] in ("done", "error"):
            return


def _as_event(value: Any) -> dict[str, Any] | None:
    """What a function yielded as an event; None for a line of its log."""
    if not isinstance(value, dict) or "type" not in value:
        return {"type": "content", "data": value}
    if value["type"] == "log":
        return None
    if value["type"] not in tuple(StreamEventType):
        return {"type": "content", "data": value.get("data", value)}
    return {"data": None, **value}


def fold(events: list[dict[str, Any]]) -> Any:
    """The result of a generator for a caller that wanted no stream."""
    returned = events[-1].get("returned")
    if returned is not None:
        return returned
    last = events[-1]["data"]
    if isinstance(last, dict):
        return last
    contents = [event["data"] for event in events if event["type"] == "content"]
    if contents and all(isinstance(content, str) for content in contents):
        return {"content": "".join(contents)}
    return {"events": events[1:]}
