"""What a key of a request stands for is known from its beginning on, wherever its record is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from books import ANN, CANCELED, Failing, key, opened, run

from gateway_server.store import database as database_module

pytestmark = pytest.mark.usefixtures("at_once")


def test_a_key_is_known_from_its_beginning_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            assert await books.is_new(key("one"))
            job_id = books.begin(key("one"))
            assert not await books.is_new(key("one"))
            assert not await books.is_new(key("one", b"other"))
            assert await books.is_new(key("two"))
            books.end(job_id)
            for _ in range(3):
                assert not await books.is_new(key("one"))
                await books.ledger.settle()

    run(main)


def test_two_requests_of_one_key_at_the_same_moment_are_not_both_new(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:

            async def come() -> bool:
                if not await books.is_new(key("one")):
                    return False
                books.call(key=key("one"))
                return True

            assert sorted(await asyncio.gather(*(come() for _ in range(10)))) == [False] * 9 + [True]

    run(main)


def test_a_key_that_is_forgotten_is_new_again_and_stands_for_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            first = books.begin(key("one"))
            books.end(first, CANCELED)
            assert await books.is_new(key("one"))
            second = books.call(key=key("one"))
            rows = await books.rows()
            assert (rows[first].request_key, rows[second].request_key) == (None, key("one").key)

    run(main)


def test_a_key_that_is_forgotten_while_its_beginning_is_taken_over_stands_for_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            first = books.begin(key("one"))
            gate = books.hold()
            books.ledger.take_over()
            books.end(first, CANCELED)
            if await books.is_new(key("one")):
                second = books.call(key=key("one"))
                gate.set()
                rows = await books.rows()
                assert (rows[first].request_key, rows[second].request_key) == (None, key("one").key)

    run(main)


def test_a_key_is_known_while_several_batches_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "GROUP", 1)  # each in a transaction of its own

    async def main() -> None:
        async with opened(tmp_path) as books:
            gates = []
            for name in ("one", "two", "three", "four"):
                gates.append(books.hold())
                books.call(key=key(name))
                books.ledger.take_over()
            for gate in gates:
                gate.set()
                await asyncio.sleep(0.02)  # so that this batch is taken over, and the next one not yet
                for name in ("one", "two", "three", "four"):
                    assert not await books.is_new(key(name)), name

    run(main)


def test_a_key_is_known_however_often_its_record_fails_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        failing = Failing(monkeypatch)
        async with opened(tmp_path) as books:
            failing.times = 5
            books.call(key=key("one"))
            while failing.times:
                assert not await books.is_new(key("one"))
                await asyncio.sleep(0.005)

    run(main)


def test_a_key_that_a_job_took_meanwhile_costs_no_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:

            def submit(connection: Any) -> None:
                books.jobs.open(connection, job_id="job", principal=ANN, call=None, key=key("one"))

            gate = books.hold()
            submitting = books.database.begin(submit, durable=False)
            ids = [books.call(key=key("one")), books.call(key=key("two")), books.call()]
            gate.set()
            rows = await books.rows()
            await submitting.future
            assert set(rows) == {"job", *ids}
            assert rows["job"].request_key == key("one").key
            assert rows[ids[1]].request_key == key("two").key
            assert await books.used() == 3

    run(main)
