"""Quotas of a real gateway: exact when everything happens at once, when it is killed, and for all that is stored."""

import json
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package

from gateway_sdk import GatewayClient
from gateway_sdk.exceptions import DeadlineExceededError, GatewayError, QuotaExceededError

CODE = """
import time
from pathlib import Path
from gateway_sdk import GatewayClient

def echo(text: str):
    return text

def sleeps(seconds: float):
    time.sleep(seconds)

def writes(size: int, count: int = 1):
    for number in range(count):
        Path(f"data/outputs/{number}.bin").write_bytes(bytes(size))

def nests():
    return GatewayClient(max_retries=0).run("metered", "1.0.0", "echo", {"text": "in"}).get_function_result()
"""
METERED = "metered", "1.0.0"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("quotas") / "data") as started:
        publish(started, tmp_path_factory.mktemp("metered"))
        yield started


@pytest.fixture
def user() -> str:
    return f"user-{uuid4().hex[:8]}"


def publish(gateway: Gateway, folder: Path) -> None:
    gateway.publish(write_package(folder, CODE, prefab_id="metered", dependencies=("agent-builder-gateway-sdk",)))


def limit(gateway: Gateway, user: str, number: int | None, metric: str = "calls", **more: Any) -> dict[str, Any]:
    answer = gateway.request("PUT", f"/v1/quotas/{user}", json={"limit": number, "metric": metric, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def used(gateway: Gateway, user: str, quota_type: str) -> float:
    shown = gateway.request("GET", "/v1/quotas", params={"user": user}).json()["quotas"]
    (found,) = [quota["used"] for quota in shown if quota["quota_type"] == quota_type and quota["key_id"] is None]
    return found


def outcomes(client: GatewayClient, function: str, arguments: dict[str, Any], calls: int, threads: int) -> list[str]:
    def call(_: int) -> str:
        try:
            return client.run(*METERED, function, arguments).status
        except GatewayError as error:
            return getattr(error, "quota_type", None) or error.error_code or ""

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(calls)))


@pytest.mark.parametrize("period", ["day", "month"])
def test_a_key_has_limits_of_its_own(gateway: Gateway, user: str, period: str):
    text = gateway.key(user)
    (key,) = gateway.request("GET", "/v1/keys", params={"user": user}).json()["keys"]
    limit(gateway, user, 5, period=period, key_id=key["id"])
    token = gateway.request("POST", "/v1/auth/convert_to_internal_token", key=text).json()["internal_token"]
    client = GatewayClient(internal_token=token, base_url=gateway.url, max_retries=0)
    told = outcomes(client, "echo", {"text": ""}, 12, 6)
    assert (told.count("SUCCESS"), told.count(f"calls_per_{period}")) == (5, 7)
    assert gateway.client(user).run(*METERED, "echo", {"text": ""}).is_success()  # a token that is not of the key
    assert used(gateway, user, "calls_per_day") == 6
    with pytest.raises(QuotaExceededError) as refusal:
        client.run(*METERED, "echo", {"text": ""})
    assert refusal.value.details["subject"] == "key"
    assert refusal.value.reset_at is not None
    assert gateway.request("PUT", "/v1/quotas/nobody", json={"limit": 1, "key_id": key["id"]}).status_code == 404


def test_calls_at_once(gateway: Gateway, user: str):
    limit(gateway, user, 3, "concurrent")
    told = outcomes(gateway.client(user, max_retries=0), "sleeps", {"seconds": 1.5}, 20, 20)
    assert (told.count("SUCCESS"), told.count("concurrent_calls")) == (3, 17)
    assert used(gateway, user, "calls_per_day") == 3
    assert used(gateway, user, "concurrent_calls") == 0
    limit(gateway, user, 1, "concurrent")
    assert gateway.client(user, max_retries=0).run(*METERED, "nests", {}).get_function_result() == "in"
    patient = outcomes(gateway.client(user, max_retries=8), "echo", {"text": ""}, 3, 3)
    assert patient == ["SUCCESS"] * 3  # a short Retry-After is waited for


def test_submitted_jobs_wait_for_a_place_and_for_run_time(gateway: Gateway, user: str):
    limit(gateway, user, 1, "concurrent")
    limit(gateway, user, 60, "seconds")
    client = gateway.client(user)
    jobs = [client.submit(*METERED, "sleeps", {"seconds": 0.3}) for _ in range(3)]  # each may want all of the 60 s
    assert used(gateway, user, "calls_per_day") == 3  # charged when they are taken in
    most = 0.0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, used(gateway, user, "concurrent_calls"))
        return all(job.status() == "succeeded" for job in jobs)

    until(all_ended, 30)
    assert most == 1
    found = [gateway.request("GET", f"/v1/jobs/{job.id}").json() for job in jobs]
    assert [(job["attempt"], job["charged"]) for job in found] == [(1, True)] * 3
    assert 0.9 <= used(gateway, user, "seconds_per_day") < 10
    assert used(gateway, user, "calls_per_day") == 3
    limit(gateway, user, 0, "concurrent")
    waiting = client.submit(*METERED, "echo", {"text": ""})
    assert used(gateway, user, "calls_per_day") == 4
    waiting.cancel()
    until(lambda: used(gateway, user, "calls_per_day") == 3)
    assert waiting.status() == "canceled"


def test_run_time(gateway: Gateway, user: str):
    limit(gateway, user, 3, "seconds")
    client = gateway.client(user, max_retries=0)
    assert client.run(*METERED, "sleeps", {"seconds": 0.5}).is_success()
    assert 0.5 <= used(gateway, user, "seconds_per_day") < 2
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        client.run(*METERED, "sleeps", {"seconds": 30})
    assert time.monotonic() - began < 4
    assert used(gateway, user, "seconds_per_day") <= 3
    with pytest.raises(QuotaExceededError) as refusal:
        client.run(*METERED, "sleeps", {"seconds": 0})
    assert (refusal.value.quota_type, refusal.value.limit) == ("seconds_per_day", 3)


def test_bytes_under_concurrent_uploads(gateway: Gateway, user: str, tmp_path: Path):
    limit(gateway, user, 10_000, "bytes")
    client, file = gateway.client(user, max_retries=0), tmp_path / "file.bin"
    file.write_bytes(bytes(3000))

    def upload(number: int) -> str | None:
        try:
            return client.upload_file(str(file)) if number % 2 else client.upload_temp_file(str(file))
        except QuotaExceededError as error:
            assert (error.quota_type, error.reset_at, error.retry_after) == ("stored_bytes", None, None)
            return None

    with ThreadPoolExecutor(8) as pool:
        stored = [url for url in pool.map(upload, range(16)) if url]
    assert len(stored) == 3
    assert used(gateway, user, "stored_bytes") == 9000
    began = gateway.request(
        "POST", "/v1/files/uploads", key=gateway.key(user), json={"filename": "a", "size": 1001, "area": "inputs"}
    )
    assert (began.status_code, began.json()["detail"]["quota_type"]) == (429, "stored_bytes")
    assert "retry-after" not in began.headers
    with pytest.raises(QuotaExceededError):
        client.run(*METERED, "writes", {"size": 600, "count": 2})
    assert used(gateway, user, "stored_bytes") == 9000
    assert client.run(*METERED, "writes", {"size": 500, "count": 2}).is_success()
    assert used(gateway, user, "stored_bytes") == 10_000
    assert gateway.request("DELETE", "/v1/files", key=gateway.token(user, "helper"), params={"s3_url": stored[0]})
    assert used(gateway, user, "stored_bytes") == 7000


def test_a_death_gives_back_what_it_cut(user: str, tmp_path: Path):
    with running_gateway(tmp_path / "data") as gateway:
        publish(gateway, tmp_path / "metered")
        limit(gateway, user, 40)
        limit(gateway, user, 1000, "seconds", period="month")
        limit(gateway, user, 8, "concurrent")
        for function in ("echo", "sleeps", "echo"):
            arguments = {"text": ""} if function == "echo" else {"seconds": 60}
            client = gateway.client(user, max_retries=0)
            threads = [threading.Thread(target=outcomes, args=(client, function, arguments, 5, 5)) for _ in range(2)]
            for thread in threads:
                thread.start()
            if function == "sleeps":
                until(lambda: used(gateway, user, "concurrent_calls") == 8)
                gateway.stop(signal.SIGKILL)
            for thread in threads:
                thread.join()
            if function == "sleeps":
                gateway.start()
        jobs = gateway.request("GET", "/v1/jobs", params={"user": user, "limit": 1000}).json()["jobs"]
        charged = [job for job in jobs if job["charged"]]
        assert {job["status"] for job in charged} == {"succeeded"}
        assert used(gateway, user, "calls_per_day") == len(charged) <= 20
        assert len([job for job in jobs if job["status"] == "failed"]) == 8
        assert used(gateway, user, "concurrent_calls") == 0
        assert used(gateway, user, "seconds_per_month") < 60


class SelfCaller(BaseHTTPRequestHandler):
    """An agent that answers by asking itself, as often as the path says, and tells the first refusal that it met."""

    base_url = ""
    calls = 0

    def do_POST(self) -> None:
        SelfCaller.calls += 1
        token = self.headers["X-Internal-Token"]
        answer = httpx.post(
            f"{self.base_url}/v1/agents/selfish/again", headers={"X-Internal-Token": token}, json={}, timeout=60
        )
        body = answer.content
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_an_agent_that_calls_itself_comes_to_an_end(gateway: Gateway):
    server = ThreadingHTTPServer(("127.0.0.1", 0), SelfCaller)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    SelfCaller.base_url = gateway.url
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        added = gateway.request("POST", "/v1/agents", json={"id": "selfish", "url": url, "check": False})
        assert added.status_code == 201, added.text
        answer = gateway.request("POST", "/v1/agents/selfish/again", json={})
        told = json.loads(answer.content)["detail"]
        assert (told["error_code"], told["quota_type"], told["limit"]) == ("QUOTA_EXCEEDED", "call_depth", 16)
        assert "call itself" in told["message"]
        assert SelfCaller.calls == 16
        with closing(sqlite3.connect(gateway.data / "gateway.db")) as database:  # all of them are one tree
            sizes = {calls for (calls,) in database.execute("SELECT calls FROM call_trees")}
        assert 15 in sizes
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_job_that_waits_for_a_place_has_not_started(gateway: Gateway, user: str):
    limit(gateway, user, 1, "concurrent")
    key = gateway.key(user)
    call = {"prefab_id": METERED[0], "version": METERED[1], "function_name": "sleeps"}
    ids = []
    for _ in range(2):
        body = {**call, "inputs": {"parameters": {"seconds": 2.0}}}
        ids.append(gateway.request("POST", "/v1/jobs", key=key, json=body).json()["job_id"])
    first, second = (gateway.request("GET", f"/v1/jobs/{job_id}?wait=30", key=key).json() for job_id in ids)
    assert [first["attempt"], second["attempt"]] == [1, 1]
    first, second = sorted((first, second), key=lambda job: job["ended_at"])
    assert second["started_at"] >= first["ended_at"]
