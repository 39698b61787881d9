"""Signed URLs over HTTP: ranges, headers, cut connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gateway_server.api import objects
from gateway_server.errors import FileNotFound
from gateway_server.files.keys import Area
from gateway_server.files.records import StoredFile
from gateway_server.store.local_objects import LocalIncoming
from gateway_server.store.objects import BLOCK, Written
from gateway_server.store.schema import quotas

from .conftest import PRINCIPALS, House

pytestmark = pytest.mark.anyio


@pytest.fixture
async def file(house: House) -> StoredFile:
    return await house.put(b"0123456789", '"名" %.html')


def url(house: House, file: StoredFile, seconds: float = 60) -> str:
    return house.library.sign(file, seconds).url


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        (None, 200, b"0123456789", None),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-100", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
    ],
)
async def test_ranges(
    house: House, client: httpx.AsyncClient, file: StoredFile, asked: str | None, status: int, body: bytes, told: str
) -> None:
    headers = {"range": asked} if asked else {}
    for method in ("GET", "HEAD"):
        answer = await client.request(method, url(house, file), headers=headers)
        assert (answer.status_code, answer.headers.get("content-range")) == (status, told)
        assert answer.content == (body if method == "GET" else b"")
        assert answer.headers["content-length"] == str(len(body))
        assert answer.headers["accept-ranges"] == "bytes"


async def test_a_range_behind_the_end_is_told(house: House, client: httpx.AsyncClient, file: StoredFile) -> None:
    answer = await client.get(url(house, file), headers={"range": "bytes=10-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")
    assert answer.json()["detail"]["error_code"] == "VALIDATION_ERROR"


async def test_a_download_goes_on_only_with_the_same_object(
    house: House, client: httpx.AsyncClient, file: StoredFile
) -> None:
    whole = await client.get(url(house, file))
    etag, date = whole.headers["etag"], whole.headers["last-modified"]
    for value, status in [(etag, 206), (date, 206), ('"other"', 200), ("Thu, 01 Jan 1970 00:00:00 GMT", 200)]:
        answer = await client.get(url(house, file), headers={"range": "bytes=1-", "if-range": value})
        assert answer.status_code == status
    assert (await client.get(url(house, file), headers={"if-none-match": etag})).status_code == 304


async def test_no_browser_runs_what_users_have_stored(
    house: House, client: httpx.AsyncClient, file: StoredFile
) -> None:
    headers = (await client.get(url(house, file))).headers
    assert headers["content-type"] == "text/html"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")
    expected = "attachment; filename=\"___ _.html\"; filename*=UTF-8''%22%E5%90%8D%22%20%25.html"
    assert headers["content-disposition"] == expected


async def test_only_what_was_signed_is_answered(house: House, client: httpx.AsyncClient, file: StoredFile) -> None:
    other = await house.put(b"other", "other.txt")
    good = url(house, file)
    path, _, query = good.partition("?")
    for method, forged in [
        ("GET", path),
        ("GET", f"{url(house, other).partition('?')[0]}?{query}"),
        ("GET", good.replace("expires=", "expires=9")),
        ("GET", good.replace("text%2Fhtml", "text%2Fplain")),
        ("PUT", good),
        ("DELETE", good),
        ("POST", good),
        ("GET", "http://gateway/objects/%ff?" + query),
        ("GET", "http://gateway/objects/?" + query),
    ]:
        answer = await client.request(method, forged)
        assert (answer.status_code, answer.json()["detail"]["error_code"]) == (403, "PERMISSION_DENIED")
    assert (await client.get(good)).status_code == 200
    house.clock.forward(seconds=60)
    assert (await client.get(good)).status_code == 403


async def test_a_url_ends_with_its_file(house: House, client: httpx.AsyncClient) -> None:
    file = await house.put(area=Area.WORKSPACE, ttl=30)
    signed = url(house, file, 3600)
    house.clock.forward(seconds=29)
    assert (await client.get(signed)).status_code == 200
    house.clock.forward(seconds=1)
    assert (await client.get(signed)).status_code == 403
    kept = await house.put()
    signed = url(house, kept)
    await house.library.delete(PRINCIPALS["agent"], kept.s3_url)
    assert (await client.get(signed)).status_code == 404


async def test_large_objects_come_in_blocks(house: House, client: httpx.AsyncClient) -> None:
    house.library._limit = 1 << 30
    data = os.urandom((3 << 20) + 17)
    file = await house.put(data)
    assert (await client.get(url(house, file))).content == data
    answer = await client.get(url(house, file), headers={"range": "bytes=1000000-3000000"})
    assert answer.content == data[1_000_000:3_000_001]
    empty = await house.put(b"")
    assert (await client.get(url(house, empty))).content == b""


def scope(url: str, method: str, **headers: str) -> dict[str, Any]:
    parsed = httpx.URL(url)
    return {
        "type": "http",
        "method": method,
        "path": parsed.path,
        "raw_path": parsed.raw_path.partition(b"?")[0],
        "query_string": parsed.query,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


async def test_a_reader_who_leaves_is_noticed(house: House) -> None:
    house.library._limit = 1 << 30
    file = await house.put(bytes(20 << 20))
    sent: list[int] = []
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(len(message.get("body", b"")))
        if len(sent) == 3:
            left.set()
        await asyncio.sleep(0)

    await house(scope(url(house, file), "GET"), receive, send)
    assert sum(sent) < 10 << 20


@pytest.mark.parametrize("announced", [{}, {"content_length": "2000000"}])
async def test_an_upload_that_is_cut_leaves_nothing(house: House, announced: dict[str, str]) -> None:
    upload_url, _ = await house.library.input_url(PRINCIPALS["person"], "a", None)
    messages = iter([{"type": "http.request", "body": b"x" * 700_000, "more_body": True}, {"type": "http.disconnect"}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await house(scope(upload_url, "PUT", **announced), receive, send)
    assert house.on_disk() == []
    assert [message["status"] for message in sent if "status" in message] == ([413] if announced else [])


async def test_an_upload_that_is_too_large_is_refused(house: House, client: httpx.AsyncClient) -> None:
    async def body():  # type: ignore[no-untyped-def]
        for _ in range(3):
            yield b"x" * 700_000

    upload_url, _ = await house.library.input_url(PRINCIPALS["person"], "a", None)
    for content in (b"x" * 2_000_000, body()):
        answer = await client.put(upload_url, content=content)
        assert (answer.status_code, answer.json()["detail"]["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert house.on_disk() == []


async def test_a_full_disk_is_told(house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    upload_url, _ = await house.library.input_url(PRINCIPALS["person"], "a", None)
    monkeypatch.setattr(os, "fsync", full)
    answer = await client.put(upload_url, content=b"x")
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (503, "SERVICE_UNAVAILABLE")
    assert "full" in answer.json()["detail"]["message"]
    assert house.on_disk() == []


async def limit_room(house: House, most: int) -> None:
    limit = {"user": "alice", "key_id": "", "metric": "bytes", "period": "", "limit": most}
    await house.database.write(lambda c: c.execute(quotas.insert().values(limit)))


async def test_an_input_stays_whose_repetition_does_not_fit(house: House, client: httpx.AsyncClient) -> None:
    await limit_room(house, 100)
    upload_url, s3_url = await house.library.input_url(PRINCIPALS["person"], "a", None)
    assert (await client.put(upload_url, content=b"x" * 40)).status_code == 200

    async def body() -> AsyncIterator[bytes]:
        yield b"y" * 60
        await house.put(b"z" * 60)

    answer = await client.put(upload_url, content=body())
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (429, "QUOTA_EXCEEDED")
    file = await house.library.find(PRINCIPALS["person"], s3_url)
    assert (await client.get(url(house, file))).content == b"x" * 40


async def test_no_record_stays_of_an_input_whose_bytes_were_replaced_and_refused(
    house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limit_room(house, 100)
    upload_url, s3_url = await house.library.input_url(PRINCIPALS["person"], "a", None)
    assert (await client.put(upload_url, content=b"x" * 40)).status_code == 200
    commit = LocalIncoming.commit

    async def late(incoming: LocalIncoming, key: str) -> Written:
        monkeypatch.setattr(LocalIncoming, "commit", commit)
        await house.put(b"z" * 60)
        return await commit(incoming, key)

    monkeypatch.setattr(LocalIncoming, "commit", late)
    assert (await client.put(upload_url, content=b"y" * 60)).status_code == 429
    with pytest.raises(FileNotFound):
        await house.library.find(PRINCIPALS["person"], s3_url)
    assert len(house.on_disk()) == 1
    await house.put(b"z" * 40)  # there is room again


async def test_a_download_that_is_ended_twice_still_waits_for_its_thread() -> None:
    """Else the file would be closed, and the thread would read from whatever got its number next."""
    reads, may_read = asyncio.Event(), asyncio.Event()

    async def read(at: int, count: int) -> bytes:
        if at:
            reads.set()
            await may_read.wait()
        return bytes(count)

    async def never(*_: Any) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    opened: Any = SimpleNamespace(read=read)
    sending = asyncio.create_task(objects._send_bytes(opened, 0, 2 * BLOCK, never, never))
    await reads.wait()
    for _ in range(3):
        sending.cancel()
        await asyncio.wait([sending], timeout=0.01)
        assert not sending.done()
    may_read.set()
    with pytest.raises(asyncio.CancelledError):
        await sending
