"""Frames of the compatible stream are one line each, whatever their readers take for the end of one."""

import json

import httpx
import pytest

from gateway_server.api import publishing, sse
from gateway_server.calls import events


@pytest.mark.parametrize("mark", ["\n", "\r", "\u0085", "\u2028", "\u2029", "é\u2028", "\\"])
def test_a_frame_is_one_line_to_every_reader(mark: str) -> None:
    event = {"type": "content", "data": f"a{mark}b"}
    for frame in (sse.frame(json.dumps(event, ensure_ascii=False).encode()), publishing._frame(event)):
        line, *rest = httpx.Response(200, content=frame).iter_lines()
        assert not any(rest)
        assert json.loads(line.removeprefix("data: ")) == event


@pytest.mark.parametrize("mark", ["\u0085", "\u2028", "\u2029"])
def test_what_a_job_says_of_a_failure_is_one_line_to_every_reader(mark: str) -> None:
    told = {"error_code": "PREFAB_ERROR", "message": f"a{mark}b"}
    for text in (events.error(told, "job", {}), events.retried(told, 1, "2026-01-01T00:00:00Z")):
        assert len(text.decode().splitlines()) == 1
        assert json.loads(text)["data"] == told["message"]
