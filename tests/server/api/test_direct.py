"""Runs that the connection answers itself: byte by byte, beside the common way, and with callers who leave."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gateways import Gateway, memory_mb, running_gateway, until
from packages import write_package

from gateway_server.api.direct import LONGEST

SOURCE = """
import os
import time
from pathlib import Path

def echo(text: str):
    return {"success": True, "text": text}

def marks(path: str, seconds: float):
    Path(path + ".began").touch()
    time.sleep(seconds)
    Path(path + ".ended").touch()
    return "marked"

def raises():
    raise ValueError("no such luck")

def business():
    return {"success": False, "error": "not today"}

def tokens(n: int):
    for i in range(n):
        yield {"type": "content", "data": f"t{i} "}

def floods(size: int):
    while True:
        yield {"type": "content", "data": "x" * size}

def pages(n: int):
    for i in range(n):
        yield {"type": "content", "data": "x" * 10_000}

def silent(seconds: float):
    yield {"type": "content", "data": "first"}
    time.sleep(seconds)
    yield {"type": "content", "data": "second"}

def needs_secret():
    return os.environ["SECRET"]
"""
FUNCTIONS = {"needs_secret": {"secrets": [{"name": "SECRET", "description": "One.", "instructions": "Ask."}]}}
VOLATILE = re.compile(
    rb'"(job_id|id|reset_at|trace_id)":"[^"]*"|"retry_after":[0-9.]+|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{22}'
)
PATIENT = """
import gateway_server.api.intake as i
i.SILENCE = 0.3
import gateway_server.api.connection as c
c.SILENCE = 0.3
import gateway_server.api.direct as d
d.KEEP_ALIVE_EVERY = 0.1
import gateway_server.cli.server as s
s.KEEP_ALIVE = 1
"""


class Answer(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def output(self) -> Any:
        return self.json["results"][0]["output"]["output"]

    @property
    def code(self) -> str:
        return self.json["detail"]["error_code"]


class Wire:
    """A connection, byte by byte."""

    def __init__(self, gateway: Gateway, *, window: int | None = None) -> None:
        host, port = gateway.url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        if window is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.settimeout(20)
        self.socket.connect((host, int(port)))
        self._heard = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, *pieces: bytes) -> "Wire":
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def _more(self) -> bool:
        data = self.socket.recv(1 << 16)
        self._heard += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """What is heard up to a mark, with it."""
        while mark not in self._heard:
            assert self._more(), f"{mark!r} did not come, but {self._heard!r}"
        found, _, self._heard = self._heard.partition(mark)
        return found + mark

    def _exactly(self, size: int) -> bytes:
        while len(self._heard) < size:
            assert self._more(), f"{size} bytes did not come, but {self._heard!r}"
        found, self._heard = self._heard[:size], self._heard[size:]
        return found

    def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header came twice: {pairs}"
        version, status, phrase = first.split(" ", 2)
        assert (version, bool(phrase)) == ("HTTP/1.1", True)
        return int(status), headers

    def chunk(self) -> bytes:
        size = int(self.until(b"\r\n"), 16)
        return self._exactly(size + 2)[:-2]

    def hear(self) -> Answer:
        status, headers = self.head()
        if status == 100:
            return Answer(100, headers, b"")
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return Answer(status, headers, self._exactly(int(headers["content-length"])))
        assert headers["transfer-encoding"] == "chunked"
        body = b""
        while chunk := self.chunk():
            body += chunk
        return Answer(status, headers, body)

    @property
    def is_closed(self) -> bool:
        """Whether the gateway has hung up, with nothing left to hear."""
        try:
            return not self._heard and not self.socket.recv(1)
        except ConnectionResetError:
            return True


def calls(function: str, parameters: dict[str, Any] | None = None, **more: Any) -> bytes:
    call = {
        "prefab_id": "direct",
        "version": "1.0.0",
        "function_name": function,
        "inputs": {"parameters": parameters or {}},
    }
    return json.dumps({"calls": [call], **more}).encode()


def echo(text: str) -> bytes:
    return calls("echo", {"text": text}, stream=False)


class Caller:
    """Writes requests of somebody."""

    def __init__(self, gateway: Gateway, user: str = "ann") -> None:
        self.token = gateway.token(user, "helper")

    def request(self, body: bytes, *lines: bytes, chunked: bool = False, version: bytes = b"1.1") -> bytes:
        if chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            framing = b"Transfer-Encoding: chunked"
        else:
            framing = b"Content-Length: %d" % len(body)
        return self.head(framing, *lines, version=version) + body

    def head(self, *lines: bytes, version: bytes = b"1.1") -> bytes:
        first = (b"POST /v1/internal/run HTTP/" + version, b"Host: x", b"X-Internal-Token: " + self.token.encode())
        return b"\r\n".join((*first, *lines)) + b"\r\n\r\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "direct"
    return write_package(folder, SOURCE, prefab_id="direct", functions=FUNCTIONS)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Gateway]:
    """One that waits for nothing for long."""
    folder = tmp_path_factory.mktemp("direct")
    (folder / "sitecustomize.py").write_text(PATIENT)
    with running_gateway(folder / "data", "--sandbox", "off", env={"PYTHONPATH": str(folder)}) as started:
        started.publish(package)
        yield started


@pytest.fixture(scope="module")
def ann(gateway: Gateway) -> Caller:
    return Caller(gateway)


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


# Requests that come together, or in pieces


def test_runs_and_others_in_one_packet_are_answered_in_their_order(gateway: Gateway, ann: Caller) -> None:
    run = [ann.request(echo(str(number))) for number in range(6)]
    orders = ([run[0], run[1]], [run[0], GET, run[1]], [GET, run[0], GET], run, [run[0], run[1], GET, GET, run[2]])
    for order in orders:
        with Wire(gateway) as wire:
            for _ in range(2):  # and once more on the same connection
                wire.say(b"".join(order))
                for request in order:
                    answer = wire.hear()
                    assert answer.status == 200
                    if request is not GET:
                        assert answer.output["text"] == str(run.index(request))
                    else:
                        assert "results" not in answer.json


def test_refusals_in_one_packet_are_answered_in_their_order(gateway: Gateway, ann: Caller) -> None:
    wrong = ann.request(b"{}")
    nobody = wrong.replace(ann.token.encode(), b"nobody")
    with Wire(gateway) as wire:
        wire.say(nobody + wrong + ann.request(echo("x")) + nobody + GET)
        assert [wire.hear().status for _ in range(5)] == [401, 422, 200, 401, 200]


def test_a_stream_and_a_run_in_one_packet_do_not_mix(gateway: Gateway, ann: Caller) -> None:
    stream = ann.request(calls("tokens", {"n": 50}, stream=True))
    with Wire(gateway) as wire:
        wire.say(stream + ann.request(echo("after")) + stream)
        first, second, third = wire.hear(), wire.hear(), wire.hear()
    assert [first.body.count(b'"content"'), third.body.count(b'"content"')] == [50, 50]
    assert second.output["text"] == "after"


def test_a_body_may_come_in_pieces(gateway: Gateway, ann: Caller) -> None:
    for size in (0, 10, LONGEST - 300):
        text = "ü" * (size // 12)
        whole = ann.request(echo(text))
        with Wire(gateway) as wire:
            for cuts in (
                [1],
                [20, 100],
                [whole.index(b"\r\n\r\n") + 4],
                [whole.index(b"\r\n\r\n") + 5, len(whole) - 1],
            ):
                before = 0
                for cut in (*cuts, len(whole)):
                    wire.say(whole[before:cut])
                    before = cut
                    time.sleep(0.01)  # so that it is a packet of its own
                assert wire.hear().output["text"] == text


def test_a_request_byte_by_byte(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = ann.request(echo("x"))
        wire.say(*(whole[at : at + 1] for at in range(len(whole))))
        assert wire.hear().output["text"] == "x"


@pytest.mark.parametrize("size", [LONGEST - 1, LONGEST, LONGEST + 1, 99_999, 100_000, 1 << 20])
def test_bodies_around_the_bound_of_the_direct_way_are_the_same(gateway: Gateway, ann: Caller, size: int) -> None:
    text = "x" * (size - len(echo("")))
    body = echo(text)
    assert len(body) == size
    with Wire(gateway) as wire:
        for _ in range(2):
            assert wire.say(ann.request(body)).hear().output["text"] == text


def test_a_body_that_stops_is_refused_and_the_connection_ends(gateway: Gateway, ann: Caller) -> None:
    for sent in (b"", b'{"calls":'):
        with Wire(gateway) as wire:
            wire.say(ann.head(b"Content-Length: 500") + sent)
            answer = wire.hear()
            assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")
            assert answer.headers["connection"] == "close"
            assert wire.is_closed


def test_a_body_that_comes_slowly_but_goes_on_is_waited_for(gateway: Gateway, ann: Caller) -> None:
    whole = ann.request(echo("slow"))
    start = whole.index(b"\r\n\r\n") + 4
    with Wire(gateway) as wire:
        wire.say(whole[:start])
        for at in range(start, len(whole), (len(whole) - start) // 5 + 1):
            time.sleep(0.12)  # together longer than it may stop
            wire.say(whole[at : at + (len(whole) - start) // 5 + 1])
        assert wire.hear().output["text"] == "slow"


def test_what_comes_after_a_body_that_stopped_is_no_request(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.head(b"Content-Length: 500") + b"{")
        assert wire.hear().status == 408
        try:
            wire.say(b"x" * 499 + ann.request(echo("smuggled")))
        except OSError:
            pass
        assert wire.is_closed


# Framing


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: -1",),
        (b"Content-Length: +5",),
        (b"Content-Length: 0x5",),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Content-Length: 50"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 99999999999999999999999999",),
        (b"Content-Length: 1 2",),
        (b"Content-Length: five",),
        (b"Content-Length : 5",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: gzip, chunked",),
        ("Content-Length: ٥".encode(),),
        ("Content-Length: ²".encode("latin-1"),),
    ],
)
def test_a_length_that_is_none_is_refused(gateway: Gateway, ann: Caller, lines: tuple[bytes, ...]) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.head(*lines) + ann.request(echo("smuggled")))
        answer = wire.hear()
        assert (answer.status, answer.code) == (422, "VALIDATION_ERROR")
        assert wire.is_closed, "nothing of what follows is taken for a request"


def test_a_huge_length_is_refused_before_its_body(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.head(b"Content-Length: 99999999999") + b"x" * 1000)
        assert wire.until(b"\r\n") in (b"HTTP/1.1 408 Request Timeout\r\n", b"HTTP/1.1 413 Content Too Large\r\n")


@pytest.mark.parametrize(
    "line", [b"Content-Length:  %d ", b"Content-Length:%d", b"content-length: 000%d", b"CONTENT-LENGTH:\t%d\t"]
)
def test_a_length_may_be_written_oddly(gateway: Gateway, ann: Caller, line: bytes) -> None:
    body = echo("x")
    with Wire(gateway) as wire:
        for _ in range(2):
            assert wire.say(ann.head(line % len(body)) + body).hear().output["text"] == "x"


def test_no_body_at_all_is_an_invalid_request(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        for lines in ((), (b"Content-Length: 0",)):
            answer = wire.say(ann.head(*lines)).hear()
            assert (answer.status, answer.code) == (422, "VALIDATION_ERROR")


def test_chunks_are_a_body_too(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        for turn in range(4):
            answer = wire.say(ann.request(echo(str(turn)), chunked=bool(turn % 2))).hear()
            assert answer.output["text"] == str(turn)


def test_who_expects_to_be_told_to_go_on_is_told(gateway: Gateway, ann: Caller) -> None:
    body = echo("x")
    with Wire(gateway) as wire:
        for _ in range(2):
            wire.say(ann.head(b"Content-Length: %d" % len(body), b"Expect: 100-continue"))
            assert wire.hear().status == 100
            assert wire.say(body).hear().output["text"] == "x"
            assert wire.say(ann.request(body)).hear().output["text"] == "x"


def test_the_older_protocol_is_answered_and_hung_up_on(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        assert wire.say(ann.request(echo("x"), version=b"1.0")).hear().output["text"] == "x"
        assert wire.is_closed


@pytest.mark.parametrize("body", [echo("x"), b"{}", calls("tokens", {"n": 3}, stream=True)])
def test_a_connection_is_closed_after_the_answer_on_request(gateway: Gateway, ann: Caller, body: bytes) -> None:
    with Wire(gateway) as wire:
        answer = wire.say(ann.request(body, b"Connection: close")).hear()
        assert answer.headers["connection"] == "close"
        assert wire.is_closed


def test_a_connection_is_kept_while_it_is_used_whatever_it_asks_for(gateway: Gateway, ann: Caller) -> None:
    """The connection ends after a second of silence, here; none of these is silent for so long."""
    with Wire(gateway) as wire:
        assert wire.say(ann.request(echo("x"))).hear().status == 200
        for _ in range(6):
            time.sleep(0.3)
            assert wire.say(GET).hear().status == 200
    with Wire(gateway) as wire:
        for _ in range(6):
            assert wire.say(ann.request(echo("x"))).hear().status == 200
            time.sleep(0.3)


def test_a_request_that_has_begun_is_waited_for(gateway: Gateway, ann: Caller) -> None:
    whole = ann.request(echo("x"))
    with Wire(gateway) as wire:
        assert wire.say(whole).hear().status == 200
        time.sleep(0.8)
        wire.say(whole[:30])
        time.sleep(0.5)  # now the connection has been without a whole request for longer than it may be silent
        wire.say(whole[30:])
        assert wire.hear().output["text"] == "x"


def test_a_silent_connection_ends(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        wire.say(ann.request(echo("x"))).hear()
        began = time.monotonic()
        assert wire.is_closed
        assert 0.5 < time.monotonic() - began < 5


# Callers who leave


@pytest.mark.parametrize("keyed", [False, True])
def test_a_function_ends_with_its_caller_unless_another_may_come(
    gateway: Gateway, ann: Caller, tmp_path: Path, keyed: bool
) -> None:
    mark = tmp_path / "mark"
    body = calls("marks", {"path": str(mark), "seconds": 0.7}, stream=False)
    lines = (b"Idempotency-Key: leaves-%s" % tmp_path.name.encode(),) if keyed else ()
    with Wire(gateway) as wire:
        wire.say(ann.request(body, *lines))
        until(mark.with_name("mark.began").exists, 20, "the call's start")
    if not keyed:
        until(lambda: ended_jobs(gateway, "marks")[0]["status"] == "canceled", 10, "the cancel")
        time.sleep(0.8)
        assert not mark.with_name("mark.ended").exists()
        return
    with Wire(gateway) as again:
        assert again.say(ann.request(body, *lines)).hear().output == "marked"
    assert mark.with_name("mark.ended").exists()
    assert ended_jobs(gateway, "marks")[0]["status"] == "succeeded"


def ended_jobs(gateway: Gateway, function: str) -> list[Any]:
    jobs = gateway.request("GET", "/v1/jobs?all_users=true&limit=50").json()["jobs"]
    return [job for job in jobs if job["function_name"] == function] or [{"status": "none"}]


def test_who_leaves_in_the_middle_of_a_body_has_called_nothing(gateway: Gateway, tmp_path: Path) -> None:
    caller = Caller(gateway, "leaver")
    whole = caller.request(calls("marks", {"path": str(tmp_path / "mark"), "seconds": 0}, stream=False))
    for cut in (50, whole.index(b"\r\n\r\n") + 4, len(whole) - 1):
        with Wire(gateway) as wire:
            wire.say(whole[:cut])
    with Wire(gateway) as wire:
        wire.say(whole)
        wire.socket.shutdown(socket.SHUT_WR)
    with Wire(gateway) as wire:
        assert wire.say(caller.request(echo("x"))).hear().status == 200
    assert not (tmp_path / "mark.ended").exists() or ended_jobs(gateway, "marks")


def test_who_leaves_after_the_call_has_called(gateway: Gateway) -> None:
    caller = Caller(gateway, "hasty")
    for _ in range(20):
        with Wire(gateway) as wire:
            wire.say(caller.request(echo("x"))).until(b"\r\n")
    jobs = gateway.request("GET", "/v1/jobs?limit=100", headers={"X-Internal-Token": caller.token}, key="").json()
    assert len(jobs["jobs"]) == 20
    assert {job["status"] for job in jobs["jobs"]} == {"succeeded"}


def test_a_crowd_that_leaves_at_any_moment_leaves_nothing_running(gateway: Gateway, ann: Caller) -> None:
    for number in range(60):
        with Wire(gateway) as wire:
            body = (echo("x"), calls("tokens", {"n": 20}, stream=True), b"{}")[number % 3]
            wire.say(ann.request(body) * (1 + number % 2))
            if number % 4 == 0:
                wire.socket.recv(1)
            elif number % 4 == 1:
                time.sleep(0.001 * (number % 7))

    def all_ended() -> bool:
        jobs = gateway.request("GET", "/v1/jobs?all_users=true&limit=1000").json()["jobs"]
        return all(job["ended_at"] for job in jobs)

    until(all_ended, 10, "the end of every call")
    assert "unexpected" not in gateway.log()
    assert "Traceback" not in gateway.log()


# Streams


def test_a_silent_stream_is_kept_alive(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as wire:
        answer = wire.say(ann.request(calls("silent", {"seconds": 0.6}, stream=True))).hear()
    assert 3 <= answer.body.count(b": keep-alive\n\n") <= 7
    said = [json.loads(line[6:]) for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
    assert [event["type"] for event in said] == ["start", "content", "content", "done"]


def test_a_reader_that_stops_takes_no_memory_and_stops_nobody(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway) as other:
        assert other.say(ann.request(echo("warm"))).hear().status == 200
        before = memory_mb(gateway.pid)
        stalled = [Wire(gateway, window=4096) for _ in range(4)]
        try:
            for wire in stalled:
                wire.say(ann.request(calls("floods", {"size": 20_000}, stream=True)))
                wire.until(b"content")
            for turn in range(50):
                assert other.say(ann.request(echo(str(turn)))).hear().output["text"] == str(turn)
            assert memory_mb(gateway.pid) - before < 60
        finally:
            for wire in stalled:
                wire.socket.close()
    until(lambda: all(job["ended_at"] for job in ended_jobs(gateway, "floods") if "ended_at" in job), 10, "their end")


def test_a_reader_that_others_do_not_wait_for_is_hung_up_on(gateway: Gateway, ann: Caller) -> None:
    request = ann.request(calls("pages", {"n": 3_000}, stream=True), b"Idempotency-Key: together")

    def is_connected(port: int) -> bool:
        """Whether the gateway has a connection to this port."""
        lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return any(line[2].endswith(f":{port:04X}") and line[3] == "01" for line in lines)

    with Wire(gateway, window=4096) as stalled, Wire(gateway) as fast:
        stalled.say(request).until(b"xxx")
        port = stalled.socket.getsockname()[1]
        assert is_connected(port)
        fast.say(request)
        heard = fast.hear()
        assert heard.body.count(b'"content"') == 3_000
        until(lambda: not is_connected(port), 5, "the end of the connection that nobody reads from")


def test_a_reader_that_goes_on_gets_everything(gateway: Gateway, ann: Caller) -> None:
    with Wire(gateway, window=4096) as wire:
        wire.say(ann.request(calls("tokens", {"n": 20_000}, stream=True)))
        wire.until(b"t5 ")
        time.sleep(0.5)
        heard = wire.until(b"0\r\n\r\n")
    assert re.findall(rb'"t(\d+) "', heard)[-1] == b"19999"
    assert heard.count(b'"content"') >= 19_990


# A gateway that stops


def test_a_gateway_that_stops_lets_a_direct_call_end(tmp_path: Path, package: Path) -> None:
    with running_gateway(tmp_path / "data", "--sandbox", "off") as gateway:
        gateway.publish(package)
        caller = Caller(gateway)
        mark = tmp_path / "mark"
        with Wire(gateway) as busy, Wire(gateway) as idle, Wire(gateway) as unused:
            idle.say(caller.request(echo("x"))).hear()
            busy.say(caller.request(calls("marks", {"path": str(mark), "seconds": 1.0}, stream=False)))
            until(mark.with_name("mark.began").exists, 20, "the call's start")
            stopping = threading.Thread(target=gateway.stop)
            stopping.start()
            answer = busy.hear()
            assert (answer.status, answer.output) == (200, "marked")
            assert answer.headers["connection"] == "close"
            assert busy.is_closed
            assert idle.is_closed
            assert unused.is_closed
            stopping.join(30)
        assert gateway.process is not None
        assert gateway.process.returncode == 0
        assert "Traceback" not in gateway.log()


# The same answers either way


def batch(*functions: str) -> bytes:
    parsed = [
        json.loads(calls(function, {"text": "x"} if function == "echo" else {}))["calls"][0] for function in functions
    ]
    return json.dumps({"calls": parsed}).encode()


REQUESTS: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "success": (echo("héllo"), ()),
    "success that does not say whether it streams": (calls("echo", {"text": "x"}), ()),
    "business failure": (calls("business"), ()),
    "failure": (calls("raises"), ()),
    "no such parameter": (calls("echo", {"text": "x", "other": 1}), ()),
    "wrong type": (calls("echo", {"text": 7}), ()),
    "no such prefab": (calls("echo").replace(b'"direct"', b'"nowhere"'), ()),
    "no such version": (calls("echo").replace(b"1.0.0", b"9.0.0"), ()),
    "no such function": (calls("nothing"), ()),
    "missing secret": (calls("needs_secret"), ()),
    "no JSON": (b"{", ()),
    "not UTF-8": (b'{"calls":[{"prefab_id":"\xff"}]}', ()),
    "no calls": (b'{"calls":[]}', ()),
    "deadline that is none": (echo("x"), (b"Cancel-After: soon",)),
    "deadline that is over": (calls("marks", {"path": "m", "seconds": 5.0}), (b"Cancel-After: 100ms",)),
    "key that is none": (echo("x"), (b"Idempotency-Key: ",)),
    "stream": (calls("tokens", {"n": 3}, stream=True), ()),
    "stream of a plain function": (calls("echo", {"text": "x"}, stream=True), ()),
    "stream that fails": (calls("raises", stream=True), ()),
    "stream that is refused": (calls("nothing", stream=True), ()),
    "folded": (calls("tokens", {"n": 3}, stream=False), ()),
    "batch": (batch("echo", "raises", "nothing"), ()),
    "job": (echo("x"), (b"Prefer: respond-async, wait=20",)),
    "preference that is none": (echo("x"), (b"Prefer: handling=lenient",)),
    "bad token": (echo("x"), ()),
    "token and bad key": (echo("x"), (b"Authorization: Bearer sk-nothing",)),
}


def same(one: Answer, other: Answer) -> None:
    assert one.status == other.status
    left_out = ("date", "content-length", "x-job-id", "location", "etag", "retry-after")
    told = [{name: value for name, value in each.headers.items() if name not in left_out} for each in (one, other)]
    assert told[0] == told[1]
    assert one.headers.keys() == other.headers.keys()
    assert VOLATILE.sub(b"", one.body) == VOLATILE.sub(b"", other.body)


@pytest.mark.parametrize("what", REQUESTS)
def test_both_ways_give_the_same_answer(gateway: Gateway, ann: Caller, what: str) -> None:
    body, lines = REQUESTS[what]
    requests = [ann.request(body, *lines, chunked=chunked) for chunked in (False, True)]
    if what == "bad token":
        requests = [request.replace(ann.token[-20:].encode(), b"x" * 20) for request in requests]
    with Wire(gateway) as wire:
        same(*(wire.say(request).hear() for request in requests))
        same(*(wire.say(request).hear() for request in reversed(requests)))


def test_both_ways_refuse_the_same_beyond_a_quota(gateway: Gateway) -> None:
    gateway.request("PUT", "/v1/quotas/poor", json={"limit": 2}).raise_for_status()
    poor = Caller(gateway, "poor")
    with Wire(gateway) as wire:
        for chunked in (False, True):
            assert wire.say(poor.request(echo("x"), chunked=chunked)).hear().status == 200
        direct, common = (wire.say(poor.request(echo("x"), chunked=chunked)).hear() for chunked in (False, True))
        same(direct, common)
        assert (direct.status, direct.json["detail"]["used"], direct.json["detail"]["limit"]) == (429, 2, 2)
        assert abs(int(direct.headers["retry-after"]) - int(common.headers["retry-after"])) <= 2


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("function", ["echo", "tokens", "raises"])
def test_a_key_is_answered_with_the_same_either_way(gateway: Gateway, ann: Caller, first: bool, function: str) -> None:
    parameters = {"echo": {"text": "x"}, "tokens": {"n": 3}, "raises": {}}[function]
    body = calls(function, parameters, stream=function == "tokens")
    key = b"Idempotency-Key: either-%s-%d" % (function.encode(), first)
    with Wire(gateway) as wire:
        answers = [wire.say(ann.request(body, key, chunked=chunked)).hear() for chunked in (first, not first, first)]
        assert answers[0].body == answers[1].body == answers[2].body
        assert answers[0].status == answers[1].status == 200
        other = [wire.say(ann.request(body + b" ", key, chunked=chunked)).hear() for chunked in (False, True)]
        same(*other)
        assert (other[0].status, other[0].code) == (422, "IDEMPOTENCY_CONFLICT")


@pytest.mark.parametrize("proof", [b"Authorization: Bearer %s", b"X-API-Key: %s"])
def test_keys_are_known_on_both_ways_and_both_paths(gateway: Gateway, ann: Caller, proof: bytes) -> None:
    line = proof % gateway.key("bob").encode()
    for path in (b"/v1/run", b"/v1/internal/run"):
        with Wire(gateway) as wire:
            answers = []
            for chunked in (False, True, False):
                request = ann.request(echo("x"), line, chunked=chunked)
                request = request.replace(b"X-Internal-Token: " + ann.token.encode() + b"\r\n", b"")
                answers.append(wire.say(request.replace(b"/v1/internal/run", path)).hear())
            assert answers[0].status == 200
            same(answers[0], answers[1])
            same(answers[1], answers[2])
