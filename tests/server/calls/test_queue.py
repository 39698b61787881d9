"""Jobs that wait: for how long, and what is told of those whose time is over."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway_server.calls.dispatcher import Dispatcher
from gateway_server.calls.events import Events
from gateway_server.calls.jobs import Ending, Jobs
from gateway_server.calls.logs import Log
from gateway_server.calls.outcomes import Outcome
from gateway_server.calls.queue import Order, Queue
from gateway_server.calls.running import RunningCalls
from gateway_server.models import Call, JobStatus, Principal
from gateway_server.prefabs.retries import Retry
from gateway_server.store import schema
from gateway_server.store.database import Database

ANN = Principal(user="ann", issued_at=0.0)
CALL = Call("some-prefab", "1.0.0", "f", {})


class Books:
    """A queue over a real database."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.in_folder(folder)
        self.jobs = Jobs(self.database)
        self.queue = Queue(self.database, self.jobs)

    async def submit(self, *, deadline: float | None = None, attempt: int = 0) -> None:
        def work(connection: Connection) -> None:
            status = JobStatus.QUEUED
            self.jobs.open(connection, job_id="job", principal=ANN, call=CALL, status=status, started=False)
            connection.execute(schema.jobs.update().values(attempt=attempt))
            order = Order(principal=ANN, call=CALL, retry=Retry())
            self.queue.add(connection, "job", order, priority=0, deadline=deadline)

        await self.database.write(work)

    def dispatcher(self, **steps: Any) -> Dispatcher:
        def close(connection: Connection, outcome: Outcome, _log: bytes, **_: Any) -> bool:
            return self.jobs.close(connection, outcome.job_id, Ending(outcome.status, outcome.told_error()))

        tokens = SimpleNamespace(check=lambda _principal: None)
        parts: Any = {"pipeline": SimpleNamespace(close=close, **steps), "tokens": tokens}
        books = {"database": self.database, "queue": self.queue, "jobs": self.jobs}
        return Dispatcher(workers=1, events=Events(self.database), running=RunningCalls(), **books, **parts)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Books]:
    books = Books(folder)
    books.database.open()
    try:
        yield books
    finally:
        await books.database.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@pytest.mark.parametrize("leased", [False, True])
@pytest.mark.parametrize(("attempt", "status"), [(0, JobStatus.EXPIRED), (1, JobStatus.TIMED_OUT)])
def test_a_job_expires_that_was_never_tried(tmp_path: Path, attempt: int, status: JobStatus, leased: bool) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            await books.submit(deadline=time.time() - 1, attempt=attempt)
            dispatcher = books.dispatcher(new_log=lambda: Log(100))
            if leased:  # it was next before anybody looked at its time
                order = await books.queue.take("ann")
                assert order is not None
                await dispatcher._attempt(order)
            else:
                await dispatcher._expire()
            job = await books.jobs.find("job", ANN)
            assert job.status is status
            assert job.error is not None
            assert ("before it began" in job.error["message"]) is (attempt == 0)

    run(main)


@pytest.mark.parametrize("cut", [False, True])
def test_a_clock_that_is_set_back_keeps_no_job_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            await books.submit()
            if cut:  # a gateway that was at it has died
                assert await Queue(books.database, books.jobs).take("ann")
                assert await books.queue.take_over(alone=True) == 1
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() - 3600)
            assert await books.queue.take("ann")

    run(main)


def test_nor_one_that_a_gateway_was_at_when_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            await books.submit()
            begun = asyncio.Event()

            async def prepare(*_: Any, **__: Any) -> None:
                begun.set()
                await asyncio.Event().wait()

            steps = {"new_log": lambda: Log(100), "prepare": prepare, "pause": lambda *_: None}
            dispatcher = books.dispatcher(**steps)
            await dispatcher.start()
            async with asyncio.timeout(10):
                await begun.wait()
            await dispatcher.stop()
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() - 3600)
            assert await books.queue.take("ann")

    run(main)
