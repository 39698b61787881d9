"""A ledger over a real database, to be tried."""

import asyncio
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway_server.calls import records
from gateway_server.calls.jobs import Ending, Jobs, new_id
from gateway_server.calls.ledger import Ledger
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.records import Opening
from gateway_server.calls.requests import RequestKey, request_key
from gateway_server.models import JobStatus, Principal
from gateway_server.store import schema
from gateway_server.store.database import Database
from gateway_server.store.journal import Journal

ANN = Principal(user="ann")
DONE = Ending(status=JobStatus.SUCCEEDED, result=b'{"n":1}', log=b"said")
CANCELED = Ending(status=JobStatus.CANCELED, error={"error_code": "CANCELED"}, forget_key=True)
SIZE = 1 << 18


class Books:
    """A ledger over a real database, and what it should say."""

    def __init__(self, folder: Path, *, size: int = SIZE, journal: str = "journal") -> None:
        self.folder = folder
        self.database = Database.in_folder(folder)
        self.quotas = Quotas(self.database, None)
        self.jobs = Jobs(self.database)
        self.ledger = Ledger(self.database, self.quotas, lambda: Journal(folder / journal, size=size))
        self._gates: list[threading.Event] = []

    def begin(self, key: RequestKey | None = None, *, user: str = "ann", is_told: bool = False) -> str:
        job_id = self.try_to_begin(key, user=user, is_told=is_told)
        assert job_id is not None
        return job_id

    def try_to_begin(self, key: RequestKey | None = None, *, user: str = "ann", is_told: bool = False) -> str | None:
        job_id = new_id()
        opening = Opening(
            *(job_id, None, None, job_id, 0, user, None, None, "p", "1.0.0", "f"),
            *(key.key if key else None, key.digest if key else None, time.time()),
        )
        return job_id if self.ledger.begin(opening, is_told=is_told) else None

    def end(self, job_id: str, ending: Ending = DONE, *, charged: bool = True, events: bytes = b"") -> bool:
        return self.ledger.end(job_id, ending, charged=charged, events=events)

    def call(self, **options: Any) -> str:
        job_id = self.begin(**options)
        assert self.end(job_id)
        return job_id

    async def is_new(self, key: RequestKey) -> bool:
        return await self.ledger.is_new(key, self.jobs.knows)

    async def settled(self) -> None:
        """Waits until the database takes everything again."""
        await self.ledger.settle()
        while self.database.lags():
            await asyncio.sleep(0.002)  # between two looks
            await self.ledger.settle()

    def hold(self) -> threading.Event:
        """Keeps the writer from what is handed over next until the event is set."""
        gate = threading.Event()
        self._gates.append(gate)
        self.database.begin(lambda _: gate.wait(10), durable=False)
        return gate

    def let_go(self) -> None:
        for gate in self._gates:
            gate.set()

    def cut(self, folder: Path) -> Path:
        """What another life would find if this one were killed now."""
        return Path(shutil.copytree(self.folder, folder))

    async def rows(self) -> dict[str, Any]:
        jobs, results, logs = schema.jobs, schema.job_results, schema.job_logs
        wanted = (
            select(jobs, results.c.body.label("result"), logs.c.body.label("log"))
            .outerjoin(results, results.c.job_id == jobs.c.id)
            .outerjoin(logs, logs.c.job_id == jobs.c.id)
        )
        return {row.id: row for row in await self.database.read(lambda c: c.execute(wanted).all())}

    async def used(self, user: str = "ann") -> int:
        return int((await self.quotas.show(user))[0].used)


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[Books]:
    books = Books(folder, **options)
    books.database.open()
    try:
        await books.ledger.open()
        yield books
        await books.ledger.close()
    finally:
        books.let_go()
        await books.database.close()


def run(main: Callable[[], Any], seconds: float = 20) -> None:
    asyncio.run(asyncio.wait_for(main(), seconds))


def key(text: str, body: bytes = b"body") -> RequestKey:
    made = request_key(ANN, text, b"run", body)
    assert made is not None
    return made


class Failing:
    """Fails the take-over as often as it is told, before or after it has written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        self.late = False
        self.tried = 0
        real = records.write

        def take_over(*arguments: Any) -> None:
            self.tried += 1
            fails, self.times = self.times > 0, max(0, self.times - 1)
            if not fails or self.late:
                real(*arguments)
            if fails:
                raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(records, "write", take_over)
