"""Files, up and down, against a real server that cuts connections."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pickle

import pytest
from stub_gateway import Step

from gateway_sdk import (
    AgentContextRequiredError,
    AsyncGatewayClient,
    GatewayClient,
    GatewayError,
    LocalFileError,
    RemoteFileNotFoundError,
    TransferError,
    ValidationError,
    _wire,
)
from gateway_sdk.exceptions import LocalFileChangedError
from gateway_sdk.testing import FakeGateway


@pytest.fixture
def small(tmp_path):
    path = tmp_path / 'résumé "最终".txt'
    path.write_bytes(b"hello\r\n--x\x00")
    return path


@pytest.fixture
def large(tmp_path, stub):
    stub.fake._store.part_size = 3_000_000
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(10_000_000))
    return path


def test_upload_keeps_name_type_and_bytes(client, stub, small):
    file = client.upload_file(small, "text/plain")
    assert file.startswith("s3://fake/agent-outputs/user/agent/")
    assert stub.fake.files[file] == b"hello\r\n--x\x00"
    assert file.filename == 'résumé "最终".txt'
    assert (file.size, file.sha256) == (11, hashlib.sha256(small.read_bytes()).hexdigest())
    body = stub.requests[0].body
    assert 'filename="résumé %22最终%22.txt"\r\nContent-Type: text/plain\r\n'.encode() in body
    copy = pickle.loads(pickle.dumps(file))
    assert (copy, copy.filename, copy.size) == (file, file.filename, file.size)


def test_upload_temp_sends_seconds_and_session(client, stub, small):
    file = client.upload_temp_file(str(small), ttl_hours=1, session_id="task-123")
    body = stub.requests[0].body
    assert b'name="ttl"\r\n\r\n3600\r\n' in body
    assert b'name="session_id"\r\n\r\ntask-123\r\n' in body
    assert file.expires_at is not None
    assert "/task-123/" in file
    with pytest.raises(ValidationError, match="ttl_hours"):
        client.upload_temp_file(small, ttl_hours=0)


def test_upload_input_goes_to_the_store_without_the_token(client, stub, small):
    file = client.upload_input_file(small, "text/plain")
    put = stub.requests[1]
    assert put.method == "PUT"
    assert "x-internal-token" not in put.headers
    assert put.headers["content-type"] == "text/plain"
    assert stub.fake.files[file] == small.read_bytes()
    client.upload_input_file(small)
    assert "content-type" not in stub.requests[3].headers


@pytest.mark.parametrize("method", ["upload_file", "upload_temp_file", "upload_input_file"])
@pytest.mark.parametrize("size", [3, 10_000_000])
def test_a_name_that_is_not_utf8(client, stub, tmp_path, method, size):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "wb") as file:
        file.write(b"x" * size)
    assert getattr(client, method)(os.fsdecode(path)).filename == "caf?.txt"


def test_an_empty_file(client, stub, tmp_path):
    (tmp_path / "empty").touch()
    assert stub.fake.files[client.upload_file(tmp_path / "empty")] == b""
    assert stub.fake.files[client.upload_input_file(tmp_path / "empty")] == b""


@pytest.mark.parametrize("cut", ["unread", "before", "body"])
def test_a_cut_upload_is_sent_again(client, stub, small, cut):
    stub.script.append(Step(cut=cut))
    assert stub.fake.files[client.upload_file(small)] == small.read_bytes()


@pytest.mark.parametrize(("method", "area"), [("upload_file", "agent-outputs"), ("upload_input_file", "agent-inputs")])
def test_a_large_file_goes_in_parts(client, stub, large, method, area):
    file = getattr(client, method)(large, "video/mp4")
    assert f"/{area}/" in file
    assert stub.fake.files[file] == large.read_bytes()
    assert file.sha256 == hashlib.sha256(large.read_bytes()).hexdigest()
    parts = [asked for asked in stub.requests if asked.method == "PUT"]
    assert sorted(len(asked.body) for asked in parts) == [1_000_000] + [3_000_000] * 3
    assert not any("x-internal-token" in asked.headers for asked in parts)


def test_only_the_cut_part_is_sent_again(client, stub, large):
    stub.script.extend([Step(), Step(), *[Step(cut="unread", only="")] * 4])
    file = client.upload_file(large)
    assert stub.fake.files[file] == large.read_bytes()
    assert len([asked for asked in stub.requests if asked.method == "PUT"]) == 8


def test_a_part_whose_url_has_ended_gets_a_new_one(client, stub, large):
    forbidden = b"HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n"
    stub.script.extend([Step(), Step(), Step(raw=forbidden)])
    assert stub.fake.files[client.upload_file(large)] == large.read_bytes()
    assert any(asked.method == "GET" and asked.path.startswith(_wire.UPLOADS) for asked in stub.requests)


def test_an_upload_that_fails_is_given_up(client, stub, large):
    refused = b"HTTP/1.1 507 X\r\ncontent-length: 4\r\n\r\nfull"
    stub.script.extend([Step(), Step(), Step(raw=refused)])
    with pytest.raises(GatewayError, match="full"):
        client.upload_file(large)
    assert stub.paths()[-1].startswith("DELETE /v1/files/uploads/")
    assert stub.fake.unfinished_uploads == 0


def test_a_file_that_changes_meanwhile(client, stub, large, monkeypatch):
    from gateway_sdk import _transfer

    real = _transfer._put_once

    def put_once(*arguments):
        real(*arguments)
        large.write_bytes(b"x" * 9_999_999)

    monkeypatch.setattr(_transfer, "_put_once", put_once)
    with pytest.raises(LocalFileChangedError):
        client.upload_file(large)
    assert stub.fake.unfinished_uploads == 0


def test_local_files_that_cannot_be_sent(client, stub, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file") as caught:
        client.upload_file(tmp_path / "none")
    assert isinstance(caught.value, GatewayError)
    with pytest.raises(IsADirectoryError):
        client.upload_temp_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LocalFileError, match="no ordinary file"):
        client.upload_file(tmp_path / "pipe")
    assert not stub.requests


def test_download_gives_a_url_that_anybody_can_read(client, stub):
    import httpx

    file = stub.fake.put("报告.pdf", b"content")
    url = client.download_file(file)
    assert httpx.get(url).content == b"content"
    client.get_presigned_url(file, expires_in=60)
    assert stub.requests[-1].query == {"s3_url": file, "mode": "presigned", "expires_in": "60"}
    with pytest.raises(RemoteFileNotFoundError):
        client.download_file("s3://fake/agent-inputs/user/2025/11/07/1-none")
    with pytest.raises(ValidationError):
        client.download_file("/tmp/x")


def test_save_file_goes_on_where_it_was_cut(client, stub, tmp_path):
    data = os.urandom(4_000_000)
    file = stub.fake.put("big.bin", data)
    stub.script.extend([Step(), Step(cut="body"), Step(cut="before"), Step(cut="body")])
    seen = []
    path = client.save_file(file, tmp_path / "out.bin", progress=lambda done, total: seen.append((done, total)))
    assert path == str(tmp_path / "out.bin")
    assert (tmp_path / "out.bin").read_bytes() == data
    assert seen == sorted(seen)
    assert seen[-1] == (4_000_000, 4_000_000)
    ranges = [asked.headers.get("range") for asked in stub.requests if asked.path.startswith("/objects/")]
    assert ranges[0] is None
    assert ranges[-1] == "bytes=3000000-"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_save_file_into_a_folder_uses_a_safe_name(client, stub, tmp_path):
    stub.fake.files["s3://fake/agent-inputs/u/2025/1/1/000000000009-../../evil\\x.txt"] = b"1"
    path = client.save_file("s3://fake/agent-inputs/u/2025/1/1/000000000009-../../evil\\x.txt", tmp_path)
    assert path == str(tmp_path / "x.txt")


def test_save_file_checks_what_arrived(client, stub, tmp_path, monkeypatch):
    file = stub.fake.put("a", b"right")
    entry = stub.fake._store.entry
    monkeypatch.setattr(stub.fake._store, "entry", lambda url: {**entry(url), "sha256": "0" * 64})
    with pytest.raises(TransferError, match="SHA-256"):
        client.save_file(file, tmp_path / "a")
    monkeypatch.setattr(stub.fake._store, "entry", lambda url: {**entry(url), "size": 4})
    with pytest.raises(TransferError, match="5 bytes arrived"):
        client.save_file(file, tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_save_file_where_nothing_can_be_written(client, stub, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        client.save_file(stub.fake.put("a", b"1"), tmp_path / "none" / "a")


def test_lists_are_complete(client, stub, monkeypatch, small):
    monkeypatch.setattr(_wire, "PAGE_SIZE", 2)
    files = [client.upload_file(small) for _ in range(5)]
    assert sorted(client.list_files()) == sorted(files)
    assert [file.size for file in client.iter_files()] == [11] * 5
    assert client.list_files(prefix="1999/") == []
    client.upload_temp_file(small, session_id="a")
    client.upload_temp_file(small, session_id="b")
    assert len(client.list_temp_files()) == 2
    assert len(list(client.iter_temp_files(session_id="a"))) == 1
    assert client.cleanup_temp_files(session_id="a") == 1
    assert client.cleanup_temp_files() == 1


def test_outside_an_agent():
    client = FakeGateway(agent=None).client()
    with pytest.raises(AgentContextRequiredError):
        client.list_files()


def test_async_files(async_client, stub, large, small, tmp_path):
    async def main():
        stub.script.extend([Step(), Step(cut="unread")])
        file = await async_client.upload_file(large)
        assert stub.fake.files[file] == large.read_bytes()
        assert await async_client.save_file(file, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == large.read_bytes()
        await async_client.upload_temp_file(small)
        assert [found async for found in async_client.iter_files()] == [file]
        assert await async_client.list_files() == [file]
        assert await async_client.cleanup_temp_files() == 1

    asyncio.run(main())


@pytest.mark.usefixtures("by_proxy")
def test_through_httpx_the_same(large, small, tmp_path, stub):
    client = GatewayClient("t", stub.url)
    stub.script.append(Step(cut="before"))
    file = client.upload_file(large)
    assert stub.fake.files[file] == large.read_bytes()
    assert client.save_file(file, tmp_path / "back")
    assert len(list(client.run("zoo", "1.0.0", "count", {"n": 2}, stream=True))) == 4

    async def main():
        async_client = AsyncGatewayClient("t", stub.url)
        file = await async_client.upload_file(small)
        assert stub.fake.files[file] == small.read_bytes()
        events = [event async for event in async_client.run("zoo", "1.0.0", "count", {"n": 2}, stream=True)]
        assert len(events) == 4
        await asyncio.sleep(0)

    asyncio.run(main())
