"""A mistake of ours is an answer of the one form, too."""

import asyncio
import json
import logging
from typing import Any

import pytest

from gateway_server.api import faults
from gateway_server.api.asgi import Receive, Send
from gateway_server.errors import GatewayFault, Invalid, Overloaded, Problem, ServiceUnavailable, from_detail

SCOPE = {"type": "http", "method": "POST", "path": "/v1/run"}


async def receive() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def answers(application: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(faults.guard(application, SCOPE, receive, send))
    return sent


def test_a_mistake_is_told_in_the_log_and_answered_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(_scope: dict[str, Any], _receive: Receive, _send: Send) -> None:
        raise RuntimeError("the database has no table called so")

    with caplog.at_level(logging.ERROR):
        head, body = answers(breaks)
    assert head["status"] == 500
    assert (b"content-type", b"application/json") in head["headers"]
    assert json.loads(body["body"])["detail"]["error_code"] == "INTERNAL_SERVER_ERROR"
    assert b"table" not in body["body"]
    assert "no table called so" in caplog.text


def test_an_answer_that_has_begun_is_cut() -> None:
    async def breaks(_scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        answers(breaks)


def test_an_answer_without_a_mistake_passes() -> None:
    async def answers_once(_scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    assert [message["status"] for message in answers(answers_once)] == [204]


def test_what_a_request_said_is_repeated_whatever_it_was() -> None:
    half = "\ud800"
    _, _, body = faults.answer(Invalid("No such name.", [Problem(f"/settings/{half}", "is none")]))
    assert json.loads(body)["detail"]["errors"][0]["pointer"] == f"/settings/{half}"


@pytest.mark.parametrize("kind", [ServiceUnavailable, Overloaded])
def test_whoever_is_refused_for_the_moment_is_told_when_to_come_back(kind: type[GatewayFault]) -> None:
    for fault in (kind("not now"), from_detail(kind("not now").detail())):
        assert int(dict(faults.answer(fault)[1])[b"retry-after"]) >= 1
    assert dict(faults.answer(kind("not now", retry_after=30))[1])[b"retry-after"] == b"30"
