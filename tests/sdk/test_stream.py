"""Streams against a real server: events, failures, and leaving early."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import warnings

import pytest
from stub_gateway import Step

from gateway_sdk import (
    AsyncGatewayClient,
    AuthenticationError,
    ConnectionFailedError,
    DeadlineExceededError,
    GatewayClient,
    PrefabNotFoundError,
    StreamEventType,
)
from gateway_sdk._fake.wire import Answer

COUNT = ("zoo", "1.0.0", "count")


@pytest.fixture(params=["sockets", "httpx"])
def way(request):
    """Our own sockets, or httpx."""
    if request.param == "httpx":
        request.getfixturevalue("by_proxy")


def sse(*frames: bytes) -> bytes:
    body = b"".join(b"data: %b\n\n" % frame for frame in frames)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-job-id: j1\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def join_farewells() -> None:
    for thread in threading.enumerate():
        if thread.name == "gateway-sdk-cancel":
            thread.join(5)


def cancels(stub) -> list[str]:
    return [path for path in stub.paths() if path.endswith("/cancel")]


def endless(stub, seen: threading.Event):
    @stub.fake.prefab("zoo", "1.0.0")
    def forever():
        yield {"type": "content", "data": "0"}
        seen.wait(10)
        while True:
            yield {"type": "content", "data": "more"}


def test_events_come_in_order(client, stub):
    stream = client.run(*COUNT, {"n": 3}, stream=True)
    assert stream.job_id.startswith("fake-job")
    events = list(stream)
    assert [event.type for event in events] == ["start", "content", "content", "content", "done"]
    assert "".join(event.data for event in events if event.type == StreamEventType.CONTENT) == "012"
    assert events[-1].data == {"n": 3}
    assert events[-1].files == {"output": ["s3://b/x"]}
    asked = stub.requests[0]
    assert b'"stream":true' in asked.body
    assert "cancel-after" not in asked.headers
    assert not cancels(stub)
    assert list(stream) == []


def test_a_finished_stream_gives_its_connection_back(client, stub):
    for _ in range(3):
        list(client.run(*COUNT, {"n": 2}, stream=True))
        client.run("zoo", "1.0.0", "echo", {})
    assert stub.connections == 1


def test_a_plain_function_can_be_streamed(client):
    events = list(client.run("zoo", "1.0.0", "echo", {"a": 1}, stream=True))
    assert [event.type for event in events] == ["start", "done"]
    assert events[1].data["output"] == {"a": 1}


def test_an_error_of_the_function_is_an_event(client):
    event = list(client.run("zoo", "1.0.0", "fail", {}, stream=True))[-1]
    assert (event.type, event.data, event.error_code) == ("error", "no luck", "PREFAB_ERROR")


def test_refusals_are_raised_by_the_call(client, stub):
    with pytest.raises(PrefabNotFoundError):
        client.run("gone", "1.0.0", "f", {}, stream=True)
    stub.fake.tokens = set()
    with pytest.raises(AuthenticationError):
        client.run(*COUNT, {"n": 1}, stream=True)
    assert not cancels(stub)


@pytest.mark.parametrize("cut", ["unread", "before"])
def test_a_stream_that_did_not_begin_is_retried(client, stub, cut):
    stub.script.append(Step(cut=cut))
    assert len(list(client.run(*COUNT, {"n": 1}, stream=True))) == 3
    assert len(stub.fake.calls) == 1


def test_a_stream_that_broke_off_is_not(client, stub):
    stub.script.append(Step(cut="body"))
    stream = client.run(*COUNT, {"n": 1}, stream=True)
    assert next(stream).type == "start"
    with pytest.raises(ConnectionFailedError):
        next(stream)
    assert len(stub.requests) == 1
    assert list(stream) == []


def test_a_stream_that_ends_without_its_last_event(client, stub):
    stub.script.append(Step(raw=sse(b'{"type":"content","data":"x"}')))
    stream = client.run(*COUNT, {"n": 1}, stream=True)
    assert next(stream).data == "x"
    with pytest.raises(ConnectionFailedError, match=r"broke off.*job j1"):
        next(stream)


def test_what_is_unknown_is_skipped_and_what_follows_the_end_dropped(client, stub):
    frames = [b'{"type":"log","data":"x"}', b"[1]", b'{"type":"done","data":1}', b'{"type":"content","data":"late"}']
    stub.script.append(Step(raw=sse(*frames)))
    assert [event.type for event in client.run(*COUNT, {"n": 1}, stream=True)] == ["done"]


def test_an_answer_that_is_no_stream(client, stub):
    stub.script.append(Step(raw=b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi"))
    with pytest.raises(ConnectionFailedError, match="no event stream"):
        client.run(*COUNT, {"n": 1}, stream=True)


def test_break_cancels(client, stub):
    seen = threading.Event()
    endless(stub, seen)
    for event in client.run("zoo", "1.0.0", "forever", {}, stream=True):
        if event.type == "content":
            break
    asked = stub.wait_for("/v1/jobs/")
    assert asked.path.endswith("/cancel")
    assert asked.headers["x-internal-token"] == "token"
    seen.set()
    assert stub.stream_ended.wait(5)


@pytest.mark.parametrize("leave", ["close", "cancel", "with"])
def test_leaving_cancels_before_it_returns(client, stub, leave):
    seen = threading.Event()
    endless(stub, seen)
    stream = client.run("zoo", "1.0.0", "forever", {}, stream=True)
    next(stream)
    if leave == "with":
        with stream:
            pass
    else:
        getattr(stream, leave)()
    seen.set()
    assert len(cancels(stub)) == 1
    assert stub.fake.cancelled == [stream.job_id]
    stream.close()
    assert list(stream) == []
    assert len(cancels(stub)) == 1


def test_nothing_is_said_after_the_end(client, stub):
    for event in client.run(*COUNT, {"n": 1}, stream=True):
        if event.type == "done":
            break
    gc.collect()
    with client.run(*COUNT, {"n": 1}, stream=True) as stream:
        list(stream)
    client.run("zoo", "1.0.0", "echo", {})
    assert not cancels(stub)


def test_closing_does_not_raise_when_nobody_listens_any_more(client, stub):
    stub.script.append(Step(raw=sse(b'{"type":"content","data":"x"}')[:-10], then_close=False))
    stream = client.run(*COUNT, {"n": 1}, stream=True)
    stub.script.append(Step(cut="unread"))
    stream.close()
    assert stub.wait_for("/v1/jobs/j1/cancel")


@pytest.mark.usefixtures("way")
def test_a_stream_closed_by_another_thread_ends(client, stub):
    seen = threading.Event()
    endless(stub, seen)
    stream = client.run("zoo", "1.0.0", "forever", {}, stream=True)
    next(stream), next(stream)
    closer = threading.Timer(0.05, stream.close)
    closer.start()
    start = time.monotonic()
    assert list(stream) == []
    assert time.monotonic() - start < 4  # the timeout is 5
    closer.join()
    seen.set()


HELD = """
import asyncio, sys
from gateway_sdk import AsyncGatewayClient, GatewayClient

def blocking():
    stream = GatewayClient("t", sys.argv[1]).run("zoo", "1.0.0", "forever", {}, stream=True)
    next(stream), next(stream)
    return stream

async def main():
    stream = AsyncGatewayClient("t", sys.argv[1]).run("zoo", "1.0.0", "forever", {}, stream=True)
    await anext(stream), await anext(stream)
    return stream

held = blocking() if sys.argv[2] == "blocking" else asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_program_that_holds_a_stream_to_its_end_ends_and_cancels_it(stub, kind):
    seen = threading.Event()
    endless(stub, seen)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", HELD, stub.url, kind]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(cancels(stub)) == 1
    seen.set()


@pytest.mark.parametrize("leave", ["del", "close"])
def test_a_child_does_not_end_its_parent_s_stream(client, stub, leave):
    seen = threading.Event()
    endless(stub, seen)
    stream = client.run("zoo", "1.0.0", "forever", {}, stream=True)
    next(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later: fork with threads
        child = os.fork()
    if child == 0:
        try:
            if leave == "close":
                stream.close()
            del stream
            join_farewells()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert not cancels(stub)
    assert next(stream).data == "0"
    stream.close()
    seen.set()
    assert len(cancels(stub)) == 1


def test_silence_is_bounded_and_comments_are_silence(stub):
    def comments():
        for _ in range(100):
            threading.Event().wait(0.02)
            yield b": keep-alive\n\n"

    usual = stub.fake.answer
    talk = Answer(200, {"content-type": "text/event-stream", "x-job-id": "j9"}, comments())
    stub.fake.answer = lambda asked: talk if asked.path == "/v1/internal/run" else usual(asked)
    stream = GatewayClient("t", stub.url, timeout=0.1).run(*COUNT, {"n": 1}, stream=True)
    with pytest.raises(DeadlineExceededError, match=r"no event for 0.1 s"):
        next(stream)
    assert cancels(stub) == ["POST /v1/jobs/j9/cancel"]


@pytest.mark.usefixtures("way")
def test_a_job_may_be_silent_for_longer_than_the_timeout(stub):
    def late():
        threading.Event().wait(1)
        yield b'id: 1\ndata: {"type":"done","data":1}\n\n'

    usual, head = stub.fake.answer, {"content-type": "text/event-stream"}
    stub.fake.answer = lambda asked: Answer(200, head, late()) if asked.path.endswith("/events") else usual(asked)
    client = GatewayClient("t", stub.url, timeout=0.3)
    assert [event.type for event in client.job("j").events()] == ["done"]
    assert len(stub.requests) == 1

    async def main() -> None:
        events = AsyncGatewayClient("t", stub.url, timeout=0.3).job("j").events()
        assert [event.type async for event in events] == ["done"]

    asyncio.run(main())
    assert len(stub.requests) == 2


@pytest.mark.parametrize("word", ["never read", "content", "done"])
@pytest.mark.usefixtures("by_proxy")
def test_break_leaves_no_connection_behind_on_the_way_through_httpx(client, stub, word):
    def breaks() -> None:
        stream = client.run(*COUNT, {"n": 3}, stream=True)
        for event in stream if word != "never read" else ():
            if event.type == word:
                break

    async def main() -> None:
        stream = AsyncGatewayClient("t", stub.url).run(*COUNT, {"n": 3}, stream=True)
        await stream.__aenter__()
        while word != "never read" and (await anext(stream)).type != word:
            pass
        del stream
        for _ in range(20):
            await asyncio.sleep(0)

    for _ in range(5):
        breaks()
        asyncio.run(main())
    join_farewells()
    assert stub.settles(3)


def test_async_streams(async_client, stub):
    seen = threading.Event()
    endless(stub, seen)

    async def main():
        events = [event async for event in async_client.run(*COUNT, {"n": 2}, stream=True)]
        assert [event.type for event in events] == ["start", "content", "content", "done"]
        with pytest.raises(PrefabNotFoundError):
            async for _ in async_client.run("gone", "1.0.0", "f", {}, stream=True):
                pass
        async with async_client.run("zoo", "1.0.0", "forever", {}, stream=True) as stream:
            assert stream.job_id
            await anext(stream)
        assert stub.fake.cancelled == [stream.job_id]
        async for event in async_client.run("zoo", "1.0.0", "forever", {}, stream=True):
            if event.type == "content":
                break

    asyncio.run(main())  # and the loop ends at once: the last cancel must still be sent
    seen.set()
    join_farewells()
    assert len(cancels(stub)) == 2


def test_an_async_stream_closed_by_another_task_ends(stub):
    seen = threading.Event()
    endless(stub, seen)

    async def main():
        client = AsyncGatewayClient("t", stub.url)
        stream = client.run("zoo", "1.0.0", "forever", {}, stream=True)
        await anext(stream), await anext(stream)
        asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(stream.close()))
        assert [event async for event in stream] == []

    asyncio.run(main())
    seen.set()
