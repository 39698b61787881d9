"""What HTTP allows passes through to agents and back, byte by byte, in little memory, and nothing stays open."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from gateways import Gateway, memory_mb, until
from raw_agent import RawAgent
from web_agent import WAIT, WebAgent

LARGE = 200 << 20
BOUND_MB = 60
PIECE = bytes(range(256)) * 256


@contextmanager
def registered(gateway: Gateway, url: str) -> Iterator[str]:
    name = f"agent-{uuid4().hex[:8]}"
    gateway.request("POST", "/v1/agents", json={"id": name, "url": url, "check": False}).raise_for_status()
    yield f"/v1/agents/{name}"
    gateway.request("DELETE", f"/v1/agents/{name}").raise_for_status()


def identity(gateway: Gateway) -> dict[str, str]:
    return {"authorization": f"Bearer {gateway.admin_key}"}


@contextmanager
def raw(gateway: Gateway, head: str) -> Iterator[Any]:
    """A connection to the gateway on which this head was sent, as a file."""
    parts = urlsplit(gateway.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=WAIT) as connection:
        lines = f"{head}\r\nhost: x\r\nauthorization: Bearer {gateway.admin_key}\r\n\r\n"
        connection.sendall(lines.encode())
        with connection.makefile("rwb", buffering=0) as stream:
            yield stream


def read_head(stream: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        assert line, head
        head += line
    return head


def test_repeated_headers_and_compressed_bodies_stay_as_they_are(gateway: Gateway):
    body = b"\x1f\x8b not really gzip \x00\xff"
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nset-cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n"
    with (
        RawAgent(head + b"content-length: %d\r\n\r\n" % len(body) + body) as agent,
        registered(gateway, agent.url) as to,
    ):
        with httpx.stream("GET", f"{gateway.url}{to}/x", headers=identity(gateway)) as answer:
            assert answer.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.headers["content-length"] == str(len(body))
            assert b"".join(answer.iter_raw()) == body


@pytest.mark.parametrize("length", ["", "content-length: 50\r\n"])
@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(gateway: Gateway, status: int, length: str):
    head = f"HTTP/1.1 {status} Nothing\r\netag: x\r\n{length}\r\n".encode()
    with RawAgent(head) as agent, registered(gateway, agent.url) as to:
        with raw(gateway, f"GET {to}/x HTTP/1.1\r\nconnection: close") as stream:
            told = read_head(stream).lower()
            assert told.startswith(f"http/1.1 {status}".encode())
            assert b"etag: x" in told
            assert b"transfer-encoding" not in told
            assert stream.read() == b""
        with raw(gateway, f"GET {to}/x HTTP/1.1") as stream:
            read_head(stream)
            stream.write(f"GET {to}/x HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert read_head(stream).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("status", [299, 431, 451, 599])
def test_a_status_of_an_agent_passes(gateway: Gateway, status: int):
    with RawAgent(f"HTTP/1.1 {status} Own\r\ncontent-length: 2\r\n\r\nok".encode()) as agent:
        with registered(gateway, agent.url) as to:
            answer = gateway.request("GET", f"{to}/x")
    assert (answer.status_code, answer.text) == (status, "ok")


@pytest.mark.parametrize("status", ["000", "099", "101", "600", "999"])
def test_a_status_that_answers_cannot_have(gateway: Gateway, status: str):
    with RawAgent(f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok".encode()) as agent:
        with registered(gateway, agent.url) as to:
            answer = gateway.request("GET", f"{to}/x")
            agents = gateway.request("GET", "/v1/agents").json()["agents"]
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (503, "SERVICE_UNAVAILABLE")
    (health,) = [one["health"]["status"] for one in agents if to.endswith(one["id"])]
    assert health != "unreachable" or status < "200"  # what is HTTP at least on one path does not speak for all


@pytest.mark.parametrize("offer", ["", "upgrade: h2c\r\nhttp2-settings: AA\r\n"])
def test_what_the_header_connection_names_is_not_passed_on(gateway: Gateway, agent: WebAgent, offer: str):
    tokens = "Upgrade, HTTP2-Settings, X-Private" if offer else "X-Private"
    with registered(gateway, agent.url) as to:
        head = (
            f"POST {to}/tell HTTP/1.1\r\nconnection: {tokens}\r\n{offer}x-private: 1\r\nx-open: 1\r\ncontent-length: 2"
        )
        with raw(gateway, head) as stream:
            stream.write(b"{}")
            assert b"200 OK" in read_head(stream)
            told = stream.read(2000).decode()
    assert "x-open" in told
    assert "x-private" not in told
    assert "http2-settings" not in told


def test_head_keeps_the_length(gateway: Gateway):
    with RawAgent(b"HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n") as agent:
        with registered(gateway, agent.url) as to:
            answer = gateway.request("HEAD", f"{to}/x")
    assert (answer.headers["content-length"], answer.content) == ("12345", b"")


def test_trailers_are_left_out(gateway: Gateway):
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
    with RawAgent(head + b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n") as agent, registered(gateway, agent.url) as to:
        answer = gateway.request("GET", f"{to}/x")
    assert (answer.text, "trailer" in answer.headers, "x-sum" in answer.headers) == ("abc", False, False)


def test_informational_answers_of_an_agent_are_left_out(gateway: Gateway):
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    with RawAgent(early + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") as agent:
        with registered(gateway, agent.url) as to:
            assert gateway.request("GET", f"{to}/x").text == "ok"


def test_a_caller_that_waits_to_be_told_to_continue(gateway: Gateway, agent: WebAgent):
    head = "HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close"
    with registered(gateway, agent.url) as to, raw(gateway, f"POST {to}/x {head}") as stream:
        assert read_head(stream).startswith(b"HTTP/1.1 100")
        stream.write(b"body")
        assert read_head(stream).startswith(b"HTTP/1.1 200")
        assert b'"body": "body"' in stream.read()


def test_an_upgrade_is_refused(gateway: Gateway, agent: WebAgent):
    head = "HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: x\r\nsec-websocket-version: 13"
    with registered(gateway, agent.url) as to, raw(gateway, f"GET {to}/x {head}") as stream:
        told = read_head(stream)
        assert told.startswith(b"HTTP/1.1 422")
        assert b"WebSockets do not pass" in stream.read(1000)


def test_an_agent_that_refuses_a_body_before_its_end(gateway: Gateway):
    refusal = b"HTTP/1.1 413 Too Much\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!"

    def body() -> Iterator[bytes]:
        for _ in range(500):
            yield PIECE

    with RawAgent(refusal) as agent, registered(gateway, agent.url) as to:
        answer = gateway.request("POST", f"{to}/x", content=body())
    assert (answer.status_code, answer.text) in ((413, "no!"), (503, answer.text))


def test_large_bodies_take_little_memory(gateway: Gateway, agent: WebAgent):
    with registered(gateway, agent.url) as to:
        gateway.request("POST", f"{to}/upload", content=b"warm").raise_for_status()
        Path(f"/proc/{gateway.pid}/clear_refs").write_text("5")  # the highest mark counts from here
        before = memory_mb(gateway.pid)
        answer = gateway.request("POST", f"{to}/upload", content=(PIECE for _ in range(LARGE // len(PIECE))))
        assert answer.text == str(LARGE)
        with httpx.stream("GET", f"{gateway.url}{to}/download", headers=identity(gateway), timeout=WAIT) as large:
            assert sum(map(len, large.iter_raw())) == LARGE
        assert memory_mb(gateway.pid, "VmHWM") - before < BOUND_MB


def test_a_slow_reader_holds_up_the_agent_and_not_the_gateway(gateway: Gateway, agent: WebAgent):
    with registered(gateway, agent.url) as to:
        with raw(gateway, f"GET {to}/download HTTP/1.1") as stream:
            read_head(stream)
            before = memory_mb(gateway.pid)
            until(lambda: agent.is_held_up, WAIT, "the agent's wait")
            assert memory_mb(gateway.pid) - before < BOUND_MB


def test_a_caller_who_hangs_up_while_an_answer_streams_ends_it(gateway: Gateway):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    with RawAgent(head + b"9\r\ndata: 1\n\n\r\n", then_waits=True) as agent, registered(gateway, agent.url) as to:
        with httpx.stream("GET", f"{gateway.url}{to}/x", headers=identity(gateway), timeout=WAIT) as answer:
            assert next(answer.iter_raw()) == b"data: 1\n\n"
        assert agent.hung_up.wait(WAIT)


def test_a_caller_who_hangs_up_within_a_body_ends_the_request(gateway: Gateway):
    with RawAgent(b"", then_waits=True) as agent, registered(gateway, agent.url) as to:
        with raw(gateway, f"POST {to}/x HTTP/1.1\r\ncontent-length: 1000") as stream:
            stream.write(b"some")
            until(lambda: b"some" in agent.received, WAIT, "the first piece")
        assert agent.hung_up.wait(WAIT)


def test_callers_who_hang_up_leave_no_connection_open(gateway: Gateway, agent: WebAgent):
    def sockets() -> int:
        return sum(link.startswith("socket:") for link in _links(f"/proc/{gateway.pid}/fd"))

    with registered(gateway, agent.url) as to:
        gateway.request("GET", f"{to}/x").raise_for_status()
        before = sockets()

        def hang_up() -> None:
            with raw(gateway, f"GET {to}/x HTTP/1.1"):
                pass

        for _ in range(20):
            threads = [threading.Thread(target=hang_up) for _ in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        until(lambda: sockets() <= before + 2, WAIT, "the end of every connection")


def _links(folder: str) -> Iterator[str]:
    for name in os.listdir(folder):
        with suppress(OSError):
            yield os.readlink(f"{folder}/{name}")
