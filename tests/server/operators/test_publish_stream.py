"""A publisher who hangs up ends the publish."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gateway_server.api import publishing
from gateway_server.models import Principal


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


def test_hanging_up_ends_the_publish_and_lets_go_of_the_archive():
    closed: list[bool] = []

    async def scenario(catalogue: Slow) -> bytes:
        kept = AsyncExitStack()
        kept.callback(closed.append, True)
        events = publishing._events(catalogue, Path("a"), Principal(user="pat"), None, kept)  # type: ignore[arg-type]
        first = await anext(events)
        await events.aclose()  # type: ignore[attr-defined]
        return first

    catalogue = Slow()
    frame = asyncio.run(scenario(catalogue))
    assert frame.endswith(b"\n\n")
    assert frame.count(b"\n") == 2  # one line, whatever the text holds
    assert json.loads(frame.removeprefix(b"data: ")) == {"type": "progress", "data": "Building\nthe environment"}
    assert catalogue.canceled
    assert closed == [True]


def test_silence_is_filled(monkeypatch):
    monkeypatch.setattr(publishing, "KEEP_ALIVE", 0.01)

    async def scenario() -> list[bytes]:
        events = publishing._events(Slow(), Path("a"), Principal(user="pat"), None, AsyncExitStack())  # type: ignore[arg-type]
        found = [await anext(events), await anext(events)]
        await events.aclose()  # type: ignore[attr-defined]
        return found

    assert b": keep-alive\n\n" in asyncio.run(scenario())
