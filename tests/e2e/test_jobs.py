"""Submitted jobs: run whoever waits, tried as often as they may be, told as they go, and there after every kill."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package

WORK = """
import os
import time
from pathlib import Path

MARKS = Path(os.environ.get("MARKS", "/nowhere"))

def mark(name, text=""):
    with open(MARKS / name, "a") as file:
        file.write(f"{os.environ['GATEWAY_JOB_ID']} {os.environ['GATEWAY_ATTEMPT']} {text}\\n")

def add(a: int, b: int = 2):
    return a + b

def attempt():
    return int(os.environ["GATEWAY_ATTEMPT"])

def sleeps(seconds: float):
    time.sleep(seconds)
    return {"slept": seconds}

def counts(n: int, delay: float = 0.0):
    for i in range(n):
        yield {"type": "content", "data": f"{i} "}
        time.sleep(delay)

def fails_until(attempt: int):
    now = int(os.environ["GATEWAY_ATTEMPT"])
    print("attempt", now)
    if now < attempt:
        raise RuntimeError(f"not yet: {now}")
    return now

def fails_with_a_file():
    Path("data/outputs/left.txt").write_text("left")
    raise RuntimeError("no")

def crashes():
    os._exit(7)

def floods(count: int, size: int):
    for _ in range(count):
        yield {"type": "content", "data": "x" * size}
"""
FUNCTIONS: dict[str, dict[str, Any]] = {"crashes": {"retry": {"attempts": 2, "delay": 0}}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("jobs")
    with running_gateway(folder / "data") as started:
        started.publish(write_package(folder / "work", WORK, prefab_id="work", functions=FUNCTIONS))
        yield started


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.key("ann")


def call(function: str, **parameters: Any) -> dict[str, Any]:
    return {
        "prefab_id": "work",
        "version": "1.0.0",
        "function_name": function,
        "inputs": {"parameters": parameters},
    }


def submit(gateway: Gateway, key: str, body: dict[str, Any], **headers: str) -> str:
    answer = gateway.request("POST", "/v1/jobs", key=key, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['job_id']}"
    return str(answer.json()["job_id"])


def ended(gateway: Gateway, key: str, job_id: str) -> dict[str, Any]:
    job = gateway.request("GET", f"/v1/jobs/{job_id}?wait=30", key=key).json()
    assert job["ended_at"], job
    return dict(job)


def events(gateway: Gateway, key: str, job_id: str, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
    headers = {"Last-Event-ID": str(after)} if after else {}
    text = gateway.request("GET", f"/v1/jobs/{job_id}/events", key=key, headers=headers).text
    frames = [frame.split("\n") for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    return [(int(number.removeprefix("id: ")), json.loads(data.removeprefix("data: "))) for number, data in frames]


def test_a_submitted_call_runs_and_keeps_its_result(gateway: Gateway, key: str) -> None:
    job = ended(gateway, key, submit(gateway, key, call("add", a=1)))
    assert (job["status"], job["attempt"], job["interruptions"]) == ("succeeded", 1, 0)
    assert job["result"] == {"status": "SUCCESS", "output": 3, "files": {}}


def test_events_are_numbered_and_resumed(gateway: Gateway, key: str) -> None:
    job_id = submit(gateway, key, call("counts", n=50, delay=0.002))
    whole = events(gateway, key, job_id)
    assert [number for number, _ in whole] == list(range(1, 53))
    assert whole[0][1] == {"type": "start", "data": {"job_id": job_id, "attempt": 1}}
    assert "".join(event["data"] for _, event in whole if event["type"] == "content") == "".join(
        f"{i} " for i in range(50)
    )
    end = whole[-1][1]
    assert (end["type"], end["data"]["output"]) == ("done", {"content": "".join(f"{i} " for i in range(50))})
    for after in (1, 17, 51):
        assert events(gateway, key, job_id, after) == whole[after:]
    assert events(gateway, key, job_id, 52) == []


def test_a_function_that_fails_is_tried_again_as_asked(gateway: Gateway, key: str) -> None:
    job_id = submit(gateway, key, {**call("fails_until", attempt=3), "retry": {"attempts": 3, "delay": 0.01}})
    job = ended(gateway, key, job_id)
    assert (job["status"], job["attempt"], job["result"]["output"]) == ("succeeded", 3, 3)
    kinds = [event["type"] for _, event in events(gateway, key, job_id)]
    assert kinds == ["start", "retry", "start", "retry", "start", "done"]
    log = gateway.request("GET", f"/v1/jobs/{job_id}/logs", key=key).text
    assert [f"attempt {n}" in log for n in (1, 2, 3)] == [True] * 3


def test_without_a_policy_there_is_one_attempt(gateway: Gateway, key: str) -> None:
    job_id = submit(gateway, key, call("fails_until", attempt=2))
    job = ended(gateway, key, job_id)
    assert (job["status"], job["attempt"], job["error"]["error_code"]) == ("failed", 1, "PREFAB_ERROR")
    assert events(gateway, key, job_id)[-1][1]["type"] == "error"


def test_the_manifest_may_say_how_often(gateway: Gateway, key: str) -> None:
    job = ended(gateway, key, submit(gateway, key, call("crashes")))
    assert (job["status"], job["attempt"], job["error"]["error_code"]) == ("failed", 2, "RUNTIME_CRASHED")


def test_files_of_a_failed_job_stay(gateway: Gateway, key: str) -> None:
    job = ended(gateway, key, submit(gateway, key, call("fails_with_a_file")))
    assert (job["status"], job["result"]["status"], len(job["result"]["files"]["output"])) == ("failed", "FAILED", 1)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/calls"),
        ({"calls": []}, "/calls"),
        ({"prefab_id": "work"}, "/calls/0/version"),
        ({**call("add", a=1), "priority": "high"}, "/priority"),
        ({**call("add", a=1), "priority": 11}, "/priority"),
        ({**call("add", a=1), "retry": 3}, "/retry"),
        ({**call("add", a=1), "retry": {"attempts": 0}}, "/retry/attempts"),
        ({**call("add", a=1), "retry": {"attempts": 2, "delay": -1}}, "/retry/delay"),
        ({**call("add", a=1), "retry": {"times": 2}}, "/retry/times"),
        (call("add", a="one"), "/parameters/a"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_job(gateway: Gateway, body: dict[str, Any], pointer: str) -> None:
    key = gateway.key("refused")
    answer = gateway.request("POST", "/v1/jobs", key=key, json=body)
    assert answer.status_code == 422, answer.text
    assert [problem["pointer"] for problem in answer.json()["detail"]["errors"]][:1] == [pointer]
    assert gateway.request("GET", "/v1/jobs", key=key).json()["jobs"] == []


def test_the_same_key_submits_once(gateway: Gateway, key: str) -> None:
    first, again = (submit(gateway, key, call("add", a=5), **{"Idempotency-Key": "once"}) for _ in range(2))
    assert first == again
    other = gateway.request("POST", "/v1/jobs", key=key, json=call("add", a=6), headers={"Idempotency-Key": "once"})
    assert (other.status_code, other.json()["detail"]["error_code"]) == (422, "IDEMPOTENCY_CONFLICT")


def test_a_batch_is_a_job_with_its_calls_below(gateway: Gateway, key: str) -> None:
    job_id = submit(gateway, key, {"calls": [call("add", a=1), call("nothing"), call("add", a=2)]})
    job = ended(gateway, key, job_id)
    assert job["status"] == "succeeded"
    assert [child["status"] for child in job["children"]] == ["succeeded", "failed", "succeeded"]
    told = [event for _, event in events(gateway, key, job_id)]
    assert [event["type"] for event in told] == ["progress", "progress", "done"]
    assert told[-1]["data"] == {"succeeded": 2, "failed": 1}


def test_a_batch_of_refused_calls_ends_at_once(gateway: Gateway, key: str) -> None:
    job_id = submit(gateway, key, {"calls": [call("nothing"), call("none")]})
    assert ended(gateway, key, job_id)["status"] == "failed"


@pytest.mark.parametrize("unreadable", [{"x": 1}, 5])
@pytest.mark.parametrize("is_submitted", [False, True])
def test_a_call_of_a_batch_that_cannot_be_read_has_its_refusal_for_a_result(
    gateway: Gateway, key: str, is_submitted: bool, unreadable: Any
) -> None:
    body = {"calls": [call("add", a=1), unreadable]}
    if is_submitted:
        batch = submit(gateway, key, body)
    else:
        batch = gateway.request("POST", "/v1/run", key=key, json=body).json()["job_id"]
    child = ended(gateway, key, ended(gateway, key, batch)["children"][1]["id"])
    assert (child["status"], child["children"]) == ("failed", None)
    result = gateway.request("GET", f"/v1/jobs/{child['id']}/result", key=key)
    assert (result.status_code, result.headers["x-job-id"]) == (422, child["id"])
    assert result.json()["detail"] == {**child["error"], "job_id": child["id"]}


def test_cancel_works_while_a_job_waits_and_while_it_runs(gateway: Gateway, key: str) -> None:
    waiting = submit(gateway, key, {**call("fails_until", attempt=9), "retry": {"attempts": 9, "delay": 600}})
    until(lambda: gateway.request("GET", f"/v1/jobs/{waiting}", key=key).json()["attempt"] == 1)
    until(lambda: gateway.request("GET", f"/v1/jobs/{waiting}", key=key).json()["status"] == "queued")
    running = submit(gateway, key, call("sleeps", seconds=60))
    until(lambda: gateway.request("GET", f"/v1/jobs/{running}", key=key).json()["status"] == "running")
    for job_id, method, path in ((waiting, "POST", "/cancel"), (running, "DELETE", "")):
        answer = gateway.request(method, f"/v1/jobs/{job_id}{path}", key=key).json()
        assert answer == {"job_id": job_id, "status": "canceled", "canceled": True}
        assert ended(gateway, key, job_id)["status"] == "canceled"
        assert events(gateway, key, job_id)[-1][1]["error_code"] == "CANCELED"
        assert gateway.request(method, f"/v1/jobs/{job_id}{path}", key=key).json()["canceled"] is False


def test_a_deadline_ends_a_job_in_every_state(gateway: Gateway, key: str) -> None:
    job = ended(gateway, key, submit(gateway, key, call("sleeps", seconds=60), **{"Cancel-After": "500ms"}))
    assert (job["status"], job["error"]["error_code"]) == ("timed_out", "DEADLINE_EXCEEDED")


def test_prefer_turns_a_run_into_a_job(gateway: Gateway, key: str) -> None:
    def run(prefer: str, function: str, **parameters: Any) -> httpx.Response:
        body = {"calls": [call(function, **parameters)]}
        return gateway.request("POST", "/v1/internal/run", key=key, json=body, headers={"Prefer": prefer})

    at_once = run("respond-async", "add", a=1)
    assert (at_once.status_code, at_once.headers["preference-applied"]) == (202, "respond-async")
    assert ended(gateway, key, at_once.json()["job_id"])["result"]["output"] == 3
    in_time = run("respond-async, wait=20", "add", a=2)
    assert (in_time.status_code, in_time.json()["results"][0]["output"]["output"]) == (200, 4)
    too_late = run("wait=1", "sleeps", seconds=3)
    assert too_late.status_code == 202
    assert ended(gateway, key, too_late.json()["job_id"])["status"] == "succeeded"


def test_code_inside_a_call_submits_nothing(gateway: Gateway, tmp_path: Path) -> None:
    source = """
    import os, json, urllib.request, urllib.error

    def submits():
        call = {"prefab_id": "work", "version": "1.0.0", "function_name": "add", "inputs": {"parameters": {"a": 1}}}
        request = urllib.request.Request(os.environ["GATEWAY_BASE_URL"] + "/v1/jobs", json.dumps(call).encode(),
            {"X-Internal-Token": os.environ["X_INTERNAL_TOKEN"]})
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code
    """
    gateway.publish(write_package(tmp_path / "inner", source, prefab_id="inner"))
    with gateway.client() as client:
        assert client.run("inner", "1.0.0", "submits", {}).get_function_result() == 403


def test_nobody_else_sees_or_ends_a_job(gateway: Gateway, key: str) -> None:
    job_id = submit(gateway, key, call("add", a=1))
    other = gateway.key("bob")
    for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/logs"), ("POST", "/cancel"), ("DELETE", "")):
        answer = gateway.request(method, f"/v1/jobs/{job_id}{path}", key=other)
        assert (answer.status_code, answer.json()["detail"]["error_code"]) == (404, "JOB_NOT_FOUND"), path


def test_a_list_goes_on_after_the_id_of_a_job_and_nothing_else(gateway: Gateway) -> None:
    key = gateway.key("reader")
    first, second = (submit(gateway, key, call("add", a=n)) for n in range(2))

    def listed(**query: Any) -> list[str]:
        answer = gateway.request("GET", "/v1/jobs", key=key, params=query)
        return [job["id"] for job in answer.json()["jobs"]]

    assert listed(cursor="") == listed() == [second, first]
    assert listed(cursor=second) == [first]
    for cursor in ("zzz", f"{second} ", first.replace("-", "")):
        answer = gateway.request("GET", "/v1/jobs", key=key, params={"cursor": cursor})
        assert answer.status_code == 422, cursor
        assert [error["pointer"] for error in answer.json()["detail"]["errors"]] == ["/cursor"]


def test_a_batch_of_which_nothing_could_begin_tells_how_its_calls_ended(gateway: Gateway, key: str) -> None:
    body = {"calls": [call("add", a=1)] * 2}
    answer = gateway.request("POST", "/v1/jobs", key=key, json=body, headers={"Cancel-After": "0ms"})
    batch_id = answer.json()["job_id"]
    job = gateway.request("GET", f"/v1/jobs/{batch_id}", key=key).json()
    assert [child["status"] for child in job["children"]] == ["expired"] * 2
    assert events(gateway, key, batch_id)[-1][1]["data"] == {"expired": 2}


@pytest.mark.parametrize("name", ["a%2Fb", "a//b", "%0A", "a%0Ab", "a%0D%0Ab%0A", "%E2%80%A8"])
def test_no_name_of_a_job_makes_it_another_address(gateway: Gateway, key: str, name: str) -> None:
    for method, path in (("POST", "/cancel"), ("DELETE", "")):
        answer = gateway.request(method, f"/v1/jobs/{name}{path}", key=key)
        assert (answer.status_code, answer.json()["detail"]["error_code"]) == (404, "JOB_NOT_FOUND"), path


def test_the_events_of_a_plain_run_end_with_its_result(gateway: Gateway, key: str) -> None:
    body = {"calls": [call("add", a=1)]}
    run = gateway.request("POST", "/v1/internal/run", key=key, json=body).json()
    ((number, event),) = events(gateway, key, run["job_id"])
    assert (number, event["type"], event["data"]["output"]) == (1, "done", 3)
    assert events(gateway, key, run["job_id"], 1) == []


def test_the_events_of_a_plain_run_that_failed_name_its_files(gateway: Gateway, key: str) -> None:
    body = {"calls": [call("fails_with_a_file")]}
    run = gateway.request("POST", "/v1/run", key=key, json=body).json()
    ((_, event),) = events(gateway, key, run["job_id"])
    assert [url.rsplit("/", 1)[1] for urls in event["files"].values() for url in urls] == ["left.txt"]
    assert (event["type"], event["files"]) == ("error", run["results"][0]["output"]["files"])


def test_the_events_of_a_plain_batch_end_as_those_of_a_submitted_one(gateway: Gateway, key: str) -> None:
    body = {"calls": [call("add", a=1), call("add", a=2), call("nothing")]}
    plain = gateway.request("POST", "/v1/run", key=key, json=body).json()["job_id"]
    submitted = submit(gateway, key, body)
    ends = [events(gateway, key, job_id)[-1][1] for job_id in (plain, submitted)]
    assert ends[0] == ends[1] == {"type": "done", "data": {"succeeded": 2, "failed": 1}}


def test_a_thousand_jobs_of_one_do_not_keep_another_waiting(gateway: Gateway) -> None:
    crowd, single = gateway.key("crowd"), gateway.key("single")
    batch = submit(gateway, crowd, {"calls": [call("sleeps", seconds=0.5)] * 200})
    until(lambda: gateway.request("GET", "/v1/jobs?status=running", key=crowd).json() is not None)
    begun = time.monotonic()
    job = ended(gateway, single, submit(gateway, single, call("add", a=1)))
    took = time.monotonic() - begun
    children = gateway.request("GET", f"/v1/jobs/{batch}", key=crowd).json()["children"]
    waiting = sum(child["ended_at"] is None for child in children)
    gateway.request("DELETE", f"/v1/jobs/{batch}", key=crowd)
    assert job["status"] == "succeeded"
    assert waiting > 50, f"the crowd was through already after {took:.1f} s: the test shows nothing"
    assert ended(gateway, crowd, batch)["status"] in ("succeeded", "canceled")


def test_priorities_order_the_jobs_of_one_user(gateway: Gateway) -> None:
    key = gateway.key("orderly")
    blocked = submit(gateway, key, {"calls": [call("sleeps", seconds=1.0)] * 24})
    low = [submit(gateway, key, {**call("add", a=n), "priority": -1}) for n in range(3)]
    high = [submit(gateway, key, {**call("add", a=n), "priority": 5}) for n in range(3)]
    started = {job_id: ended(gateway, key, job_id)["started_at"] for job_id in (*low, *high)}
    ended(gateway, key, blocked)
    assert max(started[job_id] for job_id in high) < min(started[job_id] for job_id in low)


def test_a_job_that_says_too_much_is_ended(gateway: Gateway, key: str) -> None:
    job_id = submit(gateway, key, call("floods", count=200, size=500_000))
    job = ended(gateway, key, job_id)
    assert (job["status"], job["error"]["error_code"]) == ("failed", "PAYLOAD_TOO_LARGE")
