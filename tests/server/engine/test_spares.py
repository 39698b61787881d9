"""Workers that wait for the next new user: who gets which, whatever becomes of them."""

import asyncio
import math
from typing import Any

import pytest
from engine.conftest import run, until

from gateway_server.engine.local import spares as module
from gateway_server.engine.local.spares import AHEAD, Spares
from gateway_server.errors import ServiceUnavailable


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a test says otherwise, no users come one after the other, and what is to be begun later is begun soon."""
    monkeypatch.setattr(module, "ROW", -math.inf)
    monkeypatch.setattr(module, "LATER", 0.001)


class FakeWorker:
    """Lives until it is told otherwise."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.alive = True


class FakeZygote:
    """Forks when it is told to."""

    def __init__(self) -> None:
        self.forks: list[asyncio.Future[Any]] = []

    async def fork(self, _user: str) -> Any:
        self.forks.append(asyncio.get_running_loop().create_future())
        return await self.forks[-1]

    async def has_begun(self, count: int) -> None:
        """Waits until at least so many forks have been begun in all."""
        await until(lambda: len(self.forks) >= count)
        await settled()

    def has_forked(self, number: int) -> FakeWorker:
        worker = FakeWorker(number)
        self.forks[number].set_result(worker)
        return worker


async def settled() -> None:
    """Lets everything go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def begin(spares: Spares, zygote: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(spares.take(zygote))


async def with_spare(spares: Spares, zygote: FakeZygote) -> FakeWorker:
    """Takes a first worker; gives the one that is ready for the next user then."""
    first = begin(spares, zygote)
    await settled()
    assert not spares.count()
    zygote.has_forked(0)
    assert (await first).number == 0
    assert not spares.are_ready
    await zygote.has_begun(2)
    spare = zygote.has_forked(1)
    await settled()
    assert spares.are_ready
    assert spares.count() == 1
    return spare


def test_one_is_made_for_the_next_user_after_the_first_and_whenever_it_is_taken() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        spare = await with_spare(spares, zygote)
        assert await begin(spares, zygote) is spare
        assert len(zygote.forks) == 2  # the call comes first
        assert not spares.are_ready
        await zygote.has_begun(3)

    run(main())


def test_who_comes_before_that_has_one_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        await with_spare(spares, zygote)
        monkeypatch.setattr(module, "LATER", 60)
        await begin(spares, zygote)
        second = begin(spares, zygote)
        await zygote.has_begun(3)
        zygote.has_forked(2)
        assert (await second).number == 2
        assert not spares.are_ready  # another is begun later
        spares.close()

    run(main())


def test_users_one_after_the_other_get_what_was_begun_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are begun ahead of them, and nobody begins anew while there is one on its way."""

    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        await with_spare(spares, zygote)
        monkeypatch.setattr(module, "ROW", math.inf)
        takers = [begin(spares, zygote) for _ in range(1 + AHEAD)]
        await zygote.has_begun(2 + AHEAD)
        assert len(zygote.forks) == 2 + AHEAD  # those for whom somebody waits go before others
        for number in range(2, 2 + AHEAD):
            zygote.has_forked(number)
        assert [(await taker).number for taker in takers] == [*range(1, 2 + AHEAD)]
        await zygote.has_begun(2 + 2 * AHEAD)
        for number in range(2 + AHEAD, len(zygote.forks)):
            zygote.has_forked(number)
        await settled()
        assert spares.count() == AHEAD

    run(main())


def test_none_are_made_ahead_where_the_fork_before_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        monkeypatch.setattr(module, "ROW", math.inf)
        taker = begin(spares, zygote)
        await zygote.has_begun(1)
        zygote.forks[0].set_exception(ServiceUnavailable("the end"))
        with pytest.raises(ServiceUnavailable, match="the end"):
            await taker
        await settled()
        assert len(zygote.forks) == 1

    run(main())


def test_those_are_let_go_that_are_too_many_when_the_row_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        await with_spare(spares, zygote)
        monkeypatch.setattr(module, "ROW", math.inf)
        await begin(spares, zygote)
        await zygote.has_begun(2 + AHEAD)
        monkeypatch.setattr(module, "ROW", -math.inf)
        assert not spares.let_go()  # they are on their way
        made = [zygote.has_forked(number) for number in range(2, len(zygote.forks))]
        await settled()
        monkeypatch.setattr(module, "ROW", math.inf)
        assert not spares.let_go()
        monkeypatch.setattr(module, "ROW", -math.inf)
        assert spares.let_go() == made[:0:-1]
        assert await begin(spares, zygote) is made[0]
        spares.close()

    run(main())


def test_what_somebody_left_is_had_by_the_next_one() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        leaver = begin(spares, zygote)
        await zygote.has_begun(1)
        leaver.cancel()
        await asyncio.wait([leaver])
        next_one = begin(spares, zygote)
        await settled()
        zygote.has_forked(0)
        assert (await next_one).number == 0
        await zygote.has_begun(2)

    run(main())


def test_nobody_gets_one_that_has_died_or_could_not_be_made() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        (await with_spare(spares, zygote)).alive = False
        assert not spares.count()
        second = begin(spares, zygote)
        await zygote.has_begun(3)
        zygote.has_forked(2)
        assert (await second).number == 2
        await zygote.has_begun(4)
        zygote.forks[3].set_exception(ServiceUnavailable("no more"))
        await settled()
        assert not spares.count()
        third = begin(spares, zygote)
        await zygote.has_begun(5)
        zygote.forks[4].set_exception(ServiceUnavailable("still none"))
        with pytest.raises(ServiceUnavailable, match="still none"):
            await third

    run(main())


def test_those_that_have_died_are_let_go_whether_others_took_their_place_or_not() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        first = await with_spare(spares, zygote)
        first.alive = False
        assert spares.let_go() == [first]
        assert not spares.let_go()
        taker = begin(spares, zygote)
        await zygote.has_begun(3)
        zygote.has_forked(2)
        await taker
        await zygote.has_begun(4)
        second = zygote.has_forked(3)
        await settled()
        second.alive = False
        taker = begin(spares, zygote)
        await zygote.has_begun(5)
        zygote.has_forked(4)
        assert (await taker).number == 4
        assert spares.let_go() == [second]
        spares.close()

    run(main())


def test_nothing_is_begun_after_the_end() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        await with_spare(spares, zygote)
        await begin(spares, zygote)
        spares.close()
        await settled()
        assert spares.are_ready
        on_its_way = begin(other := Spares(), zygote := FakeZygote())
        await zygote.has_begun(1)
        zygote.has_forked(0)
        await on_its_way
        await zygote.has_begun(2)
        other.close()
        await settled()
        assert other.are_ready
        assert not other.count()

    run(main())
