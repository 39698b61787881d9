"""Events as the compatible stream writes them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway_server.calls.pipeline import Outcome

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def frame(json: bytes) -> bytes:
    """One event, given as JSON text, as one frame of one line."""
    if b"\n" in json or b"\r" in json:
        json = json.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"data: " + json + b"\n\n"


def start(job_id: str) -> bytes:
    """The first event of every stream."""
    return frame(orjson.dumps({"type": "start", "data": {"job_id": job_id}}))


def end(outcome: Outcome) -> bytes:
    """The terminal event of a call."""
    if outcome.result is None:
        return error(outcome.told_error(), outcome.job_id, outcome.files)
    files = orjson.dumps(outcome.files)
    data = outcome.result if outcome.streamed else outcome.envelope()
    return frame(b'{"type":"done","data":' + data + b',"files":' + files + b"}")


def error(told: Mapping[str, Any], job_id: str, files: Mapping[str, Sequence[str]]) -> bytes:
    """A terminal event of type error: text for people in `data`, the rest beside it."""
    told = dict(told)
    message, code = told.pop("message", "The call failed."), told.pop("error_code", "PREFAB_ERROR")
    event = {"type": "error", "data": message, "error_code": code, "job_id": job_id, "files": files, "error": told}
    return frame(orjson.dumps(event, default=str))
