"""The books of the dispatcher."""

import asyncio
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from gateway_server.calls.dispatcher import Dispatcher


def test_an_attempt_that_left_takes_nothing_of_the_next_one_along():
    """A job without a rest between its attempts is taken again before the end of the one before has been heard of."""

    async def attempts() -> None:
        dispatcher = Dispatcher.__new__(Dispatcher)
        dispatcher._attempts, dispatcher._to_cancel, dispatcher._at_work = {}, set(), Counter(ann=2)
        dispatcher.notify = lambda _user: None  # type: ignore[method-assign]
        leased = SimpleNamespace(job_id="job", order=SimpleNamespace(principal=SimpleNamespace(user="ann")))
        first = asyncio.create_task(asyncio.sleep(0))
        await first
        second = dispatcher._attempts["job"] = asyncio.create_task(asyncio.sleep(0))
        dispatcher._left(leased, first)
        assert dispatcher._attempts == {"job": second}
        await second
        dispatcher._left(leased, second)
        assert (dispatcher._attempts, dispatcher._at_work) == ({}, Counter())

    asyncio.run(attempts())


@pytest.mark.parametrize("finds_worker", [False, True])
def test_an_attempt_says_that_it_starts_once_it_has_a_worker(finds_worker: bool):
    told: list[tuple[str, int]] = []

    async def append(_job_id: str, event: bytes) -> None:
        said = json.loads(event)
        told.append((said["type"], said["data"]["attempt"]))

    async def pass_on(*arguments: Any, **_: Any) -> Any:
        return arguments[0] if arguments else None

    async def attempt(*_: Any, begun: Any, **__: Any) -> str:
        if finds_worker:
            await begun()
        return "outcome"

    async def tries() -> None:
        dispatcher = Dispatcher.__new__(Dispatcher)
        books: dict[str, Any] = {
            "_tokens": SimpleNamespace(check=lambda _principal: None),
            "_pipeline": SimpleNamespace(prepare=pass_on, begin=pass_on, attempt=attempt),
            "_events": SimpleNamespace(append=append),
            "_database": SimpleNamespace(write=pass_on),
        }
        for name, book in books.items():
            setattr(dispatcher, name, book)
        order = SimpleNamespace(principal=None, call=None)
        leased = SimpleNamespace(job_id="job", order=order, interruptions=0, attempt=2, deadline=None)
        begun = asyncio.Event()
        assert await dispatcher._try(leased, SimpleNamespace(), begun) == "outcome"
        assert begun.is_set() is finds_worker

    asyncio.run(tries())
    assert told == ([("start", 2)] if finds_worker else [])
