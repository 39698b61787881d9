"""Bodies come in whole, or not at all."""

import asyncio
from typing import Any

import pytest

from gateway_server.api import intake as module
from gateway_server.api.intake import HungUp, Intake
from gateway_server.errors import Overloaded, PayloadTooLarge, RequestTimeout


class Sender:
    """The other end: sends chunks, then hangs up, or waits for ever."""

    def __init__(self, *chunks: bytes, whole: bool = True, hangs: bool = False) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": not whole or at + 1 < len(chunks)}
            for at, chunk in enumerate(chunks)
        ]
        self._hangs = hangs

    async def __call__(self) -> dict[str, Any]:
        if self._messages:
            return self._messages.pop(0)
        if self._hangs:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


async def read(intake: Intake, sender: Sender, user: str = "ann") -> bytes:
    async with intake.body(sender, user) as body:
        return body


@pytest.mark.parametrize("chunks", [(b"",), (b"abc",), (b"a", b"", b"bc")])
def test_a_body_comes_whole(chunks: tuple[bytes, ...]) -> None:
    assert asyncio.run(read(Intake(10), Sender(*chunks))) == b"".join(chunks)


@pytest.mark.parametrize(
    ("sender", "error"),
    [
        (Sender(b"a" * 11), PayloadTooLarge),
        (Sender(b"a" * 6, b"a" * 6), PayloadTooLarge),
        (Sender(b"a" * 6, b"a" * 6, whole=False, hangs=True), PayloadTooLarge),
        (Sender(b"abc", whole=False), HungUp),
        (Sender(), HungUp),
        (Sender(b"abc", whole=False, hangs=True), RequestTimeout),
    ],
)
def test_what_is_no_whole_body_is_refused_and_holds_nothing(
    monkeypatch: pytest.MonkeyPatch, sender: Sender, error: type[Exception]
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.01)
    intake = Intake(10)
    with pytest.raises(error):
        asyncio.run(read(intake, sender))
    assert not intake._held


def test_large_bodies_wait_outside_when_memory_is_full_and_small_ones_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 100)
    monkeypatch.setattr(module, "SMALL", 10)

    async def main() -> None:
        intake = Intake(1000)
        async with intake.body(Sender(b"a" * 70), "ann"):
            with pytest.raises(Overloaded, match="The gateway has"):
                await read(intake, Sender(b"a" * 40), "ben")
            async with intake.body(Sender(b"a" * 25), "ben"):
                assert await read(intake, Sender(b"a" * 9), "ben") == b"a" * 9
        assert await read(intake, Sender(b"a" * 75)) == b"a" * 75

    asyncio.run(main())


def test_one_user_leaves_room_for_the_bodies_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 100)
    monkeypatch.setattr(module, "SMALL", 10)

    async def main() -> None:
        intake = Intake(1000)
        async with intake.body(Sender(b"a" * 60), "eve"):
            with pytest.raises(Overloaded, match="You have"):
                await read(intake, Sender(b"a" * 20), "eve")
            assert await read(intake, Sender(b"a" * 9), "eve") == b"a" * 9
            assert await read(intake, Sender(b"a" * 30), "ann") == b"a" * 30
        assert not intake._held

    asyncio.run(main())
