"""The parts without sockets: events, HTTP, errors, models."""

from __future__ import annotations

import copy
import json
import pickle
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway_sdk.exceptions
from gateway_sdk import BatchResult, CallStatus, GatewayError, PrefabCall, PrefabResult, StoredFile, StreamEvent
from gateway_sdk._failures import BY_CODE, backoff, error_from_reply, retry_delay
from gateway_sdk._http1 import MAX_HEAD_BYTES, ProtocolError, Response, request_head
from gateway_sdk._local_file import safe_name
from gateway_sdk._request import origin_and_target, split_address
from gateway_sdk._sse import EventDecoder
from gateway_sdk._wire import duration, multipart, parse_time, path, token_expiry
from gateway_sdk.exceptions import (
    ConflictError,
    InternalServerError,
    PrefabNotFoundError,
    QuotaExceededError,
    ServiceUnavailableError,
    ValidationError,
)
from gateway_sdk.models import name_in_url
from gateway_server.api.asking import parse_duration

cuts = st.lists(st.integers(0, 400), max_size=12)


def pieces(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# --- events ---


@given(cuts, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.text(max_size=10), min_size=1, max_size=5))
def test_events_do_not_depend_on_how_bytes_were_cut(places, end, texts):
    frames = [f"id: 7{end}: note{end}data: {json.dumps({'type': 'content', 'data': text})}{end}{end}" for text in texts]
    data = "".join([*frames, ": end", end]).encode()
    decoder = EventDecoder()
    events = [event for piece in pieces(data, places) for event in decoder.feed(piece)]
    assert [event.data for event in events] == texts


@given(st.binary(max_size=300), cuts)
def test_any_bytes_give_events_or_our_error(data, places):
    decoder = EventDecoder()
    try:
        for piece in pieces(b"data: " + data, places):
            decoder.feed(piece)
    except InternalServerError:
        pass


def test_a_line_that_ended_with_the_piece_before_counts_at_once():
    decoder = EventDecoder()
    assert decoder.feed(b'data: {"type":"content","data":1}\n\r') == []
    assert decoder.feed(b": a comment") == [StreamEvent("content", 1)]


def test_an_event_in_several_data_lines():
    assert EventDecoder().feed(b'data:{"type":\ndata: "progress"}\n\n') == [StreamEvent("progress")]


def test_an_error_says_what_else_is_known_of_it():
    frame = b'data: {"type":"error","data":"\'x\'","error_code":"PREFAB_ERROR","error":{"type":"KeyError"}}\n\n'
    (event,) = EventDecoder().feed(frame)
    assert (event.data, event.error_code, event.error) == ("'x'", "PREFAB_ERROR", {"type": "KeyError"})
    assert StreamEvent("done").error == {}


# --- HTTP ---


def read(data: bytes, places: list[int], method: str = "GET") -> tuple[Response, bytes]:
    response = Response(method)
    body = b"".join(response.feed(piece) for piece in pieces(data, places) if piece)
    return response, body


@given(cuts, st.lists(st.binary(min_size=1, max_size=80), max_size=5), st.booleans())
def test_chunked_bodies_however_they_are_cut(places, chunks, extension):
    note = b";a=b" if extension else b""
    frames = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), note, chunk) for chunk in chunks)
    head = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:  2 \r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    response, body = read(head + frames + b"0\r\nTrailer: x\r\n\r\n", places)
    assert body == b"".join(chunks)
    assert (response.status, response.done, response.reusable) == (200, True, True)
    assert response.headers["x-a"] == "1, 2"
    assert "link" not in response.headers


@given(cuts, st.binary(max_size=200), st.binary(max_size=3))
def test_bodies_with_a_length_however_they_are_cut(places, content, rest):
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(content)
    response, body = read(head + content + rest, places)
    assert body == content
    assert response.done
    assert response.reusable == (not rest)


@given(st.binary(max_size=200), cuts)
def test_any_bytes_are_an_answer_or_a_protocol_error(data, places):
    for head in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with suppress(ProtocolError):
            read(head + data, places)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1",
        "HTTP/1.1 200 OK\r\nContent-Length: ²".encode("latin-1"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nBad Header : x",
        b"HTTP/1.1 200 OK\r\n folded",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 101 Switching Protocols",
        b"HTTP/2 200",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 999 OK",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES,
    ],
)
def test_answers_that_are_refused(head):
    with pytest.raises(ProtocolError):
        read(head + b"\r\n\r\n", [])


@pytest.mark.parametrize(
    "chunk", [b"x\r\n", b"-1\r\n", b"0x5\r\n", b"\r\n", b"5\r\nhelloXX", b"f" * 16 + b"\r\n", b"1" * 5000]
)
def test_chunks_that_are_refused(chunk):
    with pytest.raises(ProtocolError):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, [])


def test_ends_of_bodies():
    response, body = read(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", [])
    assert not response.done
    response.end()
    assert (body, response.done, response.reusable) == (b"until the end", True, False)
    for data in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"):
        with pytest.raises(ProtocolError):
            read(data, [])[0].end()
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", [], "HEAD")[0].done
    assert read(b"HTTP/1.1 204 No Content\r\n\r\n", [])[0].done
    assert not read(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", [])[0].reusable
    assert not read(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", [])[0].reusable


def test_request_heads():
    assert request_head("GET", "/a", "h", {"X": "1"}, None) == b"GET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n"
    for bad in ("1\r\nY: 2", "1\n", "1\r", "1\0"):
        with pytest.raises(ValueError, match="line break"):
            request_head("GET", "/a", "h", {"X": bad}, None)
    with pytest.raises(ValueError):
        request_head("GET", "/a", "h", {"X": "你"}, None)


def test_addresses():
    assert split_address("http://[::1]:81")[:3] == ("http", "::1", 81)
    assert split_address("https://h")[:3] == ("https", "h", 443)
    assert split_address("http://bücher.example").header == "xn--bcher-kva.example"
    assert origin_and_target("http://h?a=/b")[1] == "/?a=/b"
    assert origin_and_target("http://h/x?a=1#f")[1] == "/x?a=1"
    assert origin_and_target("http://h")[1] == "/"


# --- errors ---

KINDS = [
    kind for kind in vars(gateway_sdk.exceptions).values() if isinstance(kind, type) and issubclass(kind, GatewayError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling_and_copying(kind):
    error = kind("what", error_code="X", status_code=400, details={"used": 3, "errors": []}, job_id="j")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error) == "what (job j)"
        assert (twin.error_code, twin.status_code, twin.details, twin.job_id) == ("X", 400, error.details, "j")
        assert twin.args == ("what",)
    assert str(kind())


def test_the_error_tree_at_the_top_is_complete():
    assert sorted(gateway_sdk.exceptions.__all__) == gateway_sdk.exceptions.__all__
    for kind in KINDS:
        assert f" {kind.__name__} " in gateway_sdk.exceptions.__doc__.replace("\n", " ") + " "
        assert kind.__name__ in gateway_sdk.exceptions.__all__


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_codes(code):
    body = json.dumps({"detail": {"error_code": code, "message": "m", "prefab_id": "p", "version": "1"}}).encode()
    error = error_from_reply(400, {"x-job-id": "j", "retry-after": "3"}, body, "GET /x")
    assert type(error) is BY_CODE[code]
    assert (error.error_code, error.message, error.job_id) == (code, "m", "j")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, PrefabNotFoundError),
        (409, ConflictError),
        (418, GatewayError),
        (422, ValidationError),
        (429, QuotaExceededError),
        (500, InternalServerError),
        (503, ServiceUnavailableError),
        (599, ServiceUnavailableError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"null", b'{"detail": 3}', b'{"detail": {}}', b'{"detail": []}'])
def test_bodies_of_strangers(status, kind, body):
    error = error_from_reply(status, {}, body, "GET http://h/x")
    assert type(error) is kind
    assert str(error)


def test_details_are_fields():
    detail = {
        "error_code": "QUOTA_EXCEEDED",
        "message": "no",
        "used": 5,
        "limit": 5,
        "quota_type": "day",
        "reset_at": "t",
    }
    error = error_from_reply(429, {"retry-after": "7"}, json.dumps({"detail": detail}).encode(), "")
    assert (error.used, error.limit, error.quota_type, error.reset_at, error.retry_after) == (5, 5, "day", "t", 7.0)
    violations = [{"pointer": "/parameters/text", "message": "is required"}]
    error = ValidationError("the arguments do not fit", details={"errors": violations})
    assert str(error) == "the arguments do not fit: /parameters/text: is required"
    assert error.errors == violations
    foreign = json.dumps({"detail": [{"loc": ["body", "calls"], "msg": "Field required"}]}).encode()
    assert "/body/calls: Field required" in str(error_from_reply(422, {}, foreign, ""))


def test_waits():
    assert retry_delay(ServiceUnavailableError(details={"retry_after": 2}), 0) == 2
    assert retry_delay(ServiceUnavailableError(details={"retry_after": 300}), 0) is None
    assert retry_delay(QuotaExceededError(details={"retry_after": 5}), 0) == 5
    assert retry_delay(InternalServerError(), 0) is None
    assert 0.05 <= backoff(0) <= 0.1
    assert 2.5 <= backoff(30) <= 5


# --- models ---


@pytest.mark.parametrize(
    "value", [None, 3, "text", [], {"success": False, "error": "e", "error_code": "E", "message": "m"}]
)
def test_results_of_all_shapes(value):
    result = PrefabResult(CallStatus.SUCCESS, {"status": "SUCCESS", "output": value, "files": {}})
    assert result.get_result() == value
    assert result.get_function_result() == ({} if value is None else value)
    is_dict = isinstance(value, dict)
    assert result.get_business_success() is not is_dict
    assert result.get_business_message() == ("m" if is_dict else None)
    assert result.get_business_error() == ("e" if is_dict else None)
    assert result.get_business_error_code() == ("E" if is_dict else None)
    assert result.get("x", 1) == 1


@pytest.mark.parametrize("output", [None, "x", {}, {"files": None}, {"files": []}])
def test_files_are_always_a_dict(output):
    result = PrefabResult(CallStatus.SUCCESS, output)
    assert result.get_files() == {}
    assert result.get_file_urls() == []


def test_values():
    result = PrefabResult(CallStatus.SUCCESS, {"files": {"a": ["s3://1", "s3://2"], "b": ["s3://3"]}})
    assert result.get_file_urls() == ["s3://1", "s3://2", "s3://3"]
    assert result == copy.deepcopy(result) == pickle.loads(pickle.dumps(result))
    assert result != PrefabResult(CallStatus.FAILED)
    assert f"{CallStatus.SUCCESS}" == "SUCCESS"
    assert BatchResult("j", "FAILED", []).all_success()
    call = PrefabCall(prefab_id="a", version="1.0.0", function_name="f", parameters={}, files={"x": ["s3://y"]})
    assert call.to_dict()["inputs"] == {"parameters": {}, "files": {"x": ["s3://y"]}}


def test_stored_files():
    file = StoredFile("s3://b/k/101112131415-a-b.txt", expires_at=datetime(2025, 1, 1, tzinfo=UTC))
    assert file == "s3://b/k/101112131415-a-b.txt"
    assert {file: 1}["s3://b/k/101112131415-a-b.txt"] == 1
    assert json.dumps(file) == '"s3://b/k/101112131415-a-b.txt"'
    assert file.filename == "a-b.txt"
    assert copy.deepcopy(file).expires_at == file.expires_at
    assert name_in_url("s3://b/k/my-report.pdf") == "my-report.pdf"
    assert name_in_url("s3://b/prefab-outputs/u/2025/11/07/j/20251107-sales.csv") == "20251107-sales.csv"


def test_small_things():
    assert parse_time("2025-01-01T00:00:00Z") == datetime(2025, 1, 1, tzinfo=UTC)
    assert parse_time("soon") is None
    assert token_expiry("a.eyJleHAiOjEyM30.c") == 123
    assert token_expiry("opaque") is None
    assert token_expiry("a.b.c") is None
    with pytest.raises(ValidationError):
        multipart({}, "x", "text/plain\r\nX: 1")
    assert b'filename="a%0D%0A.txt"' in multipart({}, "a\r\n.txt", None)[1]


@given(st.text(), st.text())
def test_queries_are_what_the_standard_library_reads(prefix, token):
    asked = path("/list", limit=5, prefix=prefix, session_id=None, continuation_token=token)
    clean = [text.encode("utf-8", "replace").decode() for text in (prefix, token)]
    expected = [("limit", "5"), ("prefix", clean[0]), ("continuation_token", clean[1])]
    assert asked.isascii()
    assert parse_qsl(urlsplit(f"http://h{asked}").query, keep_blank_values=True) == expected


@given(st.text())
def test_safe_names_are_names(name):
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\\0\n"')
    assert len(safe.encode("utf-8", "replace")) <= 200


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0001, "1ms"), (0.5, "500ms"), (999_999.999, "999999999ms"), (1_000_000, "1000000s"), (1e12, "999999999s")],
)
def test_every_time_is_told_as_a_gateway_reads_it(seconds, told):
    assert duration(seconds) == told
    assert parse_duration(told) is not None
