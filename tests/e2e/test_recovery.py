"""Whatever a function or its caller does: the call is answered, its record is closed, and nothing outlives it."""

import json
import os
import random
import signal
import socket
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package

HURRIED = (
    "from gateway_server.cli import server;"
    "server.running.__wrapped__.__kwdefaults__.update(grace=3);"
    "from gateway_server.cli.commands import main; main()"
)
"""The gateway's command, which waits for running calls for a tenth of the usual time."""
ODD = """
import json
import os
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request

def echo(text: str):
    return text

def token():
    return os.environ["X_INTERNAL_TOKEN"]

def big(mb: int):
    return "x" * (mb << 20)

def removes_its_folder():
    shutil.rmtree("data")
    return "gone"

def raises_no_unicode():
    raise ValueError("cannot read caf\\udce9.txt")

def deep(levels: int):
    sys.setrecursionlimit(200_000)
    value = 1
    for _ in range(levels):
        value = [value]
    return value

def large_number():
    return 2**70

def sleeps(seconds: float):
    time.sleep(seconds)
    return seconds

def talks(count: int):
    for n in range(count):
        yield {"type": "content", "data": str(n)}
        time.sleep(0.2)

def asks(path: str):
    try:
        with urllib.request.urlopen(os.environ["GATEWAY_BASE_URL"] + path, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

def leaks():
    print("A" * (2 * 1024 * 1024 - 20) + os.environ["API_KEY"] + "B" * (5 << 20))

def leaves_a_batch(count: int):
    inputs = {"parameters": {"seconds": 0.5}}
    call = {"prefab_id": "odd", "version": "1.0.0", "function_name": "sleeps", "inputs": inputs}
    body = json.dumps({"calls": [call] * count}).encode()
    headers = {"X-Internal-Token": os.environ["X_INTERNAL_TOKEN"], "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["GATEWAY_BASE_URL"] + "/v1/internal/run", body, headers)
    threading.Thread(target=lambda: urllib.request.urlopen(request, timeout=60).read(), daemon=True).start()
    time.sleep(1)
"""
SECRET = "S3CRETVALUE-0123456789-abcdefghij"


def publish(gateway: Gateway, folder: Path) -> Gateway:
    secrets = [{"name": "API_KEY", "description": "A key.", "required": False}]
    gateway.publish(write_package(folder, ODD, prefab_id="odd", functions={"leaks": {"secrets": secrets}}))
    return gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("recovery")
    with running_gateway(folder / "data") as started:
        yield publish(started, folder / "odd")


def call(function: str, prefab_id: str = "odd", version: str = "1.0.0", **parameters) -> dict:
    inputs = {"parameters": parameters}
    return {"prefab_id": prefab_id, "version": version, "function_name": function, "inputs": inputs}


def run(gateway: Gateway, *calls: dict, token: str | None = None, stream: bool = False, **headers: str):
    headers = {"X-Internal-Token": token or gateway.token("ann", "helper"), **headers}
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"calls": calls, "stream": stream}
    return httpx.post(gateway.url + "/v1/internal/run", headers=headers, json=body, timeout=60)


def item(answer: httpx.Response) -> dict:
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def still_running(gateway: Gateway) -> list[str]:
    answer = gateway.request("GET", "/v1/jobs", params={"status": "running", "all_users": True, "limit": 1000})
    return [job["function_name"] for job in answer.json()["jobs"]]


def test_a_long_answer_arrives(gateway: Gateway):
    assert len(item(run(gateway, call("big", mb=3)))["output"]["output"]) == 3 << 20


def test_odd_endings_are_answered_and_recorded(gateway: Gateway):
    removed = item(run(gateway, call("removes_its_folder")))
    assert removed["output"] == {"status": "SUCCESS", "output": "gone", "files": {}}
    assert "outputs cannot be read" in gateway.request("GET", f"/v1/jobs/{removed['job_id']}/logs").text
    unreadable = item(run(gateway, call("raises_no_unicode")))
    assert unreadable["error"]["message"] == "cannot read caf?.txt"
    for levels in (500, 900, 990, 1100, 5000):
        answer = run(gateway, call("deep", levels=levels))
        assert answer.status_code in (200, 502), answer.text
        assert answer.is_success or "RUNTIME_CRASHED" in answer.text or "nested" in answer.text
    until(lambda: not still_running(gateway), 10, "the end of every record")


def test_an_odd_ending_leaves_the_rest_of_its_batch_alone(gateway: Gateway):
    answer = run(gateway, call("echo", text="a"), call("raises_no_unicode"), call("removes_its_folder"))
    assert [result["status"] for result in answer.json()["results"]] == ["SUCCESS", "FAILED", "SUCCESS"]


def test_a_result_is_given_again_as_it_was(gateway: Gateway):
    for function, parameters in (("large_number", {}), ("deep", {"levels": 300})):
        result = item(run(gateway, call(function, **parameters)))
        job = gateway.request("GET", f"/v1/jobs/{result['job_id']}")
        assert job.status_code == 200
        assert json.loads(job.text)["result"]["output"] == result["output"]["output"]


def request_bytes(body: dict, token: str) -> bytes:
    text = json.dumps(body).encode()
    head = ("POST /v1/internal/run HTTP/1.1", "Host: x", f"X-Internal-Token: {token}", f"Content-Length: {len(text)}")
    return "\r\n".join((*head, "", "")).encode() + text


def connect(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])))


@pytest.mark.parametrize("calls", [1, 3])
def test_callers_who_hang_up_at_any_moment_leave_nothing_open(gateway: Gateway, calls: int):
    token = gateway.token("hasty", "helper")
    message = request_bytes({"calls": [call("echo", text="x")] * calls}, token)
    item(run(gateway, call("echo", text="x"), token=token))
    chance = random.Random(7)
    for _ in range(400):
        with connect(gateway) as connection:
            connection.sendall(message)
            time.sleep(chance.random() * 0.004)
    until(lambda: not still_running(gateway), 20, "the end of every record")
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
        assert database.execute("select count(*) from jobs where ended_at is null").fetchone() == (0,)


def test_the_token_of_a_call_ends_with_it(gateway: Gateway):
    token = item(run(gateway, call("token")))["output"]["output"]
    answer = run(gateway, call("echo", text="x"), token=token)
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (401, "UNAUTHENTICATED")
    assert "has ended" in answer.json()["detail"]["message"]


def test_nothing_of_a_batch_begins_after_its_caller_has_ended(gateway: Gateway):
    job_id = item(run(gateway, call("leaves_a_batch", count=64)))["job_id"]
    until(lambda: not still_running(gateway), 20, "the end of the batch")
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
        (ended,) = database.execute("select ended_at from jobs where id = ?", (job_id,)).fetchone()
        counted = "select count(*) from jobs where root_id = ? and function_name = 'sleeps' and status != 'canceled'"
        late = database.execute(f"{counted} and started_at > ? and error not like '%CANCELED%'", (job_id, ended + 0.2))
        assert late.fetchone() == (0,)


def test_a_cut_log_shows_no_part_of_a_secret(gateway: Gateway):
    values = {"prefab_id": "odd", "secret_name": "API_KEY", "secret_value": SECRET}
    assert gateway.request("POST", "/v1/secrets", key=gateway.key("sue"), json=values).is_success
    result = item(run(gateway, call("leaks"), token=gateway.token("sue")))
    log = gateway.request("GET", f"/v1/jobs/{result['job_id']}/logs").text
    assert "bytes left out" in log
    assert "S3CR" not in log


def test_what_is_wrong_is_told_in_a_fixed_order(gateway: Gateway):
    unknown = run(gateway, call("echo", prefab_id="nope", text="x"), Cancel_After="soon")
    assert unknown.status_code == 404
    for calls in ([call("echo", text="x")], [call("echo", text="x")] * 2):
        assert "Cancel-After" in run(gateway, *calls, Cancel_After="soon").json()["detail"]["message"]


@pytest.mark.parametrize(
    "named",
    [
        {"prefab_id": "o" * 1_000_000},
        {"prefab_id": "No Name/" * 20},
        {"prefab_id": "odd", "version": "1" * 1_000_000},
        {"prefab_id": "odd", "function": "f" * 1_000_000},
    ],
)
def test_names_that_cannot_be_are_refused_in_few_words(gateway: Gateway, named: dict[str, str]):
    begun = time.monotonic()
    answer = run(gateway, call(named.pop("function", "echo"), **named, text="x"))
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (404, "NOT_FOUND")
    assert len(answer.text) < 1500
    assert time.monotonic() - begun < 3


def test_wrong_values_are_told_in_few_words(gateway: Gateway):
    answer = run(gateway, call("sleeps", seconds="q" * 1_000_000))
    assert answer.status_code == 422
    assert len(answer.text) < 2000


def test_a_trusted_network_does_not_trust_functions(tmp_path: Path):
    arguments = ("--trusted-network", "127.0.0.0/8", "--default-user", "operator")
    with running_gateway(tmp_path / "data", *arguments) as gateway:
        publish(gateway, tmp_path / "odd")
        assert httpx.get(gateway.url + "/v1/jobs").status_code == 200
        assert item(run(gateway, call("asks", path="/v1/jobs")))["output"]["output"] == 401


def test_a_stop_does_not_refuse_what_has_been_taken_in(tmp_path: Path):
    with running_gateway(tmp_path / "data", command=(sys.executable, "-c", HURRIED)) as gateway:
        publish(gateway, tmp_path / "odd")
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(run, gateway, call("sleeps", seconds=120.0), Prefer="respond-async, wait=100")
            until(lambda: len(still_running(gateway)) == 1, 10, "the start of the job")
            os.kill(gateway.pid, signal.SIGTERM)
            assert waiting.result().status_code == 202, waiting.result().text
        assert gateway.process is not None
        gateway.process.wait(20)


def test_a_stop_tells_every_caller(tmp_path: Path):
    with running_gateway(tmp_path / "data", command=(sys.executable, "-c", HURRIED)) as gateway:
        publish(gateway, tmp_path / "odd")
        item(run(gateway, call("echo", text="warm")))
        with ThreadPoolExecutor() as pool:
            plain = pool.submit(run, gateway, call("sleeps", seconds=120.0), Idempotency_Key="auto-stop")
            stream = pool.submit(run, gateway, call("talks", count=1000), stream=True)
            until(lambda: len(still_running(gateway)) == 2, 10, "the start of the calls")
            begun = time.monotonic()
            os.kill(gateway.pid, signal.SIGTERM)
            assert plain.result().status_code == 503
            assert plain.result().json()["detail"]["error_code"] == "SERVICE_UNAVAILABLE"
            assert int(plain.result().headers["retry-after"]) >= 1
            last = stream.result().text.strip().split("\n\n")[-1]
            assert json.loads(last.removeprefix("data: "))["error_code"] == "SERVICE_UNAVAILABLE"
        assert gateway.process is not None
        gateway.process.wait(20)
        assert time.monotonic() - begun < 20
        with closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as database:
            assert database.execute("select count(*) from jobs where ended_at is null").fetchone() == (0,)
