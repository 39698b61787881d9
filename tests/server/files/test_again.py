"""The same upload, sent again with its key, is stored once and answered alike."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from gateway_server.store.schema import pending_objects, quotas, uploads

from .conftest import House

pytestmark = pytest.mark.anyio
PLACES = ["upload", "upload_temp"]


async def send(client: httpx.AsyncClient, key: str = "k", data: bytes = b"data", **more: Any) -> httpx.Response:
    path, name, who = more.pop("path", "upload"), more.pop("name", "a.txt"), more.pop("who", "agent")
    headers = {"Idempotency-Key": key, "x-test": who}
    return await client.post(
        f"/internal/files/{path}", files={"file": (name, data, "text/plain")}, headers=headers, **more
    )


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["error_code"]


async def nothing_is_left(house: House, files: int) -> None:
    assert len(house.on_disk()) == files
    assert await house.database.read(lambda c: c.execute(select(pending_objects)).all()) == []


@pytest.mark.parametrize("path", PLACES)
async def test_the_same_file_is_stored_once(house: House, client: httpx.AsyncClient, path: str) -> None:
    first = await send(client, path=path)
    house.clock.forward(minutes=5)
    again = await send(client, path=path)
    assert (again.status_code, again.json()) == (200, first.json())
    other = await send(client, key="other", path=path)
    assert other.json()["s3_url"] != first.json()["s3_url"]
    await nothing_is_left(house, files=2)


@pytest.mark.parametrize("change", [{"data": b"datA"}, {"data": b"data2"}, {"name": "b.txt"}, {"path": "upload_temp"}])
async def test_another_file_is_refused(house: House, client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    first = await send(client)
    assert code(await send(client, **change)) == (422, "IDEMPOTENCY_CONFLICT")
    assert (await send(client)).json() == first.json()
    await nothing_is_left(house, files=1)


async def test_many_at_the_same_time_get_one_answer(house: House, client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(send(client, data=b"x" * 100_000) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["s3_url"] for answer in answers}) == 1
    await nothing_is_left(house, files=1)


async def test_keys_belong_to_their_callers(client: httpx.AsyncClient) -> None:
    urls = [
        (await send(client, who=who)).json()["s3_url"] for who in ("agent", "other-agent", "stranger", "agent-call")
    ]
    assert len(set(urls)) == 4


@pytest.mark.parametrize(("key", "minutes"), [("auto-1", 10), ("mine", 24 * 60)])
async def test_a_key_counts_for_a_while(client: httpx.AsyncClient, house: House, key: str, minutes: int) -> None:
    first = await send(client, key)
    house.clock.forward(minutes=minutes - 1)
    assert (await send(client, key)).json() == first.json()
    house.clock.forward(minutes=2)
    later = await send(client, key, data=b"other")
    assert later.json()["s3_url"] != first.json()["s3_url"]
    assert (await send(client, key, data=b"other")).json() == later.json()


async def test_what_was_deleted_can_be_sent_again(client: httpx.AsyncClient) -> None:
    first = (await send(client)).json()["s3_url"]
    assert (await client.delete("/v1/files", params={"s3_url": first})).status_code == 204
    again = (await send(client, data=b"other")).json()["s3_url"]
    asked = await client.get("/internal/files/download", params={"s3_url": again})
    assert asked.json()["size"] == 5


async def test_what_has_ended_can_be_sent_again(house: House, client: httpx.AsyncClient) -> None:
    first = await send(client, path="upload_temp", data=b"data")
    house.clock.forward(days=1, seconds=1)
    again = await send(client, path="upload_temp", data=b"data")
    assert again.json()["s3_url"] != first.json()["s3_url"]


async def test_the_retry_needs_no_room(house: House, client: httpx.AsyncClient) -> None:
    first = await send(client, data=b"x" * 100)
    limit = {"user": "alice", "key_id": "", "metric": "bytes", "period": "", "limit": 100}
    await house.database.write(lambda c: c.execute(quotas.insert().values(limit)))
    assert (await send(client, data=b"x" * 100)).json() == first.json()
    assert code(await send(client, "other", data=b"x")) == (429, "QUOTA_EXCEEDED")
    await nothing_is_left(house, files=1)


async def test_a_key_has_a_length(client: httpx.AsyncClient) -> None:
    assert code(await send(client, "")) == (422, "VALIDATION_ERROR")
    assert code(await send(client, "k" * 256)) == (422, "VALIDATION_ERROR")


async def begin(client: httpx.AsyncClient, key: str = "k", **wanted: Any) -> httpx.Response:
    body = {"filename": "a.bin", "size": 1500, "area": "outputs"} | wanted
    return await client.post("/v1/files/uploads", json=body, headers={"Idempotency-Key": key})


async def test_an_upload_in_parts_begins_once(house: House, client: httpx.AsyncClient) -> None:
    first, again = await asyncio.gather(begin(client), begin(client))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["upload_id"] == again.json()["upload_id"]
    assert first.json()["s3_url"] == again.json()["s3_url"]
    assert (await begin(client, "other")).json()["upload_id"] != first.json()["upload_id"]
    for change in ({"size": 1501}, {"filename": "b.bin"}, {"area": "inputs"}):
        assert code(await begin(client, **change)) == (422, "IDEMPOTENCY_CONFLICT")


async def test_an_upload_of_which_only_the_record_was_made_begins_after_all(
    house: House, client: httpx.AsyncClient
) -> None:
    """As a gateway leaves it that was killed between the two."""
    first = (await begin(client)).json()
    for name in house.on_disk():
        (house.folder / "objects" / name).unlink()
    again = (await begin(client)).json()
    assert again["upload_id"] == first["upload_id"]
    assert (await client.put(again["part_urls"][1], content=b"x" * 500)).status_code == 200
    assert len(await house.database.read(lambda c: c.execute(select(uploads)).all())) == 1


async def test_its_end_joins_and_is_answered_alike(house: House, client: httpx.AsyncClient) -> None:
    data = b"x" * 1500
    upload = (await begin(client)).json()
    for url, part in zip(upload["part_urls"], (data[:1000], data[1000:]), strict=True):
        assert (await client.put(url, content=part)).status_code == 200
    path = f"/v1/files/uploads/{upload['upload_id']}/complete"
    body = {"sha256": hashlib.sha256(data).hexdigest()}
    answers = await asyncio.gather(*(client.post(path, json=body) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert code(await client.post(path, json={"sha256": "0" * 64})) == (422, "IDEMPOTENCY_CONFLICT")
    assert (await begin(client)).json()["upload_id"] == upload["upload_id"]
    await nothing_is_left(house, files=1)
