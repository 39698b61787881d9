"""Files that functions of the SDK's fake write."""

import asyncio

import pytest

from gateway_sdk.testing import FakeGateway, Output

WHERE = ("zoo", "1.0.0")


def plain():
    return Output({"n": 1}, {"output": {"a.txt": b"a"}})


def yields():
    yield {"type": "progress", "data": 1}
    return Output({"n": 1}, {"output": {"a.txt": b"a"}})


def tells_done():
    yield {"type": "done", "data": Output({"n": 1}, {"output": {"a.txt": b"a"}})}


async def waits():
    await asyncio.sleep(0)
    return Output({"n": 1}, {"output": {"a.txt": b"a"}})


@pytest.fixture
def fake():
    gateway = FakeGateway()
    for function in (plain, yields, tells_done, waits):
        gateway.prefab(*WHERE)(function)
    return gateway


@pytest.mark.parametrize("name", ["plain", "yields", "tells_done", "waits"])
def test_files_come_with_the_result_however_it_is_asked_for(fake, name):
    client = fake.client()
    run = client.run(*WHERE, name, {})
    job = client.submit(*WHERE, name, {})
    results = [run, job.result(timeout=5), client.job(run.job_id).result(timeout=5)]
    assert [result.get_result() for result in results] == [{"n": 1}] * 3
    last = [list(client.run(*WHERE, name, {}, stream=True))[-1], list(job.events())[-1]]
    for files in [result.get_files() for result in results] + [event.files for event in last]:
        (url,) = files["output"]
        assert url.endswith("/a.txt")
        assert "/prefab-outputs/user/" in url
        assert fake.files[url] == b"a"
    assert f"/{run.job_id}/" in run.get_file_urls()[0]


def test_two_files_of_one_name_are_two_files(fake):
    @fake.prefab(*WHERE)
    def twice():
        return Output(None, {"one": {"a.txt": b"1"}, "two": {"a.txt": b"2", "b/c": b"3"}})

    result = fake.client().run(*WHERE, "twice", {})
    assert [fake.files[url] for url in result.get_file_urls()] == [b"1", b"2", b"3"]
    assert [url.partition(f"{result.job_id}/")[2] for url in result.get_file_urls()] == ["a.txt", "a (2).txt", "b/c"]
    assert result.get_result() is None


def test_outputs_are_inputs_of_the_next_call(fake):
    @fake.prefab(*WHERE)
    def size(files):
        return {key: [len(fake.files[url]) for url in urls] for key, urls in files.items()}

    client = fake.client()
    files = client.run(*WHERE, "plain", {}).get_files()
    assert client.run(*WHERE, "size", {}, files).get_result() == {"output": [1]}
