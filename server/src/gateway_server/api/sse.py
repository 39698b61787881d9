"""Events as the compatible stream writes them. Pure."""

import orjson

from gateway_server.calls import events
from gateway_server.calls.outcomes import Outcome

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def frame(json: bytes) -> bytes:
    """One event, given as JSON text, as one frame of one line."""
    return b"data: " + events.one_line(json) + b"\n\n"


def text(frame: bytes) -> bytes:
    """The JSON text of a frame."""
    return frame[len(b"data: ") : -len(b"\n\n")]


def start(job_id: str) -> bytes:
    """The first event of every stream, as JSON text."""
    return orjson.dumps({"type": "start", "data": {"job_id": job_id}})


def end(outcome: Outcome) -> bytes:
    """The terminal event of a call, as JSON text."""
    if outcome.result is None:
        return events.error(outcome.told_error(), outcome.job_id, outcome.files)
    files = orjson.dumps(outcome.files)
    data = outcome.result if outcome.streamed else outcome.envelope
    return events.one_line(b'{"type":"done","data":' + data + b',"files":' + files + b"}")
