"""Secrets with values that can be found anywhere, looked for in every place that they must not reach."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package

MARK = 'mark-8f3a1c/+ "of a\nsecret" é'
"""With everything that JSON, Python and URLs write in another way."""
OTHER = "mark-of-another-prefab-77aa"
PIECE = "8f3a1c"
SOURCE = """
import json
import os
import sys
import time
from urllib.parse import quote

SEEN_AT_IMPORT = {name: value for name, value in os.environ.items() if "mark-" in value}

def value():
    return os.environ["API_KEY"]

def backwards():
    return value()[::-1]

def quiet():
    time.sleep(1.5)

def logs():
    print(value(), repr(value()), json.dumps(value()), quote(value()), [value()], file=sys.stderr)
    os.write(1, value().encode())

def raises():
    raise ValueError(f"the service said no to {value()} / {value()!r}")

def chained():
    try:
        raises()
    except ValueError as error:
        raise RuntimeError({"key": value()}) from error

def streams():
    yield {"type": "progress", "data": 1}
    yield {"type": "error", "data": f"refused {value()}", "error_code": "E"}

def stream_raises():
    yield {"type": "progress", "data": 1}
    raise ValueError(value())

def crashes():
    os.write(2, value().encode())
    os._exit(3)

def named():
    raise type(value(), (Exception,), {})("words")

def undeclared():
    return [SEEN_AT_IMPORT, {name: text for name, text in os.environ.items() if "mark-" in text}]
"""
NAMES = re.findall(r"^def (\w+)\(", SOURCE, re.MULTILINE)
FAILING = ("raises", "chained", "streams", "stream_raises", "crashes", "named")
SECRET = {"name": "API_KEY", "description": "of a service", "instructions": "Ask at the desk.", "required": True}
FUNCTIONS = {name: {"secrets": [SECRET]} for name in NAMES if name != "undeclared"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("marks")
    with running_gateway(folder / "data") as started:
        for prefab_id, value in (("leaky", MARK), ("other", OTHER)):
            source = write_package(folder / prefab_id, SOURCE, prefab_id=prefab_id, functions=FUNCTIONS)
            started.publish(source)
            wanted = {"prefab_id": prefab_id, "secret_name": "API_KEY", "secret_value": value, "user": "ann"}
            assert started.request("POST", "/v1/secrets", json=wanted).status_code == 204
        yield started


@pytest.fixture(scope="module")
def token(gateway: Gateway) -> str:
    return gateway.token("ann", "helper")


def send(gateway: Gateway, token: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {"X-Internal-Token": token, **options.pop("headers", {})}
    return gateway.request(method, path, headers=headers, **options)


def call(function: str, **more: Any) -> dict[str, Any]:
    inputs = {"parameters": more.pop("parameters", {})}
    return {"prefab_id": "leaky", "version": "1.0.0", "function_name": function, "inputs": inputs, **more}


def is_clean(text: str) -> bool:
    return PIECE not in text and OTHER not in text


def assert_job_is_clean(gateway: Gateway, token: str, job_id: str) -> str:
    """Whatever can be asked of a job; gives its log."""
    until(lambda: send(gateway, token, "GET", f"/v1/jobs/{job_id}").json()["ended_at"], 30, "the job's end")
    for part in ("", "/result", "/events", "/logs"):
        answer = send(gateway, token, "GET", f"/v1/jobs/{job_id}{part}")
        assert is_clean(answer.text), f"{part}: {answer.text}"
    return answer.text


def test_a_log_shows_stars_in_every_spelling(gateway: Gateway, token: str) -> None:
    ran = send(gateway, token, "POST", "/v1/run", json={"calls": [call("logs")]}).json()
    assert ran["status"] == "COMPLETED"
    log = assert_job_is_clean(gateway, token, ran["job_id"])
    assert log.count("***") == 6


@pytest.mark.parametrize("function", FAILING)
@pytest.mark.parametrize("how", ["plain", "streamed", "in a batch", "submitted", "submitted in a batch"])
def test_a_failure_tells_no_secret(gateway: Gateway, token: str, function: str, how: str) -> None:
    retry = {"retry": {"attempts": 2, "delay": 0}}
    path, body = {
        "plain": ("/v1/run", {"calls": [call(function)], "stream": False}),
        "streamed": ("/v1/run", {"calls": [call(function)], "stream": True}),
        "in a batch": ("/v1/run", {"calls": [call(function)] * 2}),
        "submitted": ("/v1/jobs", call(function, **retry)),
        "submitted in a batch": ("/v1/jobs", {"calls": [call(function)] * 2, **retry}),
    }[how]
    answer = send(gateway, token, "POST", path, json=body)
    assert is_clean(answer.text), answer.text
    job_id = answer.headers.get("x-job-id") or re.findall(r'"job_id":\s*"([^"]+)"', answer.text)[-1]
    log = assert_job_is_clean(gateway, token, job_id)
    job = send(gateway, token, "GET", f"/v1/jobs/{job_id}").json()
    assert job["status"] == "failed"
    told = json.dumps([job["error"], job["children"], answer.text]) + log
    assert "***" in told, told


def test_a_refusal_does_not_repeat_it(gateway: Gateway, token: str) -> None:
    wanted = {"prefab_id": "leaky", "secret_name": "lower", "secret_value": MARK}
    answer = send(gateway, token, "POST", "/v1/secrets", json=wanted)
    assert answer.status_code == 422
    assert is_clean(answer.text)
    answer = send(gateway, token, "POST", "/v1/secrets", json={"prefab_id": "leaky", "secret_value": MARK})
    assert answer.status_code == 422
    assert is_clean(answer.text), answer.text
    answer = send(gateway, token, "POST", "/v1/secrets", json={**wanted, "secret_value": [MARK]})
    assert answer.status_code == 422
    assert is_clean(answer.text), answer.text


def test_only_the_function_that_declares_it_has_it(gateway: Gateway, token: str) -> None:
    ran = send(gateway, token, "POST", "/v1/run", json={"calls": [call("undeclared")]}).json()
    assert ran["results"][0]["output"]["output"] == [{}, {}]
    ran = send(gateway, token, "POST", "/v1/run", json={"calls": [call("backwards")]}).json()
    assert ran["results"][0]["output"]["output"] == MARK[::-1]


def test_processes_do_not_show_it(gateway: Gateway, token: str) -> None:
    """The command lines and first environments of every process of the gateway, while a call has the secret."""
    job = send(gateway, token, "POST", "/v1/jobs", json=call("quiet")).json()["job_id"]
    until(lambda: send(gateway, token, "GET", f"/v1/jobs/{job}").json()["status"] == "running", 30, "the start")
    master = (gateway.data / "master.key").read_text().strip().encode()
    admin = gateway.admin_key.encode()
    seen = 0
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        for pid in (gateway.pid, *gateway.workers()):
            for name in ("cmdline", "environ"):
                try:
                    shown = Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:  # it ended
                    continue
                seen += 1
                for secret in (PIECE.encode(), OTHER.encode(), master, admin):
                    assert secret not in shown, f"{name} of {pid}"
    assert seen > 4
    assert_job_is_clean(gateway, token, job)


def test_nothing_in_the_folder_or_the_log_holds_it(gateway: Gateway, token: str) -> None:
    """Runs last: database, write-ahead log, objects, code, workspaces, and what the gateway said."""
    for function in ("logs", *FAILING):
        send(gateway, token, "POST", "/v1/run", json={"calls": [call(function)]}, headers={"Idempotency-Key": function})
        job = send(gateway, token, "POST", "/v1/jobs", json=call(function)).json()["job_id"]
        assert_job_is_clean(gateway, token, job)
    database = Path(gateway.data / "gateway.db").read_bytes() + Path(gateway.data / "gateway.db-wal").read_bytes()
    assert b"leaky" in database, "this would find what stands there in clear"
    spellings = {PIECE.encode(), OTHER.encode(), quote(MARK).encode()}
    for path in gateway.data.rglob("*"):
        if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
            continue
        content = path.read_bytes()
        assert not [text for text in spellings if text in content], path
    assert is_clean(gateway.log())
