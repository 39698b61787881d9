"""The books of the dispatcher."""

import asyncio
from collections import Counter
from types import SimpleNamespace

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
