"""Followers of a job read each of its events once and in order, wherever they begin and however it is told."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from gateway_server.calls import events as module
from gateway_server.calls.events import Events, store
from gateway_server.models import JobStatus
from gateway_server.store import schema
from gateway_server.store.database import Database

JOB = "job"
FRAME = re.compile(rb"id: (\d+)\ndata: (.*)\n\n")


class Watched(Database):
    """A database that counts what it is asked."""

    reads = 0

    async def read(self, *arguments: Any, **options: Any) -> Any:
        self.reads += 1
        return await super().read(*arguments, **options)


@asynccontextmanager
async def a_job(folder: Path) -> AsyncIterator[tuple[Watched, Events]]:
    database = Watched(f"sqlite:///{folder / 'gateway.db'}")
    database.open()
    running = {"status": JobStatus.RUNNING, "attempt": 1, "depth": 1, "user": "ann", "created_at": time.time()}
    await database.write(lambda c: c.execute(schema.jobs.insert().values(id=JOB, root_id=JOB, **running)))
    try:
        yield database, Events(database)
    finally:
        await database.close()


async def say(events: Events, texts: list[bytes]) -> None:
    for text in texts:
        await events.append(JOB, text)
    await events.settle(JOB)


async def end(database: Database, events: Events) -> None:
    def work(connection: Any) -> int:
        connection.execute(schema.jobs.update().values(ended_at=time.time()))
        return store(connection, JOB, b'"end"', ends=True)

    events.told(JOB, await database.write(work), b'"end"', ends=True)


async def read(events: Events, after: int, speed: float = 0) -> list[tuple[int, bytes]]:
    found = []
    async for frames in events.follow(JOB, after):
        found += [(int(number), text) for number, text in FRAME.findall(frames)]
        await asyncio.sleep(speed)
    return found


@settings(max_examples=25, deadline=None)
@given(
    said=st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=9), min_size=1, max_size=6),
    starts=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    row=st.sampled_from([1, 500, 4000]),
    recent=st.sampled_from([1, 4000]),
)
def test_every_follower_reads_each_event_once(
    tmp_path_factory: pytest.TempPathFactory, said: list[list[int]], starts: list[int], row: int, recent: int
) -> None:
    """Early and late ones, quick and slow ones, with much or little at hand."""
    sizes = [size for part in said for size in part]
    texts = [b'"%d %s"' % (number, b"x" * size) for number, size in enumerate(sizes, 1)]
    wanted = [*enumerate([*texts, b'"end"'], 1)]
    starts = [min(start, len(texts)) for start in starts]

    async def scenario() -> None:
        async with a_job(tmp_path_factory.mktemp("events")) as (database, events):
            early = [asyncio.create_task(read(events, start, 0.001 * (start % 3))) for start in starts]
            at = 0
            for part in said:
                await say(events, texts[at : at + len(part)])
                at += len(part)
            late = [asyncio.create_task(read(events, start)) for start in [*starts, len(texts) + 1]]
            await end(database, events)
            for start, found in zip(starts * 2, [*await asyncio.gather(*early), *await asyncio.gather(*late)]):
                assert found == wanted[start:]
            assert await late[-1] == []
            assert await events.recorded(JOB) == [text for _, text in wanted]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROW", row)
        patch.setattr(module, "RECENT", recent)
        asyncio.run(scenario())


def test_who_is_up_to_date_asks_the_database_nothing(tmp_path: Path) -> None:
    """Else an event that thousands follow would be as many questions, and everything else would wait for them."""

    async def scenario() -> None:
        async with a_job(tmp_path) as (database, events):
            followers = [asyncio.create_task(read(events, 0)) for _ in range(20)]
            await say(events, [b'"first"'])
            while len(events._channels[JOB].waiting) < 20:
                await asyncio.sleep(0)
            before = database.reads
            for number in range(50):
                await say(events, [b"%d" % number])
                while len(events._channels[JOB].waiting) < 20:
                    await asyncio.sleep(0)
            assert database.reads == before
            await end(database, events)
            assert all(len(found) == 52 for found in await asyncio.gather(*followers))

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_what_another_gateway_writes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells this one; its followers look now and then."""
    monkeypatch.setattr(module, "KEEP_ALIVE", 0.02)

    async def scenario() -> None:
        async with a_job(tmp_path) as (database, events):
            follower = asyncio.create_task(read(events, 0))
            await say(events, [b"1"])
            await database.write(lambda c: store(c, JOB, b"2"))
            before = database.reads
            while database.reads == before:
                await asyncio.sleep(0)
            await say(events, [b"3"])
            await end(database, Events(database))
            assert [text for _, text in await follower] == [b"1", b"2", b"3", b'"end"']

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_what_a_full_disk_refuses_is_stored_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN", 0.01)

    async def scenario() -> None:
        async with a_job(tmp_path) as (database, events):
            write, refusals = database.write, iter(range(3))

            async def refuses(*arguments: Any, **options: Any) -> Any:
                if next(refusals, None) is not None:
                    raise OperationalError("INSERT", {}, Exception("database or disk is full"))
                return await write(*arguments, **options)

            monkeypatch.setattr(database, "write", refuses)
            follower = asyncio.create_task(read(events, 0))
            await say(events, [b"1", b"2"])
            await say(events, [b"3"])
            await end(database, events)
            assert [text for _, text in await follower] == [b"1", b"2", b"3", b'"end"']

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_nothing_comes_after_the_event_that_ends_a_job(tmp_path: Path) -> None:
    """A gateway that has lost a job to another may still write what its function said."""

    async def scenario() -> None:
        async with a_job(tmp_path) as (database, events):
            await say(events, [b"1"])
            await end(database, events)
            await database.write(lambda c: store(c, JOB, b'"late"'))
            wanted = [(1, b"1"), (2, b'"end"')]
            assert await read(events, 0) == wanted
            assert await read(events, 1) == wanted[1:]
            assert await events.recorded(JOB) == [text for _, text in wanted]

    asyncio.run(asyncio.wait_for(scenario(), 30))
