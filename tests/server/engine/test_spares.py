"""Workers that wait for the next new user: who gets which, whatever becomes of them."""

import asyncio
from typing import Any

import pytest
from engine.conftest import run

from gateway_server.engine.local.spares import Spares
from gateway_server.errors import ServiceUnavailable


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
    await settled()
    spare = zygote.has_forked(1)
    await settled()
    assert spares.count() == 1
    return spare


def test_one_is_made_for_the_next_user_after_the_first_and_whenever_it_is_taken() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        spare = await with_spare(spares, zygote)
        assert len(zygote.forks) == 2
        assert await begin(spares, zygote) is spare
        await settled()
        assert len(zygote.forks) == 3
        assert not spares.are_ready

    run(main())


def test_users_one_after_the_other_get_what_was_begun_first() -> None:
    """Nobody begins anew while there is one on its way."""

    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        await with_spare(spares, zygote)
        takers = [begin(spares, zygote) for _ in range(4)]
        await settled()
        assert (
            len(zygote.forks) == 6
        )  # one for each of those four and one that is spare, but for the one that there was
        for number in (2, 3, 4):
            zygote.has_forked(number)
        assert [(await taker).number for taker in takers] == [1, 2, 3, 4]

    run(main())


def test_what_somebody_left_is_had_by_the_next_one() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        await with_spare(spares, zygote)
        await begin(spares, zygote)
        leaver = begin(spares, zygote)
        await settled()
        assert len(zygote.forks) == 4
        leaver.cancel()
        await asyncio.wait([leaver])
        next_one = begin(spares, zygote)
        zygote.has_forked(2)
        assert (await next_one).number == 2
        await settled()
        assert len(zygote.forks) == 4  # there is one on its way still

    run(main())


def test_nobody_gets_one_that_has_died_or_could_not_be_made() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        (await with_spare(spares, zygote)).alive = False
        assert not spares.count()
        second = begin(spares, zygote)
        await settled()
        zygote.has_forked(2)
        assert (await second).number == 2
        await settled()
        zygote.forks[3].set_exception(ServiceUnavailable("no more"))
        await settled()
        assert not spares.count()
        third = begin(spares, zygote)
        await settled()
        zygote.forks[4].set_exception(ServiceUnavailable("still none"))
        with pytest.raises(ServiceUnavailable, match="still none"):
            await third

    run(main())


def test_who_waits_for_one_hears_why_there_is_none() -> None:
    async def main() -> None:
        spares, zygote = Spares(), FakeZygote()
        await with_spare(spares, zygote)
        await begin(spares, zygote)
        waiting = begin(spares, zygote)
        await settled()
        zygote.forks[2].set_exception(ServiceUnavailable("none any more"))
        with pytest.raises(ServiceUnavailable, match="none any more"):
            await waiting
        spares.close()
        await settled()
        assert spares.are_ready

    run(main())
