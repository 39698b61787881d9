"""Records of calls reach the database together and exactly once, whatever fails on their way."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from books import CANCELED, DONE, Books, Failing, key, opened, run
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gateway_server.calls import ledger as module
from gateway_server.calls.jobs import Ending
from gateway_server.calls.records import Opening
from gateway_server.models import JobStatus
from gateway_server.store import schema

pytestmark = pytest.mark.usefixtures("at_once")


def test_records_go_to_the_database_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        taken = Failing(monkeypatch)
        async with opened(tmp_path) as books:
            before = taken.tried
            ids = [books.call() for _ in range(200)]
            rows = await books.rows()
            assert set(rows) == set(ids)
            assert taken.tried == before + 1
            assert {(row.status, row.result, row.log, row.charged) for row in rows.values()} == {
                ("succeeded", b'{"n":1}', b"said", True)
            }
            assert await books.used() == 200

    run(main)


def test_a_read_right_after_the_end_sees_the_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            for told in (False, True):
                job_id = books.begin(is_told=told)
                assert (await books.rows())[job_id].status == "running"
                books.end(job_id)
                assert (await books.rows())[job_id].status == "succeeded"

    run(main)


def test_a_write_comes_after_the_records_that_were_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            books.hold().set()
            for number in range(1, 20):
                books.call()
                wanted = select(schema.counters.c.amount).where(schema.counters.c.user == "ann")
                assert await books.database.write(lambda c: c.execute(wanted).scalar()) == number

    run(main)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_write_that_failed_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, late: bool
) -> None:
    async def main() -> None:
        failing = Failing(monkeypatch)
        async with opened(tmp_path) as books:
            failing.times, failing.late = times, late
            ids = [books.call() for _ in range(10)]
            books.ledger.take_over()
            running = books.begin()
            books.ledger.take_over()
            ids += [books.call(is_told=True) for _ in range(10)]
            books.ledger.take_over()
            assert books.end(running)
            await books.settled()
            rows = await books.rows()
            assert set(rows) == {*ids, running}
            assert {row.status for row in rows.values()} == {"succeeded"}
            assert all(row.result for row in rows.values())
            assert await books.used() == 21

    run(main)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["begin", "told", "end", "refund", "cancel", "take", "fail", "pause"]), max_size=40))
def test_whatever_the_order_every_record_is_there_once(orders: list[str]) -> None:
    async def main(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "AGAIN", 0.001)
            failing = Failing(patch)
            async with opened(folder) as books:
                running: list[str] = []
                expected: dict[str, tuple[str, bool]] = {}
                for number, order in enumerate(orders):
                    if order in ("begin", "told"):
                        begun = books.try_to_begin(key(f"k{number}"), is_told=order == "told")
                        if begun is not None:
                            running.append(begun)
                            expected[begun] = "running", True
                    elif order in ("end", "refund", "cancel") and running:
                        job_id = running.pop(0)
                        ending = CANCELED if order == "cancel" else DONE
                        assert books.end(job_id, ending, charged=order != "refund", events=b'{"type":"done"}')
                        expected[job_id] = ending.status.value, order != "refund"
                    elif order == "take":
                        books.ledger.take_over()
                    elif order == "fail":
                        failing.times, failing.late = number % 3, bool(number % 2)
                    elif order == "pause":
                        await asyncio.sleep(0.002)
                failing.times = 0
                await books.settled()
                rows = await books.rows()
                assert {job_id: (row.status, row.charged) for job_id, row in rows.items()} == expected
                assert await books.used() == sum(charged for _, charged in expected.values())
                for row in rows.values():
                    assert (row.request_key is None) == (row.status == "canceled")
                    assert (row.result == b'{"n":1}') == (row.status == "succeeded")

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(main(Path(folder)), 20))


def test_another_life_takes_over_what_was_not_committed(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "first") as books:
            committed = [books.call() for _ in range(5)]
            await books.ledger.settle()
            told = books.begin(is_told=True)
            gate = books.hold()
            waiting = [books.call() for _ in range(5)]
            books.ledger.take_over()
            waiting += [books.call(is_told=True) for _ in range(5)]
            assert books.end(told)
            untold = books.begin()
            left = books.cut(tmp_path / "second")
            gate.set()
            assert books.end(untold)
        for _ in range(2):  # and the next one after that finds nothing more
            async with opened(left) as again:
                rows = await again.rows()
                assert set(rows) == {*committed, *waiting, told}
                assert {(row.status, row.result) for row in rows.values()} == {("succeeded", b'{"n":1}')}
                assert await again.used() == len(rows)

    (tmp_path / "first").mkdir()
    run(main)


def test_a_call_that_ended_while_its_beginning_was_taken_over_survives_the_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "first") as books:
            job_id = books.begin()
            gate = books.hold()
            books.ledger.take_over()
            assert books.end(job_id)  # its caller is answered now
            left = books.cut(tmp_path / "second")
            gate.set()
        async with opened(left) as again:
            rows = await again.rows()
            assert [row.status for row in rows.values()] == ["succeeded"]
            assert await again.used() == 1

    (tmp_path / "first").mkdir()
    run(main)


def test_what_failed_to_be_written_survives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        failing = Failing(monkeypatch)
        async with opened(tmp_path / "first") as books:
            failing.times = 1000
            ids = [books.begin(), books.begin(is_told=True)]
            first = books.ledger.take_over()
            assert first is not None
            assert books.end(ids[0])
            await first
            assert books.end(ids[1])
            refused = Opening("other", None, None, "other", 0, "ann", None, None, "p", "1", "f", None, None, 1.0)
            assert not books.ledger.begin(refused, is_told=False), "nothing begins while nothing can be recorded"
            left = books.cut(tmp_path / "second")
            failing.times = 0
        async with opened(left) as again:
            rows = await again.rows()
            assert set(rows) == set(ids)
            assert {row.status for row in rows.values()} == {"succeeded"}
            assert await again.used() == 2

    (tmp_path / "first").mkdir()
    run(main)


def test_records_that_the_journal_has_no_room_for_are_left_to_the_database(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, size=4096) as books:
            gate = books.hold()
            running = [books.begin() for _ in range(100)]
            ended = [job_id for job_id in running if books.end(job_id)]
            assert 5 <= len(ended) < 100
            gate.set()
            for job_id in set(running) - set(ended):
                await books.ledger.written(job_id)
            assert await books.used() == 100
            assert {row.status for row in (await books.rows()).values()} == {"succeeded"}
            assert books.end(books.begin()), "once everything is taken over there is room again"

    run(main)


def test_a_journal_has_room_again_while_calls_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who never rest must not drive every call into a transaction of its own once the file is full."""
    monkeypatch.setattr(module, "EVERY", 0.002)

    async def main() -> None:
        refused: list[int] = []

        async def caller(books: Books, number: int) -> None:
            for turn in range(300):
                while (job_id := books.try_to_begin()) is None:
                    refused.append(turn)
                    await books.ledger.settle()
                await asyncio.sleep(0.001 * (number % 3))
                if not books.end(job_id):
                    refused.append(turn)
                    await books.ledger.written(job_id)

        async with opened(tmp_path, size=1 << 16) as books:
            await asyncio.gather(*(caller(books, number) for number in range(8)))
            assert await books.used() == 8 * 300
            assert len(refused) < 8 * 300 / 3

    run(main)


def test_a_result_too_long_for_the_journal_is_left_to_the_database(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, size=16 << 20) as books:
            long = Ending(status=JobStatus.SUCCEEDED, result=b"x" * (module.LONGEST_BODY + 1))
            for told in (False, True):
                job_id = books.begin(is_told=told)
                assert not books.end(job_id, long)
                await books.ledger.written(job_id)
                assert (await books.rows())[job_id].result == long.result
                fits = Ending(status=JobStatus.SUCCEEDED, result=b"x" * module.LONGEST_BODY)
                job_id = books.begin(is_told=told)
                assert books.end(job_id, fits)

    run(main)


def test_what_was_scrubbed_does_not_stand_in_the_journal(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as books:
            for _ in range(20):
                books.call(user="ann-who-leaves")
            running = books.begin(user="bob", is_told=True)
            assert b"ann-who-leaves" in (tmp_path / "journal").read_bytes()
            await books.ledger.settle()
            assert b"ann-who-leaves" not in (tmp_path / "journal").read_bytes()
            books.end(running)
            left = books.cut(tmp_path.with_name("left"))
        async with opened(left) as again:
            rows = await again.rows()
            assert rows[running].status == "succeeded"
            assert await again.used("bob") == 1

    run(main)


def test_two_gateways_on_one_database_each_recover_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 60.0)

    async def main() -> None:
        async with opened(tmp_path / "both", journal="one") as one, opened(tmp_path / "both", journal="two") as two:
            gate = one.hold()
            ids = [one.call()]
            taking = one.ledger.take_over()
            ids.append(one.call())  # so that the journal is not begun anew
            gate.set()
            assert taking is not None
            await taking
            ids.append(two.call())
            await two.ledger.settle()
            left = one.cut(tmp_path / "left")
        async with opened(left, journal="one") as again:
            assert set(await again.rows()) == set(ids)
            assert await again.used() == 3

    (tmp_path / "both").mkdir()
    run(main, 5)
