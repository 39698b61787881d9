"""Jobs through the SDK, both clients, against a real gateway: submitted, followed, resumed, canceled."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package

from gateway_sdk import (
    AsyncGatewayClient,
    ConflictError,
    DeadlineExceededError,
    GatewayClient,
    JobNotFoundError,
    JobStatus,
    PrefabCall,
    RuntimeCrashedError,
    StreamEventType,
    ValidationError,
)

WORK = """
import os
import time

def add(a: int, b: int = 2):
    print("adding")
    return a + b

def sleeps(seconds: float):
    time.sleep(seconds)

def counts(n: int, delay: float = 0.0):
    for i in range(n):
        yield {"type": "content", "data": str(i)}
        time.sleep(delay)

def fails_until(attempt: int):
    if int(os.environ["GATEWAY_ATTEMPT"]) < attempt:
        raise RuntimeError("not yet")
    return "at last"

def crashes():
    os._exit(3)
"""
WHERE = ("work", "1.0.0")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("sdk-jobs")
    with running_gateway(folder / "data") as started:
        started.publish(write_package(folder / "work", WORK, prefab_id="work"))
        yield started


@pytest.fixture
def client(gateway: Gateway) -> Iterator[GatewayClient]:
    with gateway.client() as made:
        yield made


def test_a_job_gives_what_a_run_gives(client: GatewayClient) -> None:
    job = client.submit(*WHERE, "add", {"a": 1})
    result = job.result(timeout=30)
    assert (result.get_result(), result.job_id, result.version) == (3, job.id, "1.0.0")
    assert job.status() == JobStatus.SUCCEEDED == "succeeded"
    assert job.logs() == "adding\n"
    assert job.cancel() is False
    assert client.job(job.id).result().get_result() == 3


def test_events_have_ids_and_go_on_where_they_were_left(client: GatewayClient) -> None:
    job = client.submit(*WHERE, "counts", {"n": 20, "delay": 0.01})
    first = []
    for event in job.events():
        first.append(event)
        if event.data == "4":
            break
    assert first[0].type == StreamEventType.START
    rest = list(job.events(after=first[-1].id or 0))
    whole = [*first, *rest]
    assert [event.id for event in whole] == list(range(1, 23))
    assert [event.data for event in whole[1:-1]] == [str(i) for i in range(20)]
    assert whole[-1].type == StreamEventType.DONE
    assert list(job.events(after=22)) == []


def test_events_go_on_through_a_restart(gateway: Gateway, tmp_path: Path) -> None:
    with running_gateway(tmp_path / "data") as own:
        own.publish(write_package(tmp_path / "work", WORK, prefab_id="work"))
        port = own.url.rsplit(":", 1)[1]
        with own.client() as client:
            job = client.submit(*WHERE, "counts", {"n": 30, "delay": 0.1})
            seen: list[Any] = []
            for event in job.events():
                seen.append(event)
                if len(seen) == 4:
                    assert own.process
                    own.process.kill()
                    own.process.wait()
                    own._arguments = ("--port", port)
                    own.start()
            assert [event.id for event in seen] == list(range(1, len(seen) + 1))
            assert [event.data["attempt"] for event in seen if event.type == "start"] == [1, 2]
            assert seen[-1].type == StreamEventType.DONE
            assert job.result().get_result() == {"content": "".join(str(i) for i in range(30))}


def test_attempts_are_told(client: GatewayClient) -> None:
    job = client.submit(*WHERE, "fails_until", {"attempt": 2}, attempts=3, retry_delay=0.01)
    assert job.result(timeout=30).get_result() == "at last"
    assert [event.type for event in job.events()] == ["start", "retry", "start", "done"]


def test_what_went_wrong_is_raised_as_a_run_would(client: GatewayClient) -> None:
    with pytest.raises(RuntimeCrashedError) as crashed:
        client.submit(*WHERE, "crashes", {}).result(timeout=30)
    assert crashed.value.job_id
    failed = client.submit(*WHERE, "fails_until", {"attempt": 2}).result(timeout=30)
    assert (failed.is_success(), failed.get_business_error_code()) == (False, "PREFAB_ERROR")
    with pytest.raises(DeadlineExceededError):
        client.submit(*WHERE, "sleeps", {"seconds": 60}, deadline=0.5).result(timeout=30)
    with pytest.raises(ValidationError):
        client.submit(*WHERE, "add", {"a": "one"})
    with pytest.raises(ValidationError):
        client.submit(*WHERE, "add", {"a": 1}, attempts=11)
    with pytest.raises(JobNotFoundError):
        client.job("none").result(timeout=5)


def test_waiting_has_an_end_and_the_job_goes_on(client: GatewayClient) -> None:
    job = client.submit(*WHERE, "sleeps", {"seconds": 30})
    begun = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="goes on"):
        job.result(timeout=0.3)
    assert time.monotonic() - begun < 5
    until(lambda: job.status() == "running")
    assert job.cancel() is True
    result = job.result(timeout=10)
    assert result.get_business_error_code() == "CANCELED"


def test_a_submission_has_a_name(client: GatewayClient) -> None:
    first, again = (client.submit(*WHERE, "add", {"a": 9}, idempotency_key="nine") for _ in range(2))
    assert first.id == again.id
    with pytest.raises(ConflictError):
        client.submit(*WHERE, "add", {"a": 8}, idempotency_key="nine")


def test_a_batch_is_one_job(client: GatewayClient) -> None:
    calls = [PrefabCall(*WHERE, "add", {"a": n}) for n in range(3)]
    batch = client.submit_batch([*calls, PrefabCall(*WHERE, "nothing", {})]).result(timeout=30)
    assert [result.get_result() for result in batch.results] == [2, 3, 4, None]
    assert batch.status == "PARTIAL_SUCCESS"
    assert client.submit_batch(calls[:1]).result(timeout=30).results[0].get_result() == 2


def test_the_asynchronous_client_does_the_same(gateway: Gateway) -> None:
    async def main() -> None:
        client = AsyncGatewayClient(gateway.token("ann", "helper"), gateway.url)
        job = await client.submit(*WHERE, "counts", {"n": 5})
        events = [event async for event in job.events()]
        assert [event.id for event in events] == list(range(1, 8))
        assert (await job.result(timeout=10)).get_result() == {"content": "01234"}
        assert await job.status() == "succeeded"
        jobs = await asyncio.gather(*(client.submit(*WHERE, "add", {"a": n}) for n in range(20)))
        results = await asyncio.gather(*(job.result(timeout=30) for job in jobs))
        assert [result.get_result() for result in results] == [n + 2 for n in range(20)]

    asyncio.run(main())
