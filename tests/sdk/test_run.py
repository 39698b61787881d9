"""Run, batch and errors, against a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from stub_gateway import Step, StubGateway

import gateway_sdk
from gateway_sdk import (
    AsyncGatewayClient,
    AuthenticationError,
    ConnectionFailedError,
    DeadlineExceededError,
    GatewayClient,
    GatewayError,
    OverloadedError,
    PrefabCall,
    PrefabNotFoundError,
    QuotaExceededError,
    RuntimeCrashedError,
    ServiceUnavailableError,
    ValidationError,
)

RUN = ("zoo", "1.0.0", "echo")


def test_run_gives_the_function_s_value(client, stub):
    result = client.run(*RUN, {"text": "你好", "n": [1, None]})
    assert result.status == "SUCCESS"
    assert result.get_function_result() == {"text": "你好", "n": [1, None]}
    assert result.output == {"status": "SUCCESS", "output": {"text": "你好", "n": [1, None]}, "files": {}}
    assert result.job_id
    assert result.get_files() == {}


def test_run_sends_what_the_contract_says(client, stub):
    stub.fake.files["s3://b/x.pdf"] = b"%PDF"
    client.run(*RUN, {}, files={"input": ["s3://b/x.pdf"]})
    asked = stub.requests[0]
    assert (asked.method, asked.path) == ("POST", "/v1/internal/run")
    inputs = {"parameters": {}, "files": {"input": ["s3://b/x.pdf"]}}
    call = {"prefab_id": "zoo", "version": "1.0.0", "function_name": "echo", "inputs": inputs}
    assert json.loads(asked.body) == {"calls": [call], "stream": False}
    assert asked.headers["x-internal-token"] == "token"
    assert asked.headers["idempotency-key"].startswith("auto-")
    assert len(asked.headers["idempotency-key"]) == len("auto-") + 32
    assert 4000 < int(asked.headers["cancel-after"].removesuffix("ms")) <= 5000


def test_without_a_token_none_is_sent(stub):
    GatewayClient(base_url=stub.url).run(*RUN, {})
    assert "x-internal-token" not in stub.requests[0].headers


def test_a_function_that_raises_is_a_result(client):
    result = client.run("zoo", "1.0.0", "fail", {})
    assert not result.is_success()
    assert result.error["error_code"] == "PREFAB_ERROR"
    assert result.get_business_error() == "no luck"
    assert result.get_function_result() == {}


def test_a_function_that_returns_nothing_gives_an_empty_dict(client):
    assert client.run("zoo", "1.0.0", "nothing", {}).get_function_result() == {}


def test_batch_keeps_order_and_own_job_ids(client):
    calls = [PrefabCall(*RUN, {"n": 1}), PrefabCall("none", "1.0.0", "x", {}), PrefabCall(*RUN, {"n": 3})]
    batch = client.run_batch(calls)
    assert [result.is_success() for result in batch.results] == [True, False, True]
    assert batch.status == "PARTIAL_SUCCESS"
    assert batch.results[2].get("n") == 3
    assert len({batch.job_id, *(result.job_id for result in batch.results)} - {None}) == 4
    assert batch.get_failed() == [batch.results[1]]
    assert not batch.all_success()


def test_unknown_prefab(client, stub):
    with pytest.raises(PrefabNotFoundError, match="There is no prefab gone") as caught:
        client.run("gone", "2.0.0", "f", {})
    assert (caught.value.prefab_id, caught.value.version, caught.value.status_code) == ("gone", "2.0.0", 404)
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"video": ["/tmp/a.mp4"]}, "'/tmp/a.mp4'"),
        ({"video": "s3://b/x"}, "must be a list"),
        ({"video": [b"s3://b/x"]}, "no s3:// URL"),
        (["s3://b/x"], "must be a dict"),
        ({"video": None}, "NoneType"),
    ],
)
def test_files_that_are_no_s3_urls_never_leave(client, stub, files, said):
    with pytest.raises(ValidationError, match=said) as caught:
        client.run(*RUN, {}, files=files)
    assert caught.value.errors[0]["pointer"].startswith("/files/")
    assert not stub.requests


@pytest.mark.parametrize("value", [object(), float("nan"), b"bytes", "\ud800"])
def test_parameters_that_are_no_json_never_leave(client, stub, value):
    with pytest.raises(ValidationError, match="cannot be sent as JSON"):
        client.run(*RUN, {"value": value})
    assert not stub.requests


@pytest.mark.parametrize("cut", ["unread", "before", "head", "body"])
def test_a_cut_connection_is_retried_with_the_same_key(client, stub, cut):
    stub.script.append(Step(cut=cut))
    assert client.run(*RUN, {"n": 1}).get("n") == 1
    first, second = stub.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert int(first.headers["cancel-after"][:-2]) > int(second.headers["cancel-after"][:-2])
    assert len(stub.fake.calls) == 1


def test_retries_end(client, stub):
    stub.script.extend([Step(cut="before")] * 3)
    with pytest.raises(ConnectionFailedError):
        client.run(*RUN, {})
    assert len(stub.requests) == 3


def test_no_retries_on_request(stub):
    stub.script.append(Step(cut="before"))
    with pytest.raises(ConnectionFailedError):
        GatewayClient("t", stub.url, max_retries=0).run(*RUN, {})


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("busy", details={"retry_after": 0}),
        ServiceUnavailableError("starting"),
        QuotaExceededError("slow down", details={"retry_after": 0.01}),
    ],
)
def test_passing_failures_are_retried(client, stub, error):
    stub.fake.fail_next(error)
    assert client.run(*RUN, {}).is_success()
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    "error",
    [
        RuntimeCrashedError("died"),
        DeadlineExceededError("late"),
        QuotaExceededError("tomorrow", details={"retry_after": 6, "limit": 5, "used": 5}),
        QuotaExceededError("tomorrow"),
        ValidationError("no"),
        GatewayError("what", error_code="SOMETHING_NEW", status_code=418),
    ],
)
def test_final_failures_are_not_retried(client, stub, error):
    stub.fake.fail_next(error)
    with pytest.raises(type(error)) as caught:
        client.run(*RUN, {})
    assert type(caught.value) is type(error)
    assert caught.value.error_code == error.error_code
    assert len(stub.requests) == 1


def test_a_retry_that_would_pass_the_deadline_is_not_waited_for(stub):
    stub.fake.fail_next(OverloadedError("busy", details={"retry_after": 20}))
    with pytest.raises(OverloadedError):
        GatewayClient("t", stub.url, timeout=1).run(*RUN, {})
    assert len(stub.requests) == 1


def test_a_silent_gateway_is_left_after_timeout_and_grace(stub, monkeypatch):
    monkeypatch.setattr("gateway_sdk._session.GRACE", 0.1)
    release = threading.Event()
    stub.script.append(Step(hold=release))
    with pytest.raises(DeadlineExceededError, match=r"0.1 s"):
        GatewayClient("t", stub.url, timeout=0.1).run(*RUN, {})
    release.set()
    assert len(stub.requests) == 1


@pytest.mark.parametrize("way", ["run", "batch", "stream"])
def test_a_call_that_nobody_waits_for_any_more_is_canceled_by_its_key(stub, way):
    release = threading.Event()

    async def call() -> None:
        client = AsyncGatewayClient("t", stub.url)
        if way == "stream":
            await anext(client.run(*RUN, {}, stream=True))
        else:
            await (client.run_batch([PrefabCall(*RUN, {})] * 2) if way == "batch" else client.run(*RUN, {}))

    async def leave() -> None:
        task = asyncio.create_task(call())
        while not stub.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    stub.script.append(Step(hold=release))
    asyncio.run(leave())
    for thread in threading.enumerate():
        if thread.name == "gateway-sdk-cancel":
            thread.join(5)
    release.set()
    key = stub.requests[0].headers["idempotency-key"]
    assert stub.requests[-1].path == f"/v1/jobs/{key}/cancel"


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 20\r\n\r\n<html>nginx</html>  ",
            ServiceUnavailableError,
            "HTTP 502",
        ),
        (b'HTTP/1.1 422 X\r\ncontent-length: 20\r\n\r\n{"detail": "so not"}', ValidationError, "so not"),
        (b"HTTP/1.1 302 X\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", GatewayError, "/login"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", GatewayError, "not JSON"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", GatewayError, "no JSON object"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", GatewayError, "no result"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", ConnectionFailedError, "no HTTP answer"),
    ],
)
def test_answers_of_strangers(stub, raw, kind, said):
    stub.script.append(Step(raw=raw, then_close=True))
    with pytest.raises(kind, match=said):
        GatewayClient("t", stub.url, max_retries=0).run(*RUN, {})


def test_nobody_listens():
    with pytest.raises(ConnectionFailedError, match=r"cannot connect to 127.0.0.1:1"):
        GatewayClient("t", "http://127.0.0.1:1").run(*RUN, {})


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x", "http://", "http://a:b", "http://u@x", "http://a b"])
def test_addresses_that_are_none(address):
    with pytest.raises(GatewayError, match="no address"):
        GatewayClient("t", address).run(*RUN, {})


def test_a_token_cannot_smuggle_headers(stub):
    with pytest.raises(GatewayError, match="line break"):
        GatewayClient("t\r\nX-Evil: 1", stub.url).run(*RUN, {})
    assert not stub.requests


def test_jobs(client, stub):
    job_id = client.run(*RUN, {}).job_id
    assert client.get_job(job_id)["status"] == "succeeded"
    assert client.cancel_job(job_id)["status"] == "succeeded"
    with pytest.raises(gateway_sdk.JobNotFoundError):
        client.get_job("../x y")
    assert stub.requests[-1].path == "/v1/jobs/../x y"


def test_async_does_the_same(async_client, stub):
    async def main():
        stub.script.append(Step(cut="before"))
        result = await async_client.run(*RUN, {"n": 1})
        assert result.get("n") == 1
        batch = await async_client.run_batch([PrefabCall(*RUN, {"n": n}) for n in range(3)])
        assert batch.all_success()
        with pytest.raises(PrefabNotFoundError):
            await async_client.run("gone", "1.0.0", "f", {})
        results = await asyncio.gather(*[async_client.run(*RUN, {"n": n}) for n in range(20)])
        assert [result.get("n") for result in results] == list(range(20))

    asyncio.run(main())


def test_a_cancelled_async_run_leaves_its_connection(async_client, stub):
    release = threading.Event()

    async def main():
        stub.script.append(Step(hold=release))
        task = asyncio.create_task(async_client.run(*RUN, {"n": 1}))
        await asyncio.to_thread(stub.wait_for, "/v1/internal/run")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert (await async_client.run(*RUN, {"n": 2})).get("n") == 2

    asyncio.run(main())


def test_api_keys_are_converted_once(stub: StubGateway):
    stub.fake.api_keys["sk-1"] = "converted"
    stub.fake.tokens = {"converted"}
    for _ in range(3):
        assert GatewayClient.from_api_key("sk-1", stub.url).run(*RUN, {}).is_success()
    assert stub.paths().count("POST /v1/auth/convert_to_internal_token") == 1
    with pytest.raises(gateway_sdk.AuthenticationError, match="API key"):
        GatewayClient.from_api_key("sk-2", stub.url)

    async def main():
        client = await AsyncGatewayClient.from_api_key("sk-1", stub.url)
        return (await client.run(*RUN, {})).is_success()

    assert asyncio.run(main())


def with_an_ended_token(stub: StubGateway) -> GatewayClient:
    """A client made from a key, whose token has ended since; the key gives another."""
    stub.fake.api_keys["sk-1"] = "first"
    stub.fake.tokens = {"first"}
    client = GatewayClient.from_api_key("sk-1", stub.url)
    stub.fake.api_keys["sk-1"] = "second"
    stub.fake.tokens = {"second"}
    return client


def test_a_client_outlives_its_converted_token(stub: StubGateway):
    client = with_an_ended_token(stub)
    assert client.run(*RUN, {}).is_success()


@pytest.mark.parametrize(
    ("given", "told"), [(None, "of the type NoneType"), ("", "an empty text"), (b"sk-1", "of the type bytes")]
)
def test_what_is_no_key_is_said_in_a_sentence(stub: StubGateway, given: Any, told: str):
    with pytest.raises(AuthenticationError, match=told) as raised:
        GatewayClient.from_api_key(given, stub.url)
    assert "sk-1" not in str(raised.value)
    assert not stub.requests


def test_a_stream_of_a_client_outlives_its_converted_token(stub: StubGateway):
    client = with_an_ended_token(stub)
    with client.run(*RUN, {}, stream=True) as events:
        assert [event.type for event in events][-1] == "done"


def test_environment(stub, monkeypatch):
    monkeypatch.setenv("GATEWAY_BASE_URL", stub.url + "/")
    monkeypatch.setenv("X_INTERNAL_TOKEN", "of-the-call")
    client = GatewayClient()
    assert client.base_url == stub.url
    client.run(*RUN, {})
    assert stub.requests[0].headers["x-internal-token"] == "of-the-call"
    monkeypatch.delenv("GATEWAY_BASE_URL")
    assert GatewayClient().base_url == "http://agent-builder-gateway.default.svc.cluster.local"
