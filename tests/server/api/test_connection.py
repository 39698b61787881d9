"""Heads of requests: bounded, timely, and without contradictions."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from gateways import Gateway, running_gateway, until

from gateway_server.api import connection as module
from gateway_server.cli.server import UNSENT


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("connection") / "data") as started:
        yield started


def talk(gateway: Gateway, *pieces: bytes) -> bytes:
    """What the gateway says to these bytes until it hangs up."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        heard = b""
        with suppress(ConnectionError):  # it has hung up already
            for piece in pieces:
                connection.sendall(piece)
        with suppress(ConnectionResetError):  # there were bytes that it did not want
            while data := connection.recv(1 << 16):
                heard += data
    return heard


def refusal(heard: bytes) -> tuple[int, str]:
    head, _, body = heard.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["detail"]["error_code"]


HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"


def test_requests_follow_each_other_on_one_connection(gateway: Gateway) -> None:
    heard = talk(gateway, HEALTH + b"\r\n" + HEALTH + b"\r\n", HEALTH + b"Connection: close\r\n\r\n")
    assert heard.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("piece", [b"X-A: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_a_head_without_end_is_refused(gateway: Gateway, piece: bytes) -> None:
    start = HEALTH if piece.startswith(b"X-A") else b"GET /"
    count = module.LONGEST_HEAD // len(piece) + 1
    assert refusal(talk(gateway, start + piece * count)) == (431, "HEADERS_TOO_LARGE")


@pytest.mark.parametrize("before", [b"", HEALTH + b"\r\n"])
def test_a_head_that_comes_whole_is_bounded_too(gateway: Gateway, before: bytes) -> None:
    heard = talk(gateway, before + HEALTH + b"X-A: " + b"a" * 70_000 + b"\r\nConnection: close\r\n\r\n")
    first, last = heard[: heard.rindex(b"HTTP/1.1 ")], heard[heard.rindex(b"HTTP/1.1 ") :]
    assert first.count(b"HTTP/1.1 200 OK") == bool(before)
    assert refusal(last) == (431, "HEADERS_TOO_LARGE")


def run_of(gateway: Gateway, *, is_chunked: bool = False, body: bytes = b'{"calls":[]}') -> bytes:
    framing = (
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" if is_chunked else b"Content-Length: %d\r\n\r\n%s"
    )
    key = gateway.key("broken").encode()
    return b"POST /v1/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % key + framing % (len(body), body)


def answers(heard: bytes) -> list[tuple[int, str]]:
    return [refusal(b"HTTP/1.1 " + one) for one in heard.split(b"HTTP/1.1 ")[1:]]


BROKEN = [b"no request\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_what_nobody_understands_takes_no_answer_away(
    gateway: Gateway, broken: bytes, is_chunked: bool, count: int
) -> None:
    run = run_of(gateway, is_chunked=is_chunked)  # refused, though only after a look into the database
    heard = talk(gateway, run * count + broken, run)
    assert answers(heard) == [(422, "VALIDATION_ERROR")] * count + [(422, "VALIDATION_ERROR")]


def test_a_body_that_breaks_off_its_framing_is_refused(gateway: Gateway) -> None:
    whole = run_of(gateway, is_chunked=True)
    broken = whole[: whole.rindex(b"0\r\n\r\n")] + b"no length\r\n"
    assert answers(talk(gateway, broken)) == [(422, "VALIDATION_ERROR")]
    heard = answers(talk(gateway, run_of(gateway) + broken))
    assert heard == [(422, "VALIDATION_ERROR"), (422, "VALIDATION_ERROR")]


UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_body_behind_the_offer_of_another_protocol_is_a_body(
    gateway: Gateway, upgrade: bytes, is_chunked: bool, cut: int
) -> None:
    key = gateway.key("upgrades")
    body = b'{"calls":[{"prefab_id":"no-such","version":"1.0.0","function_name":"f"}],"stream":false}'
    framing = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    if is_chunked:
        framing = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = b"POST /v1/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n" % key.encode()
    at = len(head) + len(upgrade) + framing.index(b"\r\n\r\n") + 4 + cut if cut else len(head)
    request = head + upgrade + framing
    heard = talk(gateway, request[:at], request[at:])
    assert heard.count(b"HTTP/1.1") == 1
    assert b"no-such" in heard
    assert b"zero-length" not in heard
    assert b"\r\nconnection: close\r\n" in heard.lower()


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_long_body_behind_the_offer_of_another_protocol_is_no_head(gateway: Gateway, is_chunked: bool) -> None:
    text = b"x" * module.LONGEST_HEAD
    calls = b'{"calls":[{"prefab_id":"no-such","version":"1.0.0","function_name":"f","inputs":{"parameters":{"text":"'
    pieces = [calls, text, text, text, b'"}}}],"stream":false}']
    framing = b"Content-Length: %d" % sum(map(len, pieces))
    if is_chunked:
        framing, pieces = b"Transfer-Encoding: chunked", [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
        pieces.append(b"0\r\n\r\n")
    key = gateway.key("upgrades").encode()
    head = b"POST /v1/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n%s%s\r\n\r\n" % (key, UPGRADES[0], framing)
    assert b"There is no prefab no-such" in talk(gateway, head, *pieces)


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_a_body_behind_the_offer_of_another_protocol_is_no_request(gateway: Gateway, upgrade: bytes) -> None:
    hidden = HEALTH + b"\r\n"
    head = b"POST /v1/run HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (upgrade, len(hidden))
    assert talk(gateway, head, hidden + hidden).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("behind", [b"garbage\0", HEALTH + b"\r\n", b"\r\n" * 9])
def test_what_follows_the_body_behind_an_offer_takes_no_answer_away(gateway: Gateway, behind: bytes) -> None:
    head = b"POST /v1/run HTTP/1.1\r\nHost: x\r\n%sContent-Length: 2\r\n\r\n" % UPGRADES[0]
    heard = talk(gateway, head + b"{}" + behind)
    assert heard.count(b"HTTP/1.1") == 1
    assert refusal(heard) == (401, "UNAUTHENTICATED")


def test_a_request_behind_an_offer_without_a_body_is_answered(gateway: Gateway) -> None:
    heard = talk(gateway, HEALTH + UPGRADES[0] + b"\r\n" + HEALTH + b"\r\n", HEALTH + b"Connection: close\r\n\r\n")
    assert heard.count(b"HTTP/1.1 200 OK") == 3
    many = (HEALTH + UPGRADES[1] + b"\r\n") * 2000  # in one piece, as far as the system takes it
    assert talk(gateway, many, HEALTH + b"Connection: close\r\n\r\n").count(b"HTTP/1.1 200 OK") == 2001


def test_a_long_body_is_no_head(gateway: Gateway) -> None:
    body = b"x" * (module.LONGEST_HEAD * 3)
    head = b"POST /v1/run HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: %b\r\nContent-Length: %d\r\n\r\n"
    heard = talk(gateway, head % (gateway.admin_key.encode(), len(body)), body)
    assert refusal(heard) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize("name", sorted(module.ONCE))
def test_two_headers_that_contradict_each_other_are_refused(gateway: Gateway, name: bytes) -> None:
    head = b"GET /health HTTP/1.1\r\n" + name + b": a\r\n" + name.upper() + b": b\r\n\r\n"
    assert refusal(talk(gateway, head)) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5 5\r\n",
        b"X: a\x00b\r\n",
        b" folded: a\r\n",
    ],
)
def test_framing_that_can_be_read_in_two_ways_is_refused(gateway: Gateway, framing: bytes) -> None:
    heard = talk(
        gateway, b"POST /health HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n0\r\n\r\nGET /ready HTTP/1.1\r\n\r\n"
    )
    assert refusal(heard) == (422, "VALIDATION_ERROR")
    assert heard.count(b"HTTP/1.1") == 1


def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "sitecustomize.py"
    program.write_text("import gateway_server.api.connection as c\nc.HEAD_TIME = 0.2\n")
    with running_gateway(tmp_path / "data", env={"PYTHONPATH": str(tmp_path)}) as hasty:
        assert refusal(talk(hasty, b"GET /health HTTP/1.1\r\nHost:")) == (408, "REQUEST_TIMEOUT")
        assert talk(hasty) == b""
        assert talk(hasty, HEALTH + b"\r\n", b"GET /he").count(b"REQUEST_TIMEOUT") == 1


def bytes_that_the_system_holds(server: int, client: int) -> int:
    """Those that the gateway has handed over and the client has not taken: tx_queue of proc_net_tcp(5)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (server, client):
            return int(queues.split(":")[0], 16)
    return 0


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux tells")
def test_the_system_holds_little_for_a_client_that_does_not_read(gateway: Gateway) -> None:
    """Else thousands of them hold gigabytes of memory that no process is seen to have."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.settimeout(10)
        connection.connect((host, int(port)))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        held = [0]

        def has_settled() -> bool:
            held.append(bytes_that_the_system_holds(int(port), connection.getsockname()[1]))
            return len(held) > 20 and held[-1] == held[-20] > 0

        until(has_settled)
        assert held[-1] < UNSENT + (1 << 18)
