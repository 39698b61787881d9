"""A publisher who hangs up ends the publish."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway_server.api import publishing
from gateway_server.models import Principal

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}
"""As the web server says it, so that the framework watches for the end of the connection beside the answer."""


class Slow:
    """A catalogue whose publish never ends by itself."""

    def __init__(self) -> None:
        self.canceled = False

    async def publish(self, _path: Path, _principal: Principal, *, progress: Any, **_: Any) -> None:
        progress("Building\nthe environment")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.canceled = True
            raise


def events_of(catalogue: Slow, kept: AsyncExitStack) -> AsyncGenerator[bytes]:
    return publishing._events(catalogue, Path("a"), Principal(user="pat"), None, kept)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("hears_something", [False, True])
def test_hanging_up_ends_the_publish_and_lets_go_of_the_archive(hears_something: bool):
    closed: list[bool] = []
    frames: list[bytes] = []

    async def scenario(catalogue: Slow) -> None:
        kept = AsyncExitStack()
        kept.callback(closed.append, True)
        heard = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if hears_something:
                await heard.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)  # where the caller is gone already, the events do not begin
            if body := message.get("body"):
                frames.append(body)
                heard.set()

        await publishing._Told(events_of(catalogue, kept), kept)(SCOPE, receive, send)

    catalogue = Slow()
    asyncio.run(scenario(catalogue))
    assert closed == [True]
    assert catalogue.canceled is hears_something  # else it never began
    assert len(frames) == int(hears_something)
    for frame in frames:
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 2  # one line, whatever the text holds
        assert json.loads(frame.removeprefix(b"data: ")) == {"type": "progress", "data": "Building\nthe environment"}


def test_silence_is_filled(monkeypatch):
    monkeypatch.setattr(publishing, "KEEP_ALIVE", 0.01)

    async def scenario() -> list[bytes]:
        events = events_of(Slow(), AsyncExitStack())
        found = [await anext(events), await anext(events)]
        await events.aclose()
        return found

    assert b": keep-alive\n\n" in asyncio.run(scenario())
