"""What uploads tell while they run, and how they use several connections."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from stub_gateway import Step

from gateway_sdk import AsyncGatewayClient, ConnectionFailedError, GatewayClient, GatewayError
from gateway_sdk.testing import FakeGateway

METHODS = ("upload_file", "upload_temp_file", "upload_input_file")
PART = 3_000_000


class Direct:
    """Both clients, over their own sockets."""

    def __init__(self, stub):
        self.fake = stub.fake
        self.sync = GatewayClient("t", stub.url, timeout=5)
        self.aio = AsyncGatewayClient("t", stub.url, timeout=5)


class InMemory:
    """Both clients of the fake, through httpx."""

    def __init__(self, _stub):
        self.fake = FakeGateway(part_size=PART)
        self.sync, self.aio = self.fake.client(), self.fake.async_client()


@pytest.fixture(params=["sync-direct", "async-direct", "sync-fake", "async-fake"])
def upload(request, stub):
    """Uploads with one of the clients; the gateway's memory is `upload.fake`."""
    kind, way = request.param.split("-")
    clients = (Direct if way == "direct" else InMemory)(stub)

    def upload(method, path, **options):
        if kind == "sync":
            return getattr(clients.sync, method)(path, **options)
        return asyncio.run(getattr(clients.aio, method)(path, **options))

    upload.fake = clients.fake
    return upload


@pytest.fixture(params=[0, 700_000, 10_000_000, 9 * PART], ids=["empty", "small", "large", "larger"])
def file(request, tmp_path, stub):
    stub.fake._store.part_size = PART
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(request.param))
    return path


@pytest.fixture
def large(tmp_path, stub):
    stub.fake._store.part_size = PART
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(10_000_000))
    return path


def rises(seen, size):
    """Never back, no call for nothing, at the end the whole."""
    done = [count for count, _ in seen]
    assert done == sorted(set(done))
    assert {total for _, total in seen} == {size}
    assert done[-1] == size


@pytest.mark.parametrize("method", METHODS)
def test_progress_rises_to_the_whole(upload, file, method):
    seen = []
    stored = upload(method, file, progress=lambda done, total: seen.append((done, total)))
    size = file.stat().st_size
    assert upload.fake.files[stored] == file.read_bytes()
    rises(seen, size)
    assert len(seen) >= size // 262_144  # block by block, not only at the end


@pytest.mark.parametrize("cut", ["unread", "before", "head"])
def test_what_is_sent_again_is_not_told_again(upload, stub, large, cut):
    seen = []
    stub.script.extend([Step(), Step(), Step(cut=cut), Step(cut=cut), Step(), Step(cut=cut)])
    stored = upload("upload_file", large, progress=lambda done, total: seen.append((done, total)))
    assert upload.fake.files[stored] == large.read_bytes()
    rises(seen, 10_000_000)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("upload_file", ValueError("no")),
        ("upload_temp_file", OSError(5, "no")),
        ("upload_input_file", TimeoutError()),
        ("upload_input_file", ConnectionFailedError("no")),
    ],
)
def test_what_the_callback_raises_ends_the_upload(upload, file, method, error):
    calls = []

    def progress(done, total):
        calls.append(done)
        raise error

    with pytest.raises(type(error)) as caught:
        upload(method, file, progress=progress)
    assert caught.value is error
    assert (error.__cause__, error.__suppress_context__) == (None, True)
    assert len(calls) == 1
    assert upload.fake.unfinished_uploads == 0
    if file.stat().st_size > 8 << 20:
        assert not upload.fake.files


def test_an_end_of_the_program_is_passed_on(large, stub, client):
    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload_file(large, progress=progress)
    assert stub.fake.unfinished_uploads == 0
    assert client.upload_file(large)


def puts(stub):
    return [asked for asked in stub.requests if asked.method == "PUT"]


@pytest.mark.parametrize("upload", ["sync-direct", "async-direct"], indirect=True)
def test_four_parts_leave_at_once_and_no_more(upload, stub, tmp_path):
    stub.fake._store.part_size = PART
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(7 * PART))
    go = threading.Event()
    stub.script.extend([Step(), *[Step(hold=go)] * 7])
    stored = []
    thread = threading.Thread(target=lambda: stored.append(upload("upload_file", path)))
    thread.start()
    try:
        assert any(len(puts(stub)) >= 4 or time.sleep(0.01) for _ in range(500))
        time.sleep(0.1)  # a fifth would come now
        assert len(puts(stub)) == 4
    finally:
        go.set()
        thread.join(20)
    assert upload.fake.files[stored[0]] == path.read_bytes()
    assert stub.peak == 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gateway-sdk-upload")]


def test_a_part_that_is_refused_stops_the_others(stub, tmp_path, client):
    stub.fake._store.part_size = PART
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(40 * PART))
    stub.script.extend([Step(), Step(raw=b"HTTP/1.1 507 X\r\ncontent-length: 4\r\n\r\nfull")])
    with pytest.raises(GatewayError, match="full"):
        client.upload_file(path)
    assert len(puts(stub)) < 20
    assert stub.paths()[-1].startswith("DELETE ")


def test_a_task_that_is_cancelled_leaves_nothing(stub, large, async_client):
    go = threading.Event()
    stub.script.extend([Step(), *[Step(hold=go)] * 4])

    async def main():
        task = asyncio.create_task(async_client.upload_file(large))
        while len(puts(stub)) < 4:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    try:
        asyncio.run(main())
    finally:
        go.set()
    assert stub.fake.unfinished_uploads == 0


def test_an_upload_takes_no_more_memory_for_a_larger_file(tmp_path):
    import tracemalloc

    import httpx

    def answer(request):
        if request.method == "PUT":
            for _ in request.stream:
                pass
            return httpx.Response(200)
        if request.url.path.endswith("/uploads"):
            urls = [f"http://store.test/{number}" for number in range(16)]
            return httpx.Response(200, json={"upload_id": "u", "part_size": 8 << 20, "part_urls": urls})
        return httpx.Response(200, json={"s3_url": "s3://b/x"})

    class Sink(httpx.BaseTransport):
        def handle_request(self, request):
            return answer(request)

    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.truncate(128 << 20)
    client = GatewayClient("t", "http://gateway.test", transport=Sink())
    tracemalloc.start()
    try:
        client.upload_file(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # five readers with a block or two each
