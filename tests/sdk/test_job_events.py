"""Whoever iterates over the events of a job is not alone: another thread or task may stop listening at any moment."""

import threading
import time
from typing import Any, cast

import anyio
import pytest
from stub_gateway import Step, StubGateway

from gateway_sdk import DeadlineExceededError, GatewayClient, InternalServerError, ServiceUnavailableError
from gateway_sdk._async_job_events import AsyncJobEvents
from gateway_sdk._job_events import JobEvents

FRAME = b'data: {"type":"content","data":"x"}\n\n'


class Reply:
    """Has another event whenever it is asked; `meanwhile` happens before it answers."""

    def __init__(self, meanwhile: Any) -> None:
        self._meanwhile = meanwhile
        self.patience: Any = None
        self.headers = {"content-type": "text/event-stream"}
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


PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>"


def test_a_page_of_somebody_else_is_no_stream(stub: StubGateway, client: GatewayClient, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway_sdk._job_events._AWAY", 0.3)
    monkeypatch.setattr("gateway_sdk._job_events._PAUSE", 0.1)
    stub.script.extend(Step(raw=PAGE) for _ in range(100))
    with pytest.raises(ServiceUnavailableError, match="no event stream but 'text/html'"):
        list(client.job("j").events())
    assert len(stub.requests) < 8
    with pytest.raises(InternalServerError):
        client.job("j").result()


def test_a_stream_that_ends_before_it_says_anything_is_not_asked_for_at_once(
    stub: StubGateway, client: GatewayClient, monkeypatch: Any
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("gateway_sdk._job_events.sleep", pauses.append)
    body = b": keep-alive\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)
    running = b'{"id":"j","status":"running","ended_at":null}'
    look = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(running) + running
    for told in (look, look, look.replace(b"null", b"1.23")):
        stub.script.extend([Step(raw=head + body), Step(raw=told)])
    assert list(client.job("j").events()) == []
    assert len(pauses) == 2


def test_a_result_is_not_waited_for_longer_than_asked(stub: StubGateway, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway_sdk._job.GRACE", 0.2)
    release = threading.Event()
    stub.script.extend(Step(hold=release) for _ in range(5))
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        GatewayClient("t", stub.url, timeout=8).job("j").result(timeout=0.3)
    assert time.monotonic() - start < 4
    release.set()


def test_a_cancel_whose_answer_was_lost_is_true(stub: StubGateway, client: GatewayClient) -> None:
    told = b'{"job_id":"j","status":"canceled","canceled":false}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(told)
    stub.script.extend([Step(cut="before"), Step(raw=head + told)])
    assert client.job("j").cancel() is True
