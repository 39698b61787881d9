"""The SDK's fake takes its time as a gateway does: loops go on, deadlines count, and what is left ends."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from gateway_sdk import DeadlineExceededError, PrefabCall, StreamEventType
from gateway_sdk.testing import FakeGateway

WHERE = ("zoo", "1.0.0")


@pytest.fixture
def fake():
    return FakeGateway()


def test_asynchronous_calls_run_at_once_and_the_loop_goes_on(fake):
    at_once = threading.Barrier(4, timeout=10)

    @fake.prefab(*WHERE)
    async def meet():
        await asyncio.to_thread(at_once.wait)

    @fake.prefab(*WHERE)
    def meet_plainly():
        at_once.wait()

    async def main(name):
        client = fake.async_client()
        results = await asyncio.gather(*[client.run(*WHERE, name, {}) for _ in range(4)])
        assert all(result.is_success() for result in results)

    asyncio.run(main("meet"))
    asyncio.run(main("meet_plainly"))


def test_calls_of_a_batch_run_at_once_if_they_are_slow_and_in_turn_if_not(fake):
    at_once, seen = threading.Barrier(3, timeout=10), []

    @fake.prefab(*WHERE)
    def meet():
        at_once.wait()

    @fake.prefab(*WHERE)
    def note(n):
        seen.append(n)

    client = fake.client()
    assert client.run_batch([PrefabCall(*WHERE, "meet", {})] * 3).all_success()
    assert client.run_batch([PrefabCall(*WHERE, "note", {"n": n}) for n in range(30)]).all_success()
    assert seen == list(range(30))


def test_a_timeout_of_the_caller_cancels_the_run(fake):
    left = threading.Event()

    @fake.prefab(*WHERE)
    async def hang():
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await fake.async_client().run(*WHERE, "hang", {})
        assert await asyncio.to_thread(left.wait, 5)
        assert len(fake.cancelled) == 1

    asyncio.run(main())


@pytest.mark.parametrize("way", ["run", "run_batch", "stream"])
def test_a_timeout_of_the_client_ends_what_hangs(fake, way):
    release = threading.Event()

    @fake.prefab(*WHERE)
    def hang():
        release.wait(20)

    @fake.prefab(*WHERE)
    def silent():
        yield "a"
        release.wait(20)

    client = fake.client(timeout=0.3)
    begun = time.monotonic()
    if way == "run_batch":
        batch = client.run_batch([PrefabCall(*WHERE, "hang", {})] * 2)
        assert [result.error["error_code"] for result in batch.results] == ["DEADLINE_EXCEEDED"] * 2
    else:
        with pytest.raises(DeadlineExceededError):
            list(client.run(*WHERE, "silent", {}, stream=True)) if way == "stream" else client.run(*WHERE, "hang", {})
    assert time.monotonic() - begun < 10
    release.set()


@pytest.mark.parametrize("leave", ["close", "break", "with"])
def test_a_generator_has_left_when_its_stream_has(fake, leave):
    said = []

    @fake.prefab(*WHERE)
    def count():
        try:
            for number in range(10**9):
                said.append(number)
                yield str(number)
        finally:
            said.append("left")

    stream = fake.client().run(*WHERE, "count", {}, stream=True)
    if leave == "with":
        with stream:
            next(stream), next(stream), next(stream)
    else:
        next(stream), next(stream), next(stream)
        stream.close()
    assert said == [0, 1, "left"]
    assert fake.cancelled == [stream.job_id]


def test_an_asynchronous_generator_has_left_when_its_stream_has(fake):
    said = []

    @fake.prefab(*WHERE)
    async def count():
        try:
            for number in range(10**9):
                yield str(number)
                await asyncio.sleep(0)
        finally:
            said.append("left")

    async def main():
        async with fake.async_client().run(*WHERE, "count", {}, stream=True) as stream:
            async for event in stream:
                if event.type == StreamEventType.CONTENT:
                    break
        assert said == ["left"]

    asyncio.run(main())


def test_a_start_of_its_own_is_told_once(fake):
    @fake.prefab(*WHERE)
    def own():
        yield {"type": "start", "data": {"mine": 1}}

    @fake.prefab(*WHERE)
    def late():
        time.sleep(0.2)
        yield {"type": "start", "data": {"mine": 1}}

    client = fake.client()
    assert [event.data for event in client.run(*WHERE, "own", {}, stream=True)] == [{"mine": 1}, None]
    stream = client.run(*WHERE, "late", {}, stream=True)
    assert [event.data for event in stream] == [{"job_id": stream.job_id}, {"mine": 1}, None]


def test_a_job_that_runs_is_canceled(fake):
    begun, left = threading.Event(), threading.Event()

    @fake.prefab(*WHERE)
    async def hang():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    job = fake.client().submit(*WHERE, "hang", {})
    assert begun.wait(5)
    assert job.status() == "running"
    assert job.cancel()
    assert left.is_set()
    assert not fake.client().cancel_job(job.id)["canceled"]
    assert fake.cancelled == [job.id]
    assert job.result(timeout=5).error["error_code"] == "CANCELED"


HALF_READ = """
import asyncio, threading
from gateway_sdk.testing import FakeGateway

fake = FakeGateway()

@fake.prefab("zoo", "1.0.0")
async def count():
    for number in range(10**9):
        yield str(number)

stream = fake.client().run("zoo", "1.0.0", "count", {}, stream=True)
next(stream), next(stream)

async def main():
    async for event in fake.async_client().run("zoo", "1.0.0", "count", {}, stream=True):
        if event.type == "content":
            break

asyncio.run(main())
"""


def test_a_program_that_has_half_read_a_stream_ends_quietly():
    ended = subprocess.run([sys.executable, "-W", "error", "-c", HALF_READ], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_what_the_keyboard_interrupts_is_the_test(fake):
    @fake.prefab(*WHERE)
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fake.client().run(*WHERE, "stop", {})


def test_the_context_of_the_caller_is_that_of_the_function(fake):
    import contextvars

    request = contextvars.ContextVar("request", default="none")

    @fake.prefab(*WHERE)
    def tell():
        return request.get()

    async def main():
        request.set("async")
        return (await fake.async_client().run(*WHERE, "tell", {})).get_result()

    request.set("sync")
    assert fake.client().run(*WHERE, "tell", {}).get_result() == "sync"
    assert asyncio.run(main()) == "async"


def test_what_a_function_prints_is_shown_and_is_the_log_of_its_job_alone(fake, capsys):
    together = threading.Barrier(2, timeout=10)

    @fake.prefab(*WHERE)
    def say(word):
        together.wait()
        print(word)
        print(word.upper(), file=sys.stderr)

    client = fake.client()
    batch = client.run_batch([PrefabCall(*WHERE, "say", {"word": word}) for word in ("one", "two")])
    logs = [client.job(result.job_id).logs() for result in batch.results]
    assert logs == ["one\nONE\n", "two\nTWO\n"]
    assert sorted(capsys.readouterr().out.split()) == ["one", "two"]
    assert "--- " in client.job(batch.job_id).logs()


def test_threads_end_with_their_jobs(fake):
    fake.prefab(*WHERE, "nothing")(lambda: None)
    before = threading.active_count()
    job = fake.client().submit(*WHERE, "nothing", {}, deadline=3600)
    assert job.result(timeout=5).is_success()
    for _ in range(500):
        if threading.active_count() <= before:
            break
        threading.Event().wait(0.01)
    assert threading.active_count() <= before


def test_a_job_that_rests_is_canceled(fake):
    @fake.prefab(*WHERE)
    def fail():
        raise ValueError("no luck")

    client = fake.client()
    job = client.submit(*WHERE, "fail", {}, attempts=3, retry_delay=3600)
    for event in job.events():
        if event.type == "retry":
            break
    assert job.status() == "queued"
    assert job.cancel()
    assert [event.type for event in job.events()] == ["start", "retry", "error"]
    assert client.get_job(job.id)["attempt"] == 1


def test_a_job_that_would_rest_beyond_its_deadline_ends_as_it_failed(fake):
    @fake.prefab(*WHERE)
    def fail():
        raise ValueError("no luck")

    calls = [PrefabCall(*WHERE, "fail", {})] * 2
    job = fake.client().submit_batch(calls, attempts=3, retry_delay=3600, deadline=60)
    assert [result.error["message"] for result in job.result(timeout=5).results] == ["no luck", "no luck"]


def test_a_batch_is_canceled_as_a_whole(fake):
    @fake.prefab(*WHERE)
    async def hang():
        await asyncio.sleep(60)

    @fake.prefab(*WHERE)
    def quick():
        return 1

    job = fake.client().submit_batch([PrefabCall(*WHERE, name, {}) for name in ("quick", "hang", "hang")])
    for event in job.events():
        if event.type == "progress":
            break
    assert job.cancel()
    assert fake.cancelled == [job.id]
    batch = job.result(timeout=5)
    assert [(result.error or {}).get("error_code") for result in batch.results] == [None, "CANCELED", "CANCELED"]
    assert fake.client().get_job(job.id)["status"] == "succeeded"


def test_prefabs_call_prefabs(fake):
    @fake.prefab(*WHERE)
    def inner(n):
        print("inner")
        return n + 1

    @fake.prefab(*WHERE)
    def outer(n):
        print("outer")
        return fake.client().run(*WHERE, "inner", {"n": n}).get_result()

    result = fake.client().run(*WHERE, "outer", {"n": 1})
    assert result.get_result() == 2
    assert fake.client().job(result.job_id).logs() == "outer\n"
