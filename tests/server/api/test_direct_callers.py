"""Runs that the connection answers itself: callers who leave, streams, and the common way beside it."""

import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import Gateway, memory_mb, running_gateway, until
from wire import Answer, Caller, Wire, calls, echo

VOLATILE = re.compile(
    rb'"(job_id|id|reset_at|trace_id)":"[^"]*"|"retry_after":[0-9.]+|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{22}'
)


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


@pytest.mark.parametrize("is_direct", [True, False])
def test_preferences_may_come_in_several_headers(gateway: Gateway, is_direct: bool) -> None:
    headers = [("x-api-key", gateway.admin_key), ("Prefer", "respond-async"), ("Prefer", "handling=lenient")]
    body = echo("a")
    answer = httpx.post(f"{gateway.url}/v1/run", content=body if is_direct else iter([body]), headers=headers)
    assert answer.status_code == 202, answer.text
