"""Whoever iterates over the events of a job is not alone: another thread or task may stop listening at any moment."""

from typing import Any, cast

import anyio
import pytest

from gateway_sdk._async_job_events import AsyncJobEvents
from gateway_sdk._job_events import JobEvents

FRAME = b'data: {"type":"content","data":"x"}\n\n'


class Reply:
    """Has another event whenever it is asked; `meanwhile` happens before it answers."""

    def __init__(self, meanwhile: Any) -> None:
        self._meanwhile = meanwhile
        self.patience: Any = None
        self.is_left = False

    def chunk(self) -> bytes:
        self._meanwhile()
        return FRAME

    def close(self) -> None:
        self.is_left = True

    abort = close


class Session:
    """Opens a reply; `meanwhile` happens before it is there."""

    base_url = "http://gateway"

    def __init__(self, reply: Reply, meanwhile: Any = lambda: None) -> None:
        self._reply, self._meanwhile = reply, meanwhile

    def _headers(self) -> dict[str, str]:
        return {}

    def _as_caller(self, _request: Any, **_how: Any) -> tuple[Reply, bytes]:
        self._meanwhile()
        return self._reply, b""


def events_of(session: Session) -> JobEvents:
    return JobEvents(cast(Any, session), "job", 0)


def test_to_stop_while_an_event_is_waited_for_ends_the_events() -> None:
    reply = Reply(lambda: events.close())
    events = events_of(Session(reply))
    assert list(events) == []
    assert reply.is_left


def test_to_stop_while_they_are_being_opened_ends_the_events() -> None:
    reply = Reply(lambda: pytest.fail("nobody listens any more"))
    events = events_of(Session(reply, lambda: events.close()))
    assert list(events) == []
    assert reply.is_left


def test_another_task_may_stop_them_as_well() -> None:
    reply = Reply(lambda: pytest.fail("nobody listens any more"))

    class Opens(Session):
        async def _as_caller(self, _request: Any, **_how: Any) -> tuple[Reply, bytes]:  # type: ignore[override]
            await events.close()
            return reply, b""

    events = AsyncJobEvents(cast(Any, Opens(reply)), "job", 0)

    async def listen() -> list[Any]:
        return [event async for event in events]

    assert anyio.run(listen) == []
    assert reply.is_left
