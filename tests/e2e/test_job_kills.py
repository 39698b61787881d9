"""Accepted means durable: whatever kills the gateway, each job ends once, its events without gap or repeat."""

import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import Gateway, command_line, descendants, running_gateway, until
from packages import write_package

WORK = """
import os
import subprocess
import time

from gateway_sdk import GatewayClient

def work(n: int, seconds: float = 0.05):
    print("attempt", os.environ["GATEWAY_ATTEMPT"])
    for i in range(3):
        yield {"type": "content", "data": f"{n}.{i}"}
        time.sleep(seconds / 3)

def deep(levels: int, mark: str = "600"):
    subprocess.Popen(["sleep", mark])
    if not levels:
        time.sleep(600)
    with GatewayClient(timeout=600) as client:
        return client.run("work", "1.0.0", "deep", {"levels": levels - 1, "mark": mark}).get_function_result()
"""
JOBS = int(os.environ.get("GATEWAY_TEST_JOBS", "80"))
KILLS = int(os.environ.get("GATEWAY_TEST_KILLS", "5"))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "data") as started:
        started.publish(write_package(tmp_path / "work", WORK, prefab_id="work"))
        yield started


def call(function: str, **parameters: Any) -> dict[str, Any]:
    return {"prefab_id": "work", "version": "1.0.0", "function_name": function, "inputs": {"parameters": parameters}}


def kill(gateway: Gateway) -> None:
    assert gateway.process
    gateway.process.kill()
    gateway.process.wait()


class Reader(threading.Thread):
    """Follows a job's events across whatever happens to the gateway, as the last id that it has seen tells."""

    def __init__(self, gateway: Gateway, key: str, job_id: str) -> None:
        super().__init__(daemon=True)
        self._gateway, self._key, self._job_id = gateway, key, job_id
        self.seen: list[tuple[int, dict[str, Any]]] = []
        self.start()

    @property
    def is_through(self) -> bool:
        return bool(self.seen) and self.seen[-1][1]["type"] in ("done", "error")

    def run(self) -> None:
        while not self.is_through:
            try:
                self._read()
            except httpx.HTTPError:
                time.sleep(0.05)  # the gateway is down; nothing depends on the length

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        if self.seen:
            headers["Last-Event-ID"] = str(self.seen[-1][0])
        address = f"{self._gateway.url}/v1/jobs/{self._job_id}/events"
        number = 0
        with httpx.stream("GET", address, headers=headers, timeout=30) as answer:
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    self.seen.append((number, json.loads(line[6:])))


def test_every_accepted_job_ends_once_through_kills(gateway: Gateway) -> None:
    keys = [gateway.key(f"user-{n}") for n in range(4)]
    jobs: dict[str, str] = {}

    def submit(n: int) -> None:
        key = keys[n % len(keys)]
        body = {**call("work", n=n, seconds=0.6), "retry": {"attempts": 1}}
        answer = gateway.request("POST", "/v1/jobs", key=key, json=body)
        assert answer.status_code == 202, answer.text
        jobs[answer.json()["job_id"]] = key

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit, range(JOBS)))
    readers = [Reader(gateway, key, job_id) for job_id, key in list(jobs.items())[::10]]
    for _ in range(KILLS):
        before = _ended(gateway)
        until(lambda before=before: _ended(gateway) > before, 30, "progress")  # type: ignore[misc]
        kill(gateway)
        gateway.start()
    until(lambda: _ended(gateway) == JOBS, 120, "the end of every job")
    interruptions = 0
    for job_id, key in jobs.items():
        job = gateway.request("GET", f"/v1/jobs/{job_id}", key=key).json()
        assert job["status"] == "succeeded", job
        assert job["attempt"] == 1 + job["interruptions"]
        interruptions += job["interruptions"]
    assert interruptions > 0, "no kill hit a running job: the test shows nothing"
    for reader in readers:
        until(lambda reader=reader: reader.is_through, 30, "the end of the events")  # type: ignore[misc]
        numbers = [number for number, _ in reader.seen]
        assert numbers == list(range(1, len(numbers) + 1))
        assert [event["type"] for _, event in reader.seen].count("done") == 1
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
        ends = database.execute("SELECT job_id, count(*) FROM job_events WHERE ends GROUP BY job_id").fetchall()
        assert {count for _, count in ends} == {1}
        assert len(ends) == JOBS
        assert database.execute("SELECT count(*) FROM job_queue").fetchone() == (0,)


def test_the_order_to_stop_lets_jobs_end_or_go_on_later(gateway: Gateway) -> None:
    key = gateway.key("ann")
    short = gateway.request("POST", "/v1/jobs", key=key, json=call("work", n=1, seconds=1.5)).json()["job_id"]
    until(lambda: gateway.request("GET", f"/v1/jobs/{short}", key=key).json()["status"] == "running")
    gateway.stop()
    gateway.start()
    job = gateway.request("GET", f"/v1/jobs/{short}?wait=30", key=key).json()
    assert (job["status"], job["attempt"]) == ("succeeded", 1)


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_job_that_the_gateway_never_survives_is_given_up(gateway: Gateway, attempts: int) -> None:
    key = gateway.key("ann")
    body = {**call("deep", levels=0), "retry": {"attempts": attempts, "delay": 600}}
    job_id = gateway.request("POST", "/v1/jobs", key=key, json=body).raise_for_status().json()["job_id"]
    until(lambda: gateway.request("GET", f"/v1/jobs/{job_id}", key=key).json()["status"] == "running", 20)
    kill(gateway)
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as database, database:
        database.execute("UPDATE jobs SET interruptions = 9 WHERE id = ?", (job_id,))  # as after nine kills
    gateway.start()
    job = gateway.request("GET", f"/v1/jobs/{job_id}?wait=30", key=key).json()
    assert (job["status"], job["error"]["error_code"], job["interruptions"]) == ("failed", "RUNTIME_CRASHED", 10)


def test_cancel_reaches_three_calls_deep_and_leaves_no_process(gateway: Gateway) -> None:
    key = gateway.key("ann")
    mark = str(600 + random.random())
    job_id = gateway.request("POST", "/v1/jobs", key=key, json=call("deep", levels=3, mark=mark)).json()["job_id"]
    started = lambda: [p for p in descendants(gateway.pid) if command_line(p) == f"sleep\0{mark}\0".encode()]  # noqa: E731
    until(lambda: len(started()) == 4, 30, "the call three calls deep")
    busy = {_parent(process) for process in started()}
    assert len(busy) == 4
    answer = gateway.request("POST", f"/v1/jobs/{job_id}/cancel", key=key).json()
    assert answer["canceled"] is True
    until(lambda: _running(gateway) == 0, 10, "the end of every record")
    until(lambda: not busy.intersection(descendants(gateway.pid)), 10, "the end of every worker")
    until(lambda: not started(), 10, "the end of what the functions started")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _query(gateway: Gateway, text: str) -> int:
    with closing(sqlite3.connect(gateway.data / "gateway.db", timeout=10)) as database:
        return int(database.execute(text).fetchone()[0])


def _ended(gateway: Gateway) -> int:
    return _query(gateway, "SELECT count(*) FROM jobs WHERE ended_at IS NOT NULL AND depth = 0")


def _running(gateway: Gateway) -> int:
    return _query(gateway, "SELECT count(*) FROM jobs WHERE ended_at IS NULL")
