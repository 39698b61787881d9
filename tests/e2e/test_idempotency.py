"""The same key with the same request does its work once: whatever is cut, wherever, and whoever is killed."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package
from proxies import CuttingProxy

from gateway_server.api.calls import LOOK_EVERY
from gateway_server.engine.local import measuring

WORK = """
import time

def echo(text: str, seconds: float = 0.0):
    print("ran", text)
    time.sleep(seconds)
    return {"text": text, "padding": "x" * 2000}

def large(size: int):
    return "x" * size

def raises(text: str):
    with open("data/outputs/left.txt", "w") as file:
        file.write(text)
    raise ValueError(text)

def tells(n: int, delay: float = 0.0):
    for i in range(n):
        yield {"type": "content", "data": f"{i} " + "y" * 200}
        time.sleep(delay)
    yield {"type": "done", "data": {"n": n}}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("idempotency")
    with running_gateway(folder / "data") as started:
        started.publish(write_package(folder / "work", WORK, prefab_id="work"))
        yield started


def call(function: str, **parameters: Any) -> dict[str, Any]:
    return {"prefab_id": "work", "version": "1.0.0", "function_name": function, "inputs": {"parameters": parameters}}


def plain(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"calls": list(calls)}


def stream(function: str, **parameters: Any) -> dict[str, Any]:
    return {"calls": [call(function, **parameters)], "stream": True}


def run(gateway: Gateway, key: str, body: dict[str, Any], idempotency: str, url: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": idempotency, "Connection": "close"}
    return httpx.post(f"{url or gateway.url}/v1/internal/run", json=body, headers=headers, timeout=60)


def records(gateway: Gateway, key: str) -> list[dict[str, Any]]:
    return list(gateway.request("GET", "/v1/jobs?limit=1000", key=key).json()["jobs"])


def restart(gateway: Gateway) -> None:
    assert gateway.process
    gateway.process.kill()
    gateway.process.wait()
    gateway.start()


def clean(answer: httpx.Response) -> tuple[int, Any]:
    """An answer without what another attempt may say differently: nothing but the order of an object's members."""
    return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else answer.text


BODIES = {
    "plain": plain(call("echo", text="a", seconds=0.2)),
    "stream": stream("tells", n=20, delay=0.01),
    "batch": plain(*(call("echo", text=str(n)) for n in range(3))),
}
STAGES = {"while it was sent": {"up": 250}, "before the answer": {"down": 1}, "within the answer": {"down": 1500}}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", BODIES)
def test_a_request_that_was_cut_runs_once_and_is_answered(gateway: Gateway, kind: str, stage: str) -> None:
    key, name = gateway.key(f"{kind}-{list(STAGES).index(stage)}"), f"{kind} {stage}"
    with CuttingProxy(gateway.url, **STAGES[stage]) as proxy:
        with suppress(httpx.HTTPError):
            answer = run(gateway, key, BODIES[kind], name, proxy.url)
            assert not answer.text.endswith("}")
        assert len(proxy.cuts) == 1
    answer = run(gateway, key, BODIES[kind], name)
    assert answer.status_code == 200, answer.text
    assert len(records(gateway, key)) == 1
    job = gateway.request("GET", f"/v1/jobs/{answer.headers['x-job-id']}", key=key).json()
    assert (job["status"], len(job["children"] or [])) == ("succeeded", 3 if kind == "batch" else 0)
    log = gateway.request("GET", f"/v1/jobs/{job['id']}/logs", key=key).text
    assert log.count("ran") == {"plain": 1, "batch": 3, "stream": 0}[kind]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *BODIES.items(),
        ("failed", plain(call("raises", text="no"))),
        ("failed stream", stream("raises", text="no")),
        ("partly refused", plain(call("echo", text="a"), call("nothing"))),
    ],
)
def test_an_answer_is_given_again_after_a_kill(gateway: Gateway, kind: str, body: dict[str, Any]) -> None:
    key = gateway.key(kind.replace(" ", "-"))
    first = run(gateway, key, body, "once")
    restart(gateway)
    again = run(gateway, key, body, "once")
    assert clean(again) == clean(first)
    assert again.headers["x-job-id"] == first.headers["x-job-id"]
    assert again.headers.get("x-prefab-version") == first.headers.get("x-prefab-version")
    assert len(records(gateway, key)) == 1
    other = run(gateway, key, plain(call("echo", text="other")), "once")
    assert (other.status_code, other.json()["detail"]["error_code"]) == (422, "IDEMPOTENCY_CONFLICT")
    assert len(records(gateway, key)) == 1


def test_what_a_kill_cut_runs_anew_and_nothing_twice(gateway: Gateway) -> None:
    key = gateway.key("killed")
    body = plain(*(call("echo", text=str(n), seconds=0.01 if n < 4 else 2.0) for n in range(8)))
    with ThreadPoolExecutor() as pool:
        cut = pool.submit(run, gateway, key, body, "batch")
        until(lambda: sum(job["status"] == "succeeded" for job in _children(gateway, key)) == 4, 20)
        restart(gateway)
        assert isinstance(cut.exception(), httpx.HTTPError)
    answer = run(gateway, key, body, "batch").json()
    assert [result["output"]["output"]["text"] for result in answer["results"]] == [str(n) for n in range(8)]
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
        statuses = "SELECT status, count(*) FROM jobs WHERE user = 'killed' AND prefab_id IS NOT NULL GROUP BY status"
        assert dict(database.execute(statuses)) == {"succeeded": 8, "failed": 4}
    assert run(gateway, key, body, "batch").json() == answer


def _children(gateway: Gateway, key: str) -> list[dict[str, Any]]:
    found = records(gateway, key)
    return gateway.request("GET", f"/v1/jobs/{found[0]['id']}", key=key).json()["children"] if found else []


def test_many_at_once_are_one(gateway: Gateway) -> None:
    key, body = gateway.key("many"), plain(call("echo", text="a", seconds=0.3))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: run(gateway, key, body, "same"), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert len(records(gateway, key)) == 1


def test_a_known_request_is_answered_though_it_would_be_refused_now(gateway: Gateway) -> None:
    key, body = gateway.key("poor"), plain(call("echo", text="a"))
    gateway.request("PUT", "/v1/quotas/poor", json={"limit": 1}).raise_for_status()
    first = run(gateway, key, body, "paid")
    assert run(gateway, key, body, "other").status_code == 429
    again = run(gateway, key, body, "paid")
    assert clean(again) == clean(first)
    assert first.status_code == 200


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_known_request_that_is_under_way_is_waited_for_in_its_own_time(gateway: Gateway, is_refused: bool) -> None:
    name = f"waits-{is_refused}"
    key, body = gateway.key(name), plain(call("echo", text="a", seconds=60))
    gateway.request("PUT", f"/v1/quotas/{name}", json={"limit": 1 if is_refused else 100}).raise_for_status()
    headers = {"Idempotency-Key": "slow", "Prefer": "respond-async"}
    job_id = gateway.request("POST", "/v1/run", key=key, json=body, headers=headers).raise_for_status().json()["job_id"]
    before = measuring.processor_time([gateway.pid])
    begun = time.monotonic()
    answer = gateway.request(
        "POST", "/v1/run", key=key, json=body, headers={"Idempotency-Key": "slow", "Cancel-After": "2s"}
    )
    took = time.monotonic() - begun
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (504, "DEADLINE_EXCEEDED")
    assert took < LOOK_EVERY
    assert measuring.processor_time([gateway.pid]) - before < took / 2  # it looks now and then, and not all the time
    assert gateway.request("POST", f"/v1/jobs/{job_id}/cancel", key=key).json()["canceled"] is True


def test_a_call_of_a_cut_batch_whose_result_is_not_kept_says_so(gateway: Gateway) -> None:
    key = gateway.key("large-and-cut")
    body = plain(call("large", size=9 << 20), call("echo", text="a", seconds=2.0))
    with ThreadPoolExecutor() as pool:
        cut = pool.submit(run, gateway, key, body, "batch")
        until(lambda: any(job["status"] == "succeeded" for job in _children(gateway, key)), 20)
        restart(gateway)
        assert isinstance(cut.exception(), httpx.HTTPError)
    large, small = run(gateway, key, body, "batch").json()["results"]
    assert (large["error"]["error_code"], small["status"]) == ("IDEMPOTENCY_CONFLICT", "SUCCESS")
    assert gateway.request("GET", f"/v1/jobs/{large['job_id']}", key=key).json()["status"] == "succeeded"


def test_refusals_are_not_kept(gateway: Gateway) -> None:
    key, body = gateway.key("refused"), plain(call("echo", text=1))
    assert [run(gateway, key, body, "k").status_code for _ in range(2)] == [422, 422]
    assert run(gateway, key, plain(call("echo", text="a")), "k").status_code == 200


def test_keys_are_each_callers_own(gateway: Gateway) -> None:
    body = plain(call("echo", text="a"))
    jobs = {run(gateway, gateway.key(user), body, "same").json()["job_id"] for user in ("one", "two")}
    assert len(jobs) == 2


@pytest.mark.parametrize(
    ("name", "age", "is_kept"), [("auto-1", 500, True), ("auto-2", 700, False), ("mine", 80_000, True)]
)
def test_answers_are_kept_for_their_time(gateway: Gateway, name: str, age: float, is_kept: bool) -> None:
    key, body = gateway.key(f"aged-{name}"), plain(call("echo", text="a"))
    first = run(gateway, key, body, name).json()["job_id"]
    assert len(records(gateway, key)) == 1  # whoever asks finds the record: it is in the database then
    with closing(sqlite3.connect(gateway.data / "gateway.db", timeout=10)) as database, database:
        change = "UPDATE jobs SET ended_at = ended_at - ? WHERE id = ?"
        assert database.execute(change, (age, first)).rowcount == 1
    again = run(gateway, key, body, name).json()["job_id"]
    assert (again == first) is is_kept


def test_a_retry_joins_what_is_under_way(gateway: Gateway) -> None:
    key, body = gateway.key("joins"), stream("tells", n=10, delay=0.1)
    with CuttingProxy(gateway.url, down=1500) as proxy, suppress(httpx.HTTPError):
        run(gateway, key, body, "s", proxy.url)
    begun = time.monotonic()
    answer = run(gateway, key, body, "s")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [event["data"].split()[0] for event in events if event["type"] == "content"] == [str(n) for n in range(10)]
    assert time.monotonic() - begun < 5
    assert len(records(gateway, key)) == 1


def test_a_run_may_be_canceled_by_its_key(gateway: Gateway) -> None:
    key, body = gateway.key("cancels"), plain(call("echo", text="a", seconds=30))
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(run(gateway, key, body, "long")))
    thread.start()
    until(lambda: any(job["status"] == "running" for job in records(gateway, key)))
    (job,) = records(gateway, key)
    told = gateway.request("POST", "/v1/jobs/long/cancel", key=key).json()
    assert told == {"job_id": job["id"], "status": "canceled", "canceled": True}
    thread.join(20)
    detail = answers[0].json()["detail"]
    assert (detail["error_code"], detail["job_id"], answers[0].headers["x-job-id"]) == (
        "CANCELED",
        job["id"],
        job["id"],
    )


def test_a_key_cancels_the_job_that_a_run_only_waits_for(gateway: Gateway) -> None:
    key, body, answers = gateway.key("cancels"), plain(call("echo", text="a", seconds=30)), list[httpx.Response]()
    headers = {"Prefer": "respond-async", "Idempotency-Key": "both"}
    job = gateway.request("POST", "/v1/internal/run", key=key, json=body, headers=headers).json()["job_id"]
    thread = threading.Thread(target=lambda: answers.append(run(gateway, key, body, "both")))
    thread.start()
    for _ in range(50):  # nothing tells that the run waits, but it has had its turns beside as many others
        gateway.request("GET", f"/v1/jobs/{job}", key=key)
    assert gateway.request("POST", "/v1/jobs/both/cancel", key=key).json()["canceled"] is True
    thread.join(20)
    assert answers[0].json()["detail"]["error_code"] == "CANCELED"
    assert gateway.request("GET", f"/v1/jobs/{job}?wait=10", key=key).json()["status"] == "canceled"


@pytest.mark.parametrize(("method", "rest"), [("POST", "/cancel"), ("DELETE", "")])
def test_any_key_is_good_for_that(gateway: Gateway, method: str, rest: str) -> None:
    key, name, submitted = gateway.key("cancels"), "orders/17/cancel", call("echo", text="a", seconds=30)
    job = gateway.request("POST", "/v1/jobs", key=key, json=submitted, headers={"Idempotency-Key": name}).json()
    answer = gateway.request(method, f"/v1/jobs/{quote(name, safe='')}{rest}", key=key)
    assert answer.status_code == 200, answer.text
    assert answer.json()["canceled"] is True
    assert gateway.request("GET", f"/v1/jobs/{job['job_id']}?wait=20", key=key).json()["status"] == "canceled"


def test_code_inside_two_calls_has_keys_of_its_own(gateway: Gateway, tmp_path: Path) -> None:
    source = """
    import os, json, urllib.request

    def asks():
        body = {"calls": [{"prefab_id": "work", "version": "1.0.0", "function_name": "echo",
            "inputs": {"parameters": {"text": "a"}}}]}
        request = urllib.request.Request(os.environ["GATEWAY_BASE_URL"] + "/v1/internal/run", json.dumps(body).encode(),
            {"X-Internal-Token": os.environ["X_INTERNAL_TOKEN"], "Idempotency-Key": "step"})
        return [json.loads(urllib.request.urlopen(request).read())["job_id"] for _ in range(2)]
    """
    gateway.publish(write_package(tmp_path / "inner", source, prefab_id="inner"))
    with gateway.client() as client:
        first, second = (client.run("inner", "1.0.0", "asks", {}).get_function_result() for _ in range(2))
    assert first[0] == first[1] != second[0] == second[1]
