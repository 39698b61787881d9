"""What the web framework reads whole is bounded, before anybody has said who they are."""

import httpx
import pytest
from gateways import Gateway
from wire import Wire

from gateway_server.api.bodies import LONGEST

HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("path", ["/v1/secrets", "/v1/keys", "/internal/files/generate_upload_url"])
def test_no_more_is_held_of_a_body_than_it_may_have(gateway: Gateway, path: str) -> None:
    piece = b"a" * (1 << 16)
    pieces = (piece for _ in range(LONGEST // len(piece) + 2))
    answer = httpx.post(gateway.url + path, content=pieces, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("body", [b"{", b"{}", b"\xff", b"[" * 10_000, b"1" * 5_000])
def test_who_calls_is_asked_before_what_is_wrong(gateway: Gateway, body: bytes) -> None:
    answers = [
        httpx.post(gateway.url + "/v1/secrets", content=body, headers={"content-type": "application/json", **proof})
        for proof in ({}, {"x-api-key": gateway.admin_key})
    ]
    assert [answer.json()["detail"]["error_code"] for answer in answers] == ["UNAUTHENTICATED", "VALIDATION_ERROR"]


def test_a_body_that_stops_is_given_up(gateway: Gateway) -> None:
    with Wire(gateway) as wire:
        answer = wire.say(HEAD % b"/v1/secrets", b"Content-Length: 100\r\n\r\n{").hear()
    assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")


def test_a_body_that_comes_in_pieces_is_taken(gateway: Gateway) -> None:
    body = b'{"prefab_id": "any-prefab", "secret_name": "A", "secret_value": "b"}'
    head = HEAD % b"/v1/secrets" + b"X-API-Key: %b\r\nContent-Length: %d\r\n\r\n"
    with Wire(gateway) as wire:
        wire.say(head % (gateway.admin_key.encode(), len(body)), body[:9], body[9:])
        assert wire.head()[0] == 204


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain"])
def test_a_body_that_is_not_said_to_be_json_is_refused_with_the_cause(gateway: Gateway, kind: str | None) -> None:
    wish = {"content": b'{"user": "ann"}', "headers": {} if kind is None else {"content-type": kind}}
    for method, path in (("POST", "/v1/tokens"), ("PATCH", "/v1/prefabs/a/1.0.0")):
        answer = gateway.request(method, path, **wish)
        cause = "The body was not read as JSON: send it with Content-Type: application/json."
        assert answer.status_code == 422
        assert answer.json()["detail"]["message"] == cause
        assert answer.json()["detail"]["errors"] == [{"pointer": "/body", "message": cause}]
    assert gateway.request("POST", "/v1/secrets", key="sk-none", **wish).status_code == 401
