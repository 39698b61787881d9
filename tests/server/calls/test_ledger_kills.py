"""What was answered is on record, whenever the process is killed."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package

SOURCE = """
import time

def echo(text: str):
    print("said", text)
    return {"text": text}

def tokens(n: int):
    for i in range(n):
        yield {"type": "content", "data": f"t{i} "}

def sleeps(seconds: float):
    time.sleep(seconds)
    return "slept"

def long(size: int):
    return "x" * size

def marks(path: str):
    with open(path, "w"):
        return "marked"
"""


def call(function: str, **parameters: Any) -> dict[str, Any]:
    inputs = {"parameters": parameters}
    return {"prefab_id": "kept", "version": "1.0.0", "function_name": function, "inputs": inputs}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "data", "--sandbox", "off") as started:
        started.publish(write_package(tmp_path / "kept", SOURCE, prefab_id="kept"))
        yield started


class Caller(threading.Thread):
    """Calls one thing after the other until nobody answers any more."""

    def __init__(self, gateway: Gateway, key: str, number: int) -> None:
        super().__init__(daemon=True)
        self._gateway, self._key, self._number = gateway, key, number
        self.answered: dict[str, tuple[str, str]] = {}
        """By job: the key of the request, and what was answered."""
        self.start()

    def run(self) -> None:
        with httpx.Client(timeout=30, trust_env=False, headers={"X-API-Key": self._key}) as client:
            made = 0
            try:
                while True:
                    self._call(client, made)
                    made += 1
            except httpx.HTTPError:
                return

    def _call(self, client: httpx.Client, made: int) -> None:
        text, key = f"{self._number}-{made}", ""
        wanted = (
            call("echo", text=text),
            call("echo", text=text),
            call("sleeps", seconds=0.06),
            call("tokens", n=3),
            call("long", size=300_000),
        )[min(made % 7, 4)]
        body: dict[str, Any] = {"calls": [wanted]}
        headers = {}
        if made % 2:
            key = headers["Idempotency-Key"] = f"key-{text}"
        if wanted["function_name"] == "tokens":
            body["stream"] = True
        answer = client.post(f"{self._gateway.url}/v1/run", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        if wanted["function_name"] == "tokens":
            events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
            assert events[-1]["type"] == "done"
            self.answered[answer.headers["x-job-id"]] = key, json.dumps(body)
        else:
            assert answer.json()["results"][0]["status"] == "SUCCESS"
            self.answered[answer.json()["job_id"]] = key, json.dumps(body)


def charged(gateway: Gateway, user: str) -> int:
    with closing(sqlite3.connect(gateway.data / "gateway.db", timeout=10)) as database:
        return int(database.execute("SELECT count(*) FROM jobs WHERE user = ? AND charged", (user,)).fetchone()[0])


def used(gateway: Gateway, key: str) -> int:
    return int(gateway.request("GET", "/v1/quotas", key=key).json()["used"])


def kill(gateway: Gateway) -> None:
    assert gateway.process
    gateway.process.kill()
    gateway.process.wait()


def test_every_answered_call_is_on_record_after_a_kill(gateway: Gateway) -> None:
    key = gateway.key("ann")
    for life in range(2):
        callers = [Caller(gateway, key, life * 100 + number) for number in range(8)]
        until(lambda: sum(len(caller.answered) for caller in callers) > 150, 60, "progress")
        kill(gateway)
        for caller in callers:
            caller.join(40)
            assert not caller.is_alive()
        gateway.start()
        answered = {job_id: told for caller in callers for job_id, told in caller.answered.items()}
        for job_id in answered:
            job = gateway.request("GET", f"/v1/jobs/{job_id}", key=key).json()
            assert (job["status"], "result" in job) == ("succeeded", True), job
        assert used(gateway, key) == charged(gateway, "ann") >= len(answered)
        again = [(job_id, told) for job_id, told in answered.items() if told[0]][::9]
        for job_id, (request_key, body) in again:
            headers = {"Idempotency-Key": request_key, "Content-Type": "application/json", "X-API-Key": key}
            sent = json.loads(body)
            answer = httpx.post(f"{gateway.url}/v1/run", json=sent, headers=headers, timeout=30, trust_env=False)
            told = answer.headers["x-job-id"] if sent.get("stream") else answer.json()["job_id"]
            assert (answer.status_code, told) == (200, job_id)
            other = httpx.post(
                f"{gateway.url}/v1/run", json=sent | {"other": 1}, headers=headers, timeout=30, trust_env=False
            )
            assert (other.status_code, other.json()["detail"]["error_code"]) == (422, "IDEMPOTENCY_CONFLICT")
        assert used(gateway, key) == charged(gateway, "ann")
    gateway.stop()
    gateway.start()
    assert used(gateway, key) == charged(gateway, "ann")
    assert "Traceback" not in gateway.log()


def test_a_call_that_is_answered_while_the_database_is_held_up_survives_a_kill(gateway: Gateway) -> None:
    key = gateway.key("ann")
    run = {"key": key, "json": {"calls": [call("sleeps", seconds=0.5)]}}
    assert gateway.request("POST", "/v1/run", **run).status_code == 200
    before = used(gateway, key)
    with closing(sqlite3.connect(gateway.data / "gateway.db", timeout=10, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # as a backup or a busy disk might
        answer = gateway.request("POST", "/v1/run", **run)
        assert answer.status_code == 200
        kill(gateway)
        other.execute("ROLLBACK")
    gateway.start()
    job = gateway.request("GET", f"/v1/jobs/{answer.json()['job_id']}", key=key)
    assert (job.status_code, job.json().get("status")) == (200, "succeeded")
    assert used(gateway, key) == before + 1


def test_a_record_is_there_right_after_the_answer(gateway: Gateway) -> None:
    key = gateway.key("ann")
    for number in range(100):
        headers = {"Idempotency-Key": f"now-{number}"} if number % 2 else {}
        body = {"calls": [call("echo", text=str(number))]}
        job_id = gateway.request("POST", "/v1/run", key=key, json=body, headers=headers).json()["job_id"]
        if number % 2:
            again = gateway.request("POST", "/v1/run", key=key, json=body, headers=headers).json()
            assert again["job_id"] == job_id
            other = gateway.request("POST", "/v1/run", key=key, json=body | {"x": 1}, headers=headers)
            assert other.status_code == 422
        job = gateway.request("GET", f"/v1/jobs/{job_id}", key=key).json()
        assert (job["status"], job["result"]["output"]) == ("succeeded", {"text": str(number)})
        assert gateway.request("GET", f"/v1/jobs/{job_id}/logs", key=key).text == f"said {number}\n"
        assert gateway.request("GET", "/v1/jobs?limit=1", key=key).json()["jobs"][0]["id"] == job_id
        assert used(gateway, key) == number + 1


def test_an_erasure_leaves_no_mark_in_the_journal(gateway: Gateway) -> None:
    name = "ann-who-leaves"
    key, other = gateway.key(name), gateway.key("bob")
    journal = gateway.data / "journal"

    def run(whose: str, text: str, **headers: str) -> None:
        body = {"calls": [call("echo", text=text)]}
        gateway.request("POST", "/v1/run", key=whose, json=body, headers=headers).raise_for_status()

    for number in range(50):
        run(key, f"words of ann {number}", **{"Idempotency-Key": str(number)})
        run(other, "words of bob")
    assert name.encode() in journal.read_bytes()
    gateway.request("DELETE", f"/v1/users/{name}").raise_for_status()
    content = journal.read_bytes()
    assert name.encode() not in content
    assert b"words of ann" not in content
    run(other, "words of bob")
    kill(gateway)
    gateway.start()
    content = b"".join(path.read_bytes() for path in gateway.data.glob("*") if path.is_file())
    assert b"words of ann" not in content
    assert used(gateway, other) == charged(gateway, "bob") == 51
    assert charged(gateway, name) == 0


def test_an_erasure_takes_what_a_killed_life_left_in_the_journal(gateway: Gateway) -> None:
    name = "ann-who-leaves"
    key = gateway.key(name)
    body = {"calls": [call("echo", text="words of ann")]}
    for _ in range(20):
        gateway.request("POST", "/v1/run", key=key, json=body).raise_for_status()
    kill(gateway)
    gateway.start()
    assert used(gateway, key) == 20
    gateway.request("DELETE", f"/v1/users/{name}").raise_for_status()
    assert name.encode() not in (gateway.data / "journal").read_bytes()


def test_a_journal_of_another_release_or_of_nobody_does_not_stop_a_start(gateway: Gateway) -> None:
    key = gateway.key("ann")
    body = {"calls": [call("echo", text="x")]}
    gateway.request("POST", "/v1/run", key=key, json=body).raise_for_status()
    for content in (b"\xff" * 100, bytes(16 << 20), b""):
        kill(gateway)
        (gateway.data / "journal").write_bytes(content)
        gateway.start()
        before = time.time()
        gateway.request("POST", "/v1/run", key=key, json=body).raise_for_status()
        assert used(gateway, key) == charged(gateway, "ann")
        assert time.time() - before < 10


def test_a_batch_is_on_record_with_its_calls_after_a_kill(gateway: Gateway, tmp_path: Path) -> None:
    key, mark = gateway.key("ann"), tmp_path / "mark"
    headers = {"Idempotency-Key": "whole"}
    whole = {"calls": [call("echo", text="a"), call("echo", text="b")]}
    answered = gateway.request("POST", "/v1/run", key=key, json=whole, headers=headers).json()
    cut = {"calls": [call("marks", path=str(mark)), call("sleeps", seconds=60)]}
    caller = threading.Thread(target=send_until_cut, args=(gateway, key, cut))
    caller.start()
    until(mark.exists, 20, "the first call of the batch")
    kill(gateway)
    caller.join(20)
    gateway.start()
    job = gateway.request("GET", f"/v1/jobs/{answered['job_id']}", key=key).json()
    assert (job["status"], len(job["children"])) == ("succeeded", 2)
    assert gateway.request("POST", "/v1/run", key=key, json=whole, headers=headers).json() == answered
    listed = gateway.request("GET", "/v1/jobs", key=key).json()["jobs"]
    (left,) = (one for one in listed if one["id"] != answered["job_id"])
    assert left["status"] not in ("queued", "starting", "running"), left
    assert used(gateway, key) == charged(gateway, "ann")
    assert "Traceback" not in gateway.log()


def send_until_cut(gateway: Gateway, key: str, body: dict[str, Any]) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.post(f"{gateway.url}/v1/run", json=body, headers={"X-API-Key": key}, timeout=60, trust_env=False)
