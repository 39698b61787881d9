"""Every operation of /openapi.json keeps to its description, whatever is sent to it. `make fuzz` is the long form."""

import os
import random
from dataclasses import replace
from pathlib import Path

from fuzz.campaign import fuzz
from fuzz.judge import Judge
from fuzz.mutations import mutate
from fuzz.operations import MAKERS
from fuzz.wire import Answer, Request

from gateway_server.app import create_app
from gateway_server.settings import Settings

REQUESTS = int(os.environ.get("GATEWAY_TEST_FUZZ_REQUESTS", "500"))
ENOUGH = 30
"""Requests to one operation from which on the share of its successes says something."""


def test_every_operation_is_fuzzed(tmp_path: Path):
    paths = create_app(Settings(data=tmp_path)).web.openapi()["paths"]
    assert {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations} == set(MAKERS)


def test_no_request_makes_the_gateway_break_its_word(tmp_path: Path):
    seed = random.randrange(1 << 30)
    campaign = fuzz(tmp_path, seed=seed, requests=REQUESTS, callers=2)
    told = "\n".join([f"seed {seed}", *campaign.findings, campaign.table()])
    assert not campaign.findings, told
    assert sum(tally.requests for tally in campaign.tallies.values()) == REQUESTS, told
    poor = [name for name, tally in campaign.tallies.items() if tally.requests >= ENOUGH and tally.share < 0.2]
    assert not poor, told


def test_what_breaks_its_word_is_found(tmp_path: Path):
    judge = Judge(create_app(Settings(data=tmp_path)).web.openapi())
    health = Request(method="GET", template="/health")
    run = Request(method="POST", template="/v1/internal/run")
    json = {"content-type": "application/json"}
    events = {"content-type": "text/event-stream; charset=utf-8"}
    error = b'{"detail":{"error_code":"NOT_FOUND","message":"no"}}'
    result = Request(method="GET", template="/v1/jobs/{job_id}/result", parts={"job_id": "j"})
    nothing, slash = (replace(result, parts={"job_id": part}) for part in ("", "a%2Fb"))
    other = error.replace(b"NOT_FOUND", b"METHOD_NOT_ALLOWED")  # as DELETE takes whatever is below /v1/jobs/
    good = [
        (nothing, 405, {**json, "allow": "DELETE"}, other),
        (slash, 405, {**json, "allow": "DELETE"}, other),
        (health, 200, json, b'{"status":"ok","version":"1"}'),
        (run, 404, json, error),
        (run, 200, events, b'data: {"type":"start"}\n\n: keep-alive\n\ndata: {"type":"done"}\n\n'),
    ]
    bad = [
        (result, 405, {**json, "allow": "DELETE"}, other),
        (slash, 405, json, other),
        (health, 500, json, b'{"detail":{"error_code":"INTERNAL_SERVER_ERROR","message":"no"}}'),
        (health, 200, json, b'{"status":1}'),
        (health, 200, {"content-type": "text/html"}, b"<p>"),
        (health, 201, json, b"{}"),
        (run, 503, json, b'{"detail":"busy"}'),
        (run, 503, {"content-type": "text/plain"}, b"busy"),
        (run, 404, json, error.replace(b"NOT_FOUND", b"WHATEVER")),
        (run, 200, json, b'{"job_id":"1"}'),
        (run, 200, events, b'data: {"type":"start"}\n\n'),
        (run, 200, events, b'data: {"type":"done"}\n\ndata: {"type":"done"}\n\n'),
        (run, 200, events, b'data: {"type":"done"}\n\ndata: x\n\n'),
        (run, 200, events, b'data: {"type":"done"}\n'),
    ]
    for request, status, headers, body in good:
        assert judge.blame(request, Answer(status=status, headers=headers, body=body)) == []
    for request, status, headers, body in bad:
        assert judge.blame(request, Answer(status=status, headers=headers, body=body)), body


def test_the_same_seed_makes_the_same_requests():
    request = Request(method="POST", template="/v1/jobs/{job_id}", parts={"job_id": "1"}, query=(("a", "b"),))
    request = request.with_json({"a": [1, {"b": None}]}).with_header("X-Internal-Token", "t")

    def several(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [mutate(request, rng).raw("host") for _ in range(200)]

    assert several(1) == several(1) != several(2)
