"""Connections are few, shared, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import os
import socket
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from stub_gateway import Step

from gateway_sdk import (
    AsyncGatewayClient,
    DeadlineExceededError,
    GatewayClient,
    GatewayError,
    InternalServerError,
    ValidationError,
    _blocking,
    _connection,
    _transport,
)
from gateway_sdk._async_transport import shared_transport

RUN = ("zoo", "1.0.0", "echo")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_thousand_clients_use_one_connection(stub):
    for number in range(1000):
        assert GatewayClient("t", stub.url).run(*RUN, {"n": number}).get("n") == number
    assert stub.connections == 1


def test_fifty_threads_use_at_most_fifty(stub):
    def call(number: int) -> int:
        return GatewayClient("t", stub.url).run(*RUN, {"n": number}).get("n")

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(call, range(1000))) == list(range(1000))
    assert stub.peak <= 50
    before, count = descriptors(), stub.connections
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(call, range(200)))
    assert stub.peak <= 50
    assert descriptors() <= before + 2 * (stub.connections - count)


def test_event_loops_do_not_share_and_do_not_leak(stub):
    async def main() -> None:
        async def call(number: int) -> None:
            assert (await AsyncGatewayClient("t", stub.url).run(*RUN, {"n": number})).get("n") == number

        for _ in range(20):
            await asyncio.gather(*[call(number) for number in range(10)])

    asyncio.run(main())
    assert stub.connections <= 10
    before = descriptors()
    gc.disable()  # what is left to the collector is a leak until it runs
    try:
        for _ in range(5):
            asyncio.run(main())
        assert stub.connections <= 60
        assert descriptors() <= before + 10
    finally:
        gc.enable()


def test_a_child_opens_its_own(stub):
    client = GatewayClient("t", stub.url)
    client.run(*RUN, {})
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later: fork with threads
        child = os.fork()
    if child == 0:
        try:
            good = client.run(*RUN, {"n": 7}).get("n") == 7
            os.write(write, b"y" if good else b"n")
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.waitpid(child, 0)
    client.run(*RUN, {})
    assert stub.connections == 2  # the parent's went on


def test_a_connection_that_the_server_closed_is_not_noticed(stub):
    client = GatewayClient("t", stub.url, max_retries=0)
    for number in range(5):
        stub.script.append(Step(then_close=True))
        assert client.run(*RUN, {"n": number}).get("n") == number
    assert len(stub.requests) == 5


def test_a_connection_closed_in_the_moment_of_use_is_replaced(stub):
    client = GatewayClient("t", stub.url, max_retries=0)
    client.run(*RUN, {})
    stub.script.append(Step(cut="before"))  # looks open until the request has been sent
    assert client.run(*RUN, {"n": 1}).get("n") == 1
    assert stub.connections == 2


def test_old_connections_go(stub, monkeypatch):
    client = GatewayClient("t", stub.url)
    client.run(*RUN, {})
    monkeypatch.setattr(_connection, "LONGEST_IDLE", -1.0)
    client.run(*RUN, {})
    assert stub.connections == 2


def test_close_leaves_the_others_connection(stub):
    with GatewayClient("t", stub.url) as first:
        first.run(*RUN, {})
    GatewayClient("t", stub.url).run(*RUN, {})
    assert stub.connections == 1


def test_the_loop_is_warned_about_once(stub, monkeypatch):
    monkeypatch.setattr(_blocking, "_warned", False)
    client = GatewayClient("t", stub.url)
    client.run(*RUN, {})

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="AsyncGatewayClient") as caught:
            client.run(*RUN, {})
        assert caught[0].filename == __file__
        client.run(*RUN, {})  # a second warning would be an error here

    asyncio.run(main())


def test_large_bodies_go_both_ways(stub):
    text = "x" * 3_000_000
    assert GatewayClient("t", stub.url).run(*RUN, {"text": text}).get("text") == text

    async def main() -> None:
        assert (await AsyncGatewayClient("t", stub.url).run(*RUN, {"text": text})).get("text") == text

    asyncio.run(main())


def test_a_thread_that_is_interrupted_spoils_nothing(stub):
    release = threading.Event()
    stub.script.append(Step(hold=release))
    client = GatewayClient("t", stub.url)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(client.run, *RUN, {"n": 1})
        stub.wait_for("/v1/internal/run")
        assert client.run(*RUN, {"n": 2}).get("n") == 2
        release.set()
        assert slow.result(5).get("n") == 1
    assert stub.connections == 2


def held(stub, seconds: float) -> Step:
    """A step whose answer comes after some time."""
    release = threading.Event()
    threading.Timer(seconds, release.set).start()
    return Step(hold=release)


LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@LOOPS
def test_each_wait_has_its_own_bound_on_a_connection_that_has_waited_before(stub, monkeypatch, new_loop):
    monkeypatch.setattr("gateway_sdk._async_session.GRACE", 0.05)
    short, long = (AsyncGatewayClient("t", stub.url, timeout, max_retries=0) for timeout in (0.3, 5))

    async def main() -> None:
        for client in (short, long, short):
            stub.script.append(held(stub, 0.05))
            assert (await client.run(*RUN, {"n": 1})).get("n") == 1
        stub.script.append(held(stub, 0.7))  # longer than the bound of the wait before
        assert (await long.run(*RUN, {"n": 2})).get("n") == 2
        assert stub.connections == 1
        stub.script.append(held(stub, 2))
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await short.run(*RUN, {})
        assert 0.3 < time.monotonic() - start < 1.5

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("by", ["kernel", "Python"])
def test_each_blocking_wait_has_its_own_bound(stub, monkeypatch, by):
    if by == "Python":
        monkeypatch.setattr(_blocking, "_AT_ONCE", 0)
    monkeypatch.setattr("gateway_sdk._session.GRACE", 0.05)
    short, long = (GatewayClient("t", stub.url, timeout, max_retries=0) for timeout in (0.3, 5))
    for client, seconds in ((short, 0.05), (long, 0.7), (short, 0.05)):
        stub.script.append(held(stub, seconds))
        assert client.run(*RUN, {"n": 1}).get("n") == 1
    assert stub.connections == 1
    stub.script.append(held(stub, 2))
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        short.run(*RUN, {})
    assert 0.3 < time.monotonic() - start < 1.5


def test_an_address_that_leads_nowhere_is_passed_over(stub, monkeypatch):
    """As of a name with an IPv6 address where IPv6 is not let through."""
    monkeypatch.setattr("gateway_sdk._request.CONNECT_TIMEOUT", 0.3)
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        places = [full.getsockname(), ("127.0.0.1", int(stub.url.rpartition(":")[2]))]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        url = "http://two-addresses.test"

        async def main() -> None:
            assert (await AsyncGatewayClient("t", url, max_retries=0).run(*RUN, {"n": 1})).get("n") == 1

        assert GatewayClient("t", url, max_retries=0).run(*RUN, {"n": 1}).get("n") == 1
        asyncio.run(main())


@LOOPS
def test_bytes_that_nobody_waits_for_cost_nothing(stub, new_loop):
    text = "x" * 5_000_000

    async def main() -> None:
        client = AsyncGatewayClient("t", stub.url)
        async with client.run("zoo", "1.0.0", "echo", {"text": text}, stream=True) as stream:
            await anext(stream)  # its start; the rest lies in the socket
            await asyncio.sleep(0.1)
            before = time.thread_time()
            await asyncio.sleep(0.5)
            assert time.thread_time() - before < 0.1
            assert (await anext(stream)).data["output"] == {"text": text}

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@LOOPS
def test_a_child_does_not_take_the_parent_s_connection_from_its_loop(stub, new_loop):
    async def main() -> None:
        stub.script.append(held(stub, 0.05))
        assert (await AsyncGatewayClient("t", stub.url, timeout=5).run(*RUN, {"n": 1})).get("n") == 1

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later: fork with threads
            child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        runner.run(main())
    assert stub.connections == 1


@LOOPS
def test_another_thread_may_close_what_a_loop_watches(stub, new_loop):
    async def main() -> None:
        client = AsyncGatewayClient("t", stub.url)
        for _ in range(3):
            stub.script.append(held(stub, 0.05))
            await client.run(*RUN, {})
            await asyncio.to_thread(shared_transport()._pool.clear)
        await asyncio.to_thread(stub.settles, 0)

    before = descriptors()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert stub.connections == 3
    assert descriptors() <= before


def test_connections_keep_nothing_of_who_opened_them(stub):
    kept = contextvars.ContextVar("kept")

    class Large:
        """What a request may have in its context."""

    async def call() -> weakref.ref[Large]:
        large = Large()
        kept.set(large)
        stub.script.append(held(stub, 0.05))
        await AsyncGatewayClient("t", stub.url).run(*RUN, {})
        return weakref.ref(large)

    async def main() -> None:
        large = await asyncio.create_task(call())
        await asyncio.sleep(0)  # the task itself goes
        gc.collect()
        assert large() is None

    asyncio.run(main())


@pytest.mark.parametrize("wait", [*range(1000, 100_000, 1000), 0.001, 59.9999999, 1e12, 1e300])
def test_any_wait_can_be_bound(wait):
    one, other = socket.socketpair()
    with one, other:
        other.send(b"x")
        assert _blocking.Socket(one).receive(wait) == b"x"


TOO_LARGE = json.dumps({"detail": {"error_code": "PAYLOAD_TOO_LARGE", "message": "too much"}}).encode()


def test_a_large_call_that_is_refused_early_says_why(stub):
    head = b"HTTP/1.1 413 X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(TOO_LARGE)
    refused = Step(raw=head + TOO_LARGE, cut="unread")
    stub.script.extend([refused, refused])
    with pytest.raises(ValidationError, match="too much"):
        GatewayClient("t", stub.url).run(*RUN, {"text": "x" * 20_000_000})

    async def main() -> None:
        with pytest.raises(ValidationError, match="too much"):
            await AsyncGatewayClient("t", stub.url).run(*RUN, {"text": "x" * 20_000_000})

    asyncio.run(main())
    assert stub.connections == 2


@pytest.mark.usefixtures("by_proxy")
def test_nobody_gets_the_cookies_of_others(stub):
    answer = b"HTTP/1.1 200 X\r\ncontent-length: 2\r\nset-cookie: session=of-ann; Path=/\r\n\r\n{}"
    stub.script.append(Step(raw=answer))
    with pytest.raises(InternalServerError):
        GatewayClient("ann", stub.url).run(*RUN, {})
    for user in ("ann", "ben"):
        assert GatewayClient(user, stub.url).run(*RUN, {"n": 1}).get("n") == 1
    assert [asked.headers.get("cookie") for asked in stub.requests] == [None] * 3


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://x"])
def test_proxies_that_nobody_can_use_are_told(stub, monkeypatch, proxy):
    monkeypatch.setattr(_transport, "_shared", {})
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(GatewayError, match="ALL_PROXY"):
        GatewayClient("t", stub.url).run(*RUN, {"n": 1})
    for excepted in ("127.0.0.1", "example.org, *", ".0.0.1"):
        monkeypatch.setenv("NO_PROXY", excepted)
        assert GatewayClient("t", stub.url).run(*RUN, {"n": 1}).get("n") == 1
        _transport.shared_transport().forget()
    for excepted in ("27.0.0.1,,example.org", "example.org,[::1]"):
        monkeypatch.setenv("NO_PROXY", excepted)
        with pytest.raises(GatewayError, match="NO_PROXY"):
            GatewayClient("t", stub.url).run(*RUN, {"n": 1})
