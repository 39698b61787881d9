"""Calls that lie behind others at a worker, with real processes."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from engine.conftest import Answer, Engine, plain, run, running_engine, until, value

from gateway_runtime.protocol import FRAME_LIMIT, ORDER_LIMIT
from gateway_server.engine.local import turns
from gateway_server.engine.local.turns import FEW
from gateway_server.engine.local.worker import NotBegun, Worker
from gateway_server.errors import RuntimeCrashed
from gateway_server.models import Failure, Result

OPTIONS: dict[str, Any] = {"sandbox": "off", "workers": 64, "queue": 1000}


class Notes:
    """What the runs of functions have noted in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "notes.txt"

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    async def ask(self, engine: Engine, text: str, *, seconds: float = 0.0) -> Answer:
        return await engine.ask("short", "notes", path=self.path, text=text, seconds=seconds)

    def send(self, worker: Worker, *texts: str, seconds: float = 0.0) -> list[asyncio.Task[Result | Failure]]:
        """Puts calls in the queue of one worker."""
        orders = [plain("notes", path=self.path, text=text, seconds=seconds) for text in texts]
        return [asyncio.create_task(worker.run(order, lambda _: None, alone=False)) for order in orders]


@asynccontextmanager
async def meanwhile(*calls: Coroutine[Any, Any, Answer]) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """Calls that are given up in the end."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def sleepers(engine: Engine, notes: Notes) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """As many calls as have workers of their own where calls are short; they sleep until they are given up."""
    await engine.learn("short", "echo", text="")
    async with meanwhile(*(notes.ask(engine, f"head {n}", seconds=60) for n in range(FEW))) as heads:
        await until(lambda: len(notes.lines) == FEW)
        yield heads


def pause(function: str, seconds: float) -> dict[str, float]:
    return {"seconds": seconds} if function == "says" else {}


@pytest.mark.parametrize("function", ["writes", "leaves", "dies"])
def test_who_comes_too_late_to_lie_behind_another_has_not_begun(folder: Path, function: str) -> None:
    """The worker was busy and fit when the turn came; when the call is sent it waits to be cleaned, or is no more."""

    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine, AsyncExitStack() as stack:
            await engine.learn("short", "echo", text="")
            leases = [engine.local.worker(engine.deployment("short"), "ann", alone=False) for _ in range(FEW + 1)]
            heads = {lease.__enter__(): lease for lease in [await one for one in leases[:FEW]]}
            worker = stack.enter_context(await leases[FEW])
            await until(lambda: all(head._has_greeted for head in heads))  # else what is sent now may be taken back
            for head, lease in heads.items():
                if head is worker and function == "dies":
                    with pytest.raises(RuntimeCrashed, match="code 3"):
                        await head.run(plain(function), lambda _: None, alone=False)
                elif head is worker:
                    await head.run(plain(function), lambda _: None, alone=False)
                lease.__exit__(None)
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
                worker = stack.enter_context(await lease(engine.deployment("short"), "ann"))
                if has_run:
                    await worker.run(plain("writes"), lambda _: None)
            async with asyncio.timeout(5):
                for number in range(10):
                    assert value(await engine.call("short", "echo", text=str(number))) == str(number)
                    assert value(await engine.ask("short", "echo", text=str(number))) == str(number)

    run(main())


def test_who_was_taken_back_keeps_its_place_before_those_who_wait_for_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "FEW", 2)

    async def main() -> None:
        async with running_engine(folder, **OPTIONS | {"workers": 4}) as engine:  # of which one user has three
            notes = Notes(folder)
            await engine.learn("short", "echo", text="")
            async with meanwhile(*(notes.ask(engine, f"head {n}", seconds=60) for n in range(2))):
                await until(lambda: len(notes.lines) == 2)
                early = notes.ask(engine, "early")
                late = [notes.ask(engine, f"late {n}", seconds=60) for n in range(2)]
                async with meanwhile(early, *late) as (first, *_), asyncio.timeout(10):
                    assert len((await first).workers) == 2
                    await until(lambda: len(notes.lines) == 4)
                    assert notes.lines[2:] == ["early", "late 0"]
            await until(engine.has_nothing_left)

    run(main())


def test_many_quick_calls_give_each_its_own_answer(folder: Path, sandbox: str) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS | {"sandbox": sandbox}) as engine:
            await engine.learn("short", "echo", text="")
            answers = await asyncio.gather(*(engine.ask("short", "echo", text=f"{number}") for number in range(400)))
            assert [value(answer) for answer in answers] == [f"{number}" for number in range(400)]
            assert any(answer.lay_behind for answer in answers)
            assert not any(answer.log for answer in answers)
            await until(engine.has_nothing_left)

    run(main())


def test_those_behind_a_call_that_sleeps_are_answered_long_before_it_ends(folder: Path) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            async with sleepers(engine, notes := Notes(folder)) as heads:
                async with asyncio.timeout(20):
                    answers = await asyncio.gather(*(notes.ask(engine, f"{number}") for number in range(30)))
                assert not any(head.done() for head in heads)
            assert [value(answer) for answer in answers] == [f"{number}" for number in range(30)]
            assert any(len(answer.workers) == 2 for answer in answers), "some were taken back"
            assert sorted(notes.lines) == sorted([f"head {n}" for n in range(FEW)] + [f"{n}" for n in range(30)])
            await until(engine.has_nothing_left)

    run(main())


def test_a_call_that_ends_its_process_ends_alone(folder: Path, sandbox: str) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS | {"sandbox": sandbox}) as engine:
            for _ in range(3):
                await engine.learn("short", "echo", text="")
                dying = [asyncio.create_task(engine.ask("short", "dies")) for _ in range(FEW)]
                others = [asyncio.create_task(engine.ask("short", "echo", text=f"{n}")) for n in range(FEW * 2)]
                await asyncio.wait([*dying, *others])
                assert all(isinstance(one.exception(), RuntimeCrashed) for one in dying)
                assert [value(await other) for other in others] == [f"{n}" for n in range(FEW * 2)]
                assert any(len(other.result().workers) == 2 for other in others), "some had lain behind"
            await until(engine.has_nothing_left)

    run(main())


def test_who_lies_behind_a_process_that_is_killed_has_not_begun(folder: Path) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            notes = Notes(folder)
            with await engine.local.worker(engine.deployment("short"), "ann", alone=False) as worker:
                head, *behind = notes.send(worker, "head", "one", "two", seconds=60)
                await until(lambda: notes.lines)
                os.kill(worker.pid or 0, signal.SIGKILL)
                outcomes = await asyncio.gather(head, *behind, return_exceptions=True)
                assert [type(outcome) for outcome in outcomes] == [RuntimeCrashed, NotBegun, NotBegun]
                assert "SIGKILL" in str(outcomes[0])
            assert notes.lines == ["head"]
            await until(engine.has_nothing_left)

    run(main())


def test_a_queued_call_that_is_given_up_does_not_run_and_leaves_the_worker_as_it_was(folder: Path) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            notes = Notes(folder)
            with await engine.local.worker(engine.deployment("short"), "ann", alone=False) as worker:
                head, given_up, other = notes.send(worker, "head", "given up", "other", seconds=1)
                await until(lambda: notes.lines)
                given_up.cancel()
                outcomes = await asyncio.gather(given_up, other, return_exceptions=True)
                assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, NotBegun]
                assert not head.done()
                assert worker.takes_more
                assert isinstance(await head, Result)
                (after,) = notes.send(worker, "after")
                assert isinstance(await after, Result)
            assert notes.lines == ["head", "after"]
            assert (await engine.call("short", "echo", text="x")).last == Result(b'"x"')
            assert worker.alive
            await until(engine.has_nothing_left)

    run(main())


def test_giving_up_the_call_that_runs_ends_its_worker_and_no_other_call(folder: Path) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            async with sleepers(engine, notes := Notes(folder)) as heads:
                busy = list(engine.local._hosts["short"].turns["ann"]._busy)
                others = [asyncio.create_task(notes.ask(engine, f"{n}")) for n in range(FEW * 3)]
                await asyncio.sleep(0)  # they lie behind the heads now
                assert any(len(worker._orders.sent) > 1 for worker in busy)
            assert all(head.cancelled() for head in heads)
            assert [value(answer) for answer in await asyncio.gather(*others)] == [f"{n}" for n in range(FEW * 3)]
            assert sorted(notes.lines) == sorted([f"head {n}" for n in range(FEW)] + [f"{n}" for n in range(FEW * 3)])
            await until(lambda: not any(worker.alive for worker in busy))
            await until(engine.has_nothing_left)

    run(main())


@pytest.mark.parametrize("seconds", [0.0, 0.003])
def test_what_a_function_prints_is_in_its_own_log_alone(folder: Path, seconds: float) -> None:
    """Once a function has printed, no call lies behind another there: hence a user for each round, with new workers."""

    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            lay_behind = 0
            for number in range(15):
                user = f"user {number}"
                await engine.learn("short", "echo", text="", user=user)
                saying = 2 + number % (FEW * 3)
                functions = ["says" if at == saying else "echo" for at in range(FEW * 4)]
                functions[saying + 1 :: 5] = ["says"] * len(functions[saying + 1 :: 5])
                calls = [
                    engine.ask("short", function, user=user, text=f"{number}.{at}", **pause(function, seconds))
                    for at, function in enumerate(functions)
                ]
                for at, answer in enumerate(await asyncio.gather(*calls)):
                    text = f"{number}.{at}"
                    assert value(answer) == text
                    said = f"{text}\nand {text}\n" if functions[at] == "says" else ""
                    assert sorted(answer.log.decode().splitlines()) == sorted(said.splitlines())
                    lay_behind += functions[at] == "says" and answer.lay_behind
            assert lay_behind
            await until(engine.has_nothing_left)

    run(main())


def test_those_that_write_files_have_files_and_nobody_else(folder: Path, sandbox: str) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS | {"sandbox": sandbox}) as engine:
            for number in range(5):
                await engine.learn("short", "echo", text="")
                functions = ["writes" if at % 4 == number % 4 else "echo" for at in range(FEW * 6)]
                calls = [
                    engine.ask("short", function, **{"name" if function == "writes" else "text": f"{number}.{at}"})
                    for at, function in enumerate(functions)
                ]
                for at, answer in enumerate(await asyncio.gather(*calls)):
                    assert value(answer) == f"{number}.{at}"
                    assert answer.last is not None
                    assert answer.last.has_files == (functions[at] == "writes")
            assert (await engine.call("short", "listing")).last == Result(b"[]")
            await until(engine.has_nothing_left)

    run(main())


@pytest.mark.parametrize("size", [ORDER_LIMIT, ORDER_LIMIT * 2, 3 << 20])
def test_long_orders_come_whole_among_short_ones(folder: Path, size: int) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            await engine.learn("short", "echo", text="")
            calls = [
                engine.ask("short", "measures", text=f"{number:03}" * (size // 3 if number % 5 == 4 else 1))
                for number in range(40)
            ]
            expected = [[f"{number:03}", size // 3 if number % 5 == 4 else 1] for number in range(40)]
            assert [value(answer) for answer in await asyncio.gather(*calls)] == expected
            await until(engine.has_nothing_left)

    run(main())


def test_long_results_come_whole_among_short_ones(folder: Path, sandbox: str) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS | {"sandbox": sandbox}) as engine:
            await engine.learn("short", "echo", text="")
            sizes = [600_000 if number % 5 == 3 else 1 for number in range(40)]
            calls = [engine.ask("short", "large", text=f"{number:03}", size=size) for number, size in enumerate(sizes)]
            answers = await asyncio.gather(*calls)
            assert all(value(a) == f"{n:03}" * size for n, (a, size) in enumerate(zip(answers, sizes, strict=True)))
            await until(engine.has_nothing_left)

    run(main())


class Mix:
    """Calls of every kind, and what becomes of each."""

    def __init__(self, engine: Engine, notes: Notes) -> None:
        self._engine = engine
        self._notes = notes
        self._kinds = [self.echo] * 8 + [self.note] * 6 + [self.say, self.write, self.sleep, self.die]
        self._kinds += [self.long_result, self.long_order, self.longer_order] + [self.give_up] * 2
        self.random = random.Random(7)
        self.lay_behind = self.came_again = 0
        self.noted: list[str] = []
        self.may_be_noted: list[str] = []

    async def ask(self, function: str, user: str, **parameters: Any) -> Answer:
        answer = await self._engine.ask("short", function, user=user, **parameters)
        self.lay_behind += answer.lay_behind
        self.came_again += len(answer.workers) > 1
        assert isinstance(answer.last, Result)
        assert answer.last.has_files == (function == "writes" or len(answer.last.json) > FRAME_LIMIT)
        assert bool(answer.log) == (function == "says")
        return answer

    def next(self, number: int, user: str) -> Coroutine[Any, Any, None]:
        return self.random.choice(self._kinds)(f"{number}", user)

    async def echo(self, text: str, user: str) -> None:
        assert value(await self.ask("echo", user, text=text)) == text

    async def note(self, text: str, user: str) -> None:
        self.noted.append(text)
        assert value(await self.ask("notes", user, path=self._notes.path, text=text)) == text

    async def say(self, text: str, user: str) -> None:
        answer = await self.ask("says", user, text=text, seconds=self.random.choice([0.0, 0.002]))
        assert value(answer) == text
        assert sorted(answer.log.decode().splitlines()) == sorted([text, f"and {text}"])

    async def write(self, text: str, user: str) -> None:
        assert value(await self.ask("writes", user, name=text)) == text

    async def sleep(self, _: str, user: str) -> None:
        seconds = self.random.choice([0.002, 0.02, 0.1])
        assert value(await self.ask("sleeps", user, seconds=seconds)) == seconds

    async def die(self, text: str, user: str) -> None:
        self.noted.append(text)
        with pytest.raises(RuntimeCrashed, match="code 3"):
            await self.ask("dies", user, path=self._notes.path, text=text)

    async def long_result(self, text: str, user: str) -> None:
        assert value(await self.ask("large", user, text=text, size=FRAME_LIMIT)) == text * FRAME_LIMIT

    async def long_order(self, text: str, user: str, length: int = ORDER_LIMIT) -> None:
        assert value(await self.ask("measures", user, text=text[:1] * 3 * length)) == [text[:1] * 3, length]

    async def longer_order(self, text: str, user: str) -> None:
        await self.long_order(text, user, 500_000)

    async def give_up(self, text: str, user: str) -> None:
        self.may_be_noted.append(text)
        pause = self.random.choice([0.0, 0.0, 0.001, 0.003])
        call = self.ask("notes", user, path=self._notes.path, text=text, seconds=self.random.choice([0.0, 0.01]))
        async with meanwhile(call) as (task,):
            await asyncio.sleep(pause)
        assert task.cancelled() or value(task.result()) == text


@pytest.mark.parametrize("users", [1, 6])
def test_calls_of_every_kind_among_each_other_are_each_answered(folder: Path, users: int) -> None:
    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            notes = Notes(folder)
            mix = Mix(engine, notes)
            for number in range(0, 400, 40):
                for user in range(users):
                    await engine.learn("short", "echo", text="", user=f"user {user}")
                async with asyncio.TaskGroup() as group:
                    for at in range(40):
                        group.create_task(mix.next(number + at, f"user {at % users}"))
            assert mix.lay_behind
            assert mix.came_again
            for text in mix.noted:
                assert notes.lines.count(text) == 1
            for text in mix.may_be_noted:
                assert notes.lines.count(text) <= 1
            assert set(notes.lines) <= {*mix.noted, *mix.may_be_noted}
            await until(engine.has_nothing_left)

    run(main())


def test_who_steals_the_next_order_and_prints_keeps_nobody_busy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose output that is can only be told once the call has ended: until then it is not looked at again and again."""
    looks: list[Worker] = []
    look = Worker._output_is_there

    def noted(worker: Worker) -> None:
        looks.append(worker)
        look(worker)

    monkeypatch.setattr(Worker, "_output_is_there", noted)

    async def main() -> None:
        async with running_engine(folder, **OPTIONS) as engine:
            await engine.learn("short", "echo", text="")
            looks.clear()
            with await engine.local.worker(engine.deployment("short"), "ann", alone=False) as worker:
                head = asyncio.create_task(worker.run(plain("steals", seconds=0.5), lambda _: None, alone=False))
                behind = asyncio.create_task(worker.run(plain("echo", text="x"), lambda _: None, alone=False))
                assert await head == Result(b'"stolen"')
                behind.cancel()
                await asyncio.gather(behind, return_exceptions=True)
            assert 0 < looks.count(worker) < 100
            await until(engine.has_nothing_left)

    run(main())
