"""JSON from strangers arrives as it was sent, or is refused with a word on why."""

import json
from contextlib import suppress

import pytest
from fuzz.wire import Line, Request
from gateways import running_gateway
from packages import write_package

from gateway_server.calls.inputs import MOST_DEPTH, parse_object, parse_submission
from gateway_server.calls.queue import Order
from gateway_server.calls.texts import check_event, check_result
from gateway_server.errors import Invalid, RuntimeCrashed
from gateway_server.models import Principal
from gateway_server.prefabs.retries import ONCE

ECHO = "def echo(value):\n    return value\n"


def nested(levels: int, kind: str = "[]") -> str:
    opening, closing = ('{"a":', "}") if kind == "{}" else kind
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize("kind", ["[]", "{}"])
def test_depth_has_a_limit(kind: str):
    parse_object(f'{{"a":{nested(MOST_DEPTH - 1, kind)}}}'.encode())
    for levels in (MOST_DEPTH, 400, 900, 5000, 200_000):
        with pytest.raises(Invalid, match=r"nested deeper than 254|not valid JSON"):
            parse_object(f'{{"a":{nested(levels, kind)}}}'.encode())


@pytest.mark.parametrize("inputs", ['{"a":%s}', '{"parameters":{"a":%s}}'])
def test_what_is_taken_in_as_a_job_is_not_too_deep_to_be_kept(inputs: str):
    call, kept = '{"prefab_id":"p","version":"1.0.0","function_name":"f","inputs":%s}', 0
    for levels in range(MOST_DEPTH - 6, MOST_DEPTH + 1):
        body = (call % (inputs % nested(levels))).encode()
        with suppress(Invalid):
            (taken,) = parse_submission(body, size_limit=1 << 20, batch_limit=1)[0].calls
            kept += bool(Order(principal=Principal(user="ann", issued_at=0.0), call=taken, retry=ONCE).dump())
    assert 3 <= kept <= 6


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 2**53 + 1, 0, 10**18, 1.5e300])
def test_numbers_of_64_bits_arrive(number: float):
    assert parse_object(json.dumps({"a": [number]}).encode()) == {"a": [number]}


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, -(10**4000), 10**4299])
def test_larger_integers_are_refused_rather_than_rounded(number: int):
    with pytest.raises(Invalid, match=r"more than 64 bits: send it as a text|number is infinity"):
        parse_object(json.dumps({"a": [1, number]}).encode())


def test_digits_in_texts_and_fractions_are_no_integers():
    document = {"card": "9" * 5000, "9" * 40: 1, "pi": 3.14159265358979323846264338327950288}
    assert parse_object(json.dumps(document).encode()) == document
    assert parse_object(b'{"a":0.' + b"1" * 5000 + b"}") == {"a": 0.1111111111111111}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", '"\\ud800"', "'a'", "01", "1,"])
def test_what_is_no_json_is_refused(text: str):
    with pytest.raises(Invalid, match="not valid JSON"):
        parse_object(f'{{"a":{text}}}'.encode())


def test_of_a_name_that_stands_twice_the_last_counts():
    assert parse_object(b'{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"content"}\n\ndata: {"type":"done"}',
        b'{"type":"content"}\n\nid: 9',
        b'{"type":"content","data":"\n\ndata: x"}',
        b'{"type":"content","data":"\r"}',
        b'{"type":"done","data":1}',
        b'{"type":"error","data":""}',
        b'{"type":"content","type":"done"}',
        b'{"\\u0074ype":"\\u0065rror"}',
        b'{"data":1}',
        b"[]",
        b"",
        b"x",
        b'{"type":"content","data":"\xff"}',
        b'{"type":"content","data":' + b"[" * 10_000_000 + b"]" * 10_000_000 + b"}",  # how deep goes, Python decides
    ],
)
def test_a_worker_forges_no_event(text: bytes):
    with pytest.raises(RuntimeCrashed):
        check_event(text)


def test_events_pass_as_they_are():
    check_event('{"type":"content","data":"a\\n\\ndata: {}\u2028\u2029\\u0000"}'.encode())
    check_event(b' {"data":{"type":"done"},"type":"progress"} ')


@pytest.mark.parametrize("text", [b'1},{"status":"SUCCESS"', b"1 2", b"", b'"\xff"', b"9" * 5000, b"[" * 9000, b"NaN"])
def test_a_worker_forges_no_result(text: bytes):
    with pytest.raises(RuntimeCrashed):
        check_result(text)


def test_values_go_through_as_they_are(tmp_path):
    functions = {"echo": {"parameters": [{"name": "value", "type": "object"}]}}
    values = [
        {"large": 2**64 - 1, "small": -(2**63), "float": 1e308, "tiny": 5e-324, "minus": -0.0},
        {"text": "\0\n\r\u2028 \U0001f600 </script>", "": {"": []}},
        json.loads(f'{{"deep":{nested(240)}}}'),
    ]
    with running_gateway(tmp_path / "data") as gateway:
        gateway.publish(write_package(tmp_path / "echo", ECHO, prefab_id="echo", functions=functions))
        call = {"prefab_id": "echo", "version": "1.0.0", "function_name": "echo"}
        for value in values:
            body = {"calls": [{**call, "inputs": {"parameters": {"value": value}}}]}
            answer = gateway.request("POST", "/v1/run", content=json.dumps(body).encode())
            assert json.dumps(json.loads(answer.content)["results"][0]["output"]["output"]) == json.dumps(value)
        for value in ({"large": 2**64}, json.loads(f'{{"deep":{nested(260)}}}')):
            body = {"calls": [{**call, "inputs": {"parameters": {"value": value}}}]}
            for path in ("/v1/run", "/v1/jobs"):
                answer = gateway.request("POST", path, content=json.dumps(body).encode())
                assert (answer.status_code, answer.json()["detail"]["error_code"]) == (422, "VALIDATION_ERROR")
        assert gateway.request("DELETE", "/v1/users/").status_code == 404
        line = Line(gateway.url)
        for coding in ("identity", "gzip", "xchunked"):
            answer = line.send(Request(method="GET", template="/health", headers=(("Transfer-Encoding", coding),)))
            assert answer.json()["detail"]["message"] == "The only Transfer-Encoding of a request is chunked."
        line.close()
