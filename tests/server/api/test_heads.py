"""Heads that came before mean what the parser would make of them, whatever stands in them."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway_server.api.asgi import Receive, Reply, Send, send_reply
from gateway_server.api.calls import RunRoutes
from gateway_server.api.connection import Connection
from gateway_server.api.direct import Direct
from gateway_server.api.heads import LONGEST, MOST, Heads, Known

HEAD = b"POST /v1/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-a\r\nContent-Length: 2"
HEADERS = {"host": "x", "authorization": "Bearer sk-a", "content-length": "2"}
KEY = b"\r\nIdempotency-Key: "


class Runs:
    """An application that answers every run at once, and remembers it."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], bytes]] = []

    @property
    def runs(self) -> "Runs":
        return self

    def direct(self, request: Direct) -> None:
        self.seen.append((dict(request.headers), request.body))
        request.reply(Reply(200, [], b"ok"))

    async def __call__(self, _scope: Any, receive: Receive, send: Send) -> None:
        """What the connection does not answer itself."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.seen.append(({}, body))
        await send_reply(Reply(200, [], b"ok"), send)


class Line:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def get_extra_info(self, _name: str) -> None: ...

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


class Nothing(Heads):
    """Remembers nothing."""

    def find(self, data: bytes) -> Known | None:
        return None


def said(
    heads: Heads, packets: list[bytes], runs: Runs | None = None
) -> tuple[list[tuple[dict[str, str], bytes]], bytes, bool]:
    """What a connection makes of packets: the runs, what it answers, and whether it hangs up."""

    async def talk() -> tuple[list[tuple[dict[str, str], bytes]], bytes, bool]:
        app, line = runs or Runs(), Line()
        config = Config(app, http=Connection, log_config=None)
        config.load()
        connection = Connection(config, ServerState(), {})
        connection.heads, connection.app, connection._serve = heads, app, app
        connection.connection_made(line)  # type: ignore[arg-type]
        for packet in packets:
            connection.data_received(packet)
            for _ in range(9):  # steps of whoever answers
                await asyncio.sleep(0)
        result = app.seen, line.written, line.is_closed
        connection.connection_lost(None)
        return result

    return asyncio.run(talk())


names = st.sampled_from(["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY", "Prefer", "X-Other", "Cancel-After"])
colons = st.sampled_from([": ", ":", ":  ", " : ", ":\t"])
values = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=6) | st.sampled_from(
    [
        "a",
        "a ",
        "",
        "a\r\n b",
        "a\r\n\tb",
        "a\nX-Other: b",
        "a\rb",
        "a\r\nIdempotency-Key: b",
        "chunked",
        "100-continue",
    ]
)
lines = st.builds(lambda *parts: "".join(parts).encode("latin-1"), names, colons, values) | st.sampled_from(
    [
        b"Content-Length: 2",
        b"Content-Length: 3",
        b"Content-Length: +2",
        b"Connection: close",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: upgrade\r\nUpgrade: websocket",
    ]
)
firsts = st.sampled_from(
    [
        b"POST /v1/run HTTP/1.1",
        b"POST /v1/internal/run HTTP/1.1",
        b"POST /v1/run HTTP/1.0",
        b"\r\nPOST /v1/run HTTP/1.1",
        b"\r\n\r\nPOST /v1/run HTTP/1.1",
    ]
)
heads = st.builds(
    lambda first, some, at: b"\r\n".join([first, *some[:at], b"Content-Length: 2", *some[at:]]),
    firsts,
    st.lists(lines, max_size=4),
    st.integers(0, 4),
)
bodies = st.sampled_from([b"{}", b"{}", b"{}", b"{", b"{}\r\n", b"{}POST /v1/run HTTP/1.1\r\n"])


@given(st.lists(st.tuples(st.integers(0, 2), bodies), min_size=1, max_size=6), st.lists(heads, min_size=3, max_size=3))
def test_a_connection_says_the_same_whether_it_remembers_heads_or_not(
    order: list[tuple[int, bytes]], some: list[bytes]
) -> None:
    packets = [some[which] + b"\r\n\r\n" + body for which, body in order]
    remembering = Heads()
    for _ in range(2):
        assert said(remembering, packets) == said(Nothing(), packets)


@given(st.lists(lines, max_size=3), st.lists(lines, max_size=3), bodies)
def test_what_one_head_meant_says_nothing_of_one_with_other_lines(
    before: list[bytes], after: list[bytes], body: bytes
) -> None:
    learned, asked = (b"\r\n".join([HEAD, *some]) + b"\r\n\r\n" for some in (before, after))
    remembering = Heads()
    said(remembering, [learned + b"{}"])
    assert said(remembering, [asked + body]) == said(Nothing(), [asked + body])


def test_what_comes_again_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    remembering, packet = Heads(), HEAD + b"\r\n\r\n{}"
    monkeypatch.setattr(Connection, "_parse", counting := Counting(Connection._parse))
    runs, written, _ = said(remembering, [packet, packet, packet.replace(b"{}", b"[]")])
    assert runs == [(HEADERS, b"{}"), (HEADERS, b"{}"), (HEADERS, b"[]")]
    assert written.count(b"HTTP/1.1 200") == 3
    assert counting.count == 1


class Counting:
    """A method that counts how often it is called."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self.count = 0

    def __get__(self, instance: Any, _owner: Any) -> Any:
        def call(*arguments: Any) -> Any:
            self.count += 1
            return self._method(instance, *arguments)

        return call


def test_what_comes_after_an_answer_that_closed_the_connection_is_passed_over() -> None:
    packet, remembering = HEAD + b"\r\n\r\n{}", Heads()
    closing = packet.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost")
    for heads in (remembering, Nothing()):
        runs, _, is_closed = said(heads, [packet, closing, packet, packet])
        assert ([body for _, body in runs], is_closed) == ([b"{}", b"{}"], True)


def test_a_mistake_of_ours_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def recall(self, _headers: Any) -> None:
            raise ZeroDivisionError

    class Broke(Runs):
        _authenticator = Broken()

        def direct(self, request: Direct) -> None:
            RunRoutes.direct(self, request)  # type: ignore[arg-type]

    remembering = Heads()
    for heads in (Nothing(), remembering, remembering):
        _, written, _ = said(heads, [HEAD + b"\r\n\r\n{}"] * 2, Broke())
        assert written.count(b"HTTP/1.1 500") == 2
    assert "ZeroDivisionError" in caplog.text


def test_each_request_has_its_own_key() -> None:
    known = Heads()
    known.learn(HEAD + KEY + b"first\r\n\r\n{}", {**HEADERS, "idempotency-key": "first"})
    found = known.find(HEAD + KEY + b"2 nd\r\n\r\n[]")
    assert found == (HEADERS | {"idempotency-key": "2 nd"}, b"[]")
    assert known.find(HEAD + b"\r\n\r\n[]") == (HEADERS, b"[]")
    for odd in (b"", b" a", b"a ", b"\xff", b"a\r\n b", b"a" + KEY + b"b"):
        assert known.find(HEAD + KEY + odd + b"\r\n\r\n{}") is None
    for line in (b"Idempotency-Key:a", b"Idempotency-Key : a", b"X-Idempotency-Key: a"):
        assert known.find(HEAD + b"\r\n" + line + b"\r\n\r\n{}") is None


def test_a_body_of_another_length_is_left_to_the_parser() -> None:
    known = Heads()
    known.learn(HEAD + b"\r\n\r\n{}", HEADERS)
    assert known.find(HEAD + b"\r\n\r\n{}") == (HEADERS, b"{}")
    for body in (b"", b"{", b"{}}", b"{}" + HEAD):
        assert known.find(HEAD + b"\r\n\r\n" + body) is None


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    known = Heads()
    some = [HEAD + b"\r\nX: %d\r\n\r\n{}" % number for number in range(MOST + 1)]
    for one in some:
        known.learn(one, HEADERS)
    assert len(known._known) == MOST
    assert [known.find(one) is None for one in some] == [True] + [False] * MOST  # the one that came first is gone
    long = HEAD + b"\r\nX: " + b"a" * LONGEST + b"\r\n\r\n{}"
    known.learn(long, HEADERS)
    assert known.find(long) is None


def test_heads_of_functions_are_not_remembered_as_they_come_only_within_one_call() -> None:
    known = Heads()
    head = HEAD + b"\r\nX-Internal-Token: %b\r\n\r\n{}"
    for token, count in (("ct-1", 0), ("ey.a.b", 1)):
        known.learn(head % token.encode(), HEADERS | {"x-internal-token": token})
        assert len(known._known) == count


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"\r\nX: a\r\n b",
        HEAD + b"\r\nX: a\r\n\tb",
        HEAD + b"\r\nX: a\nY: b",
        HEAD + b"\r\nX: a\rY: b",
        b"\r\n" + HEAD,
        HEAD.replace(b"POST", b"GET"),
        HEAD + b"\r\nIdempotency-Key:k",
    ],
)
def test_what_the_lines_around_it_could_change_is_not_remembered(head: bytes) -> None:
    known = Heads()
    known.learn(head + b"\r\n\r\n{}", HEADERS | ({"idempotency-key": "k"} if b"Idempotency" in head else {}))
    assert known._known == {}
