"""Uploads in parts."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import httpx
import pytest

from gateway_server.errors import FileNotFound, Invalid
from gateway_server.files.keys import Area
from gateway_server.files.uploads import MOST_PARTS, Upload, part_size
from gateway_server.files.wishes import wish
from gateway_server.store.schema import files, uploads

from .conftest import PRINCIPALS, House, stream

pytestmark = pytest.mark.anyio
AGENT = PRINCIPALS["agent"]
DATA = os.urandom(3500)
"""Four parts of the thousand bytes that the test's gateway asks for."""


def parts(data: bytes, size: int = 1000) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def begin(client: httpx.AsyncClient, size: int = len(DATA), **wanted: Any) -> dict[str, Any]:
    body = {"filename": "名.bin", "size": size, "area": "outputs"} | wanted
    answer = await client.post("/v1/files/uploads", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_parts_come_in_any_order_and_at_the_same_time(house: House, client: httpx.AsyncClient) -> None:
    upload = await begin(client)
    assert set(upload) == {"upload_id", "s3_url", "part_size", "part_urls"}
    assert (upload["part_size"], len(upload["part_urls"])) == (1000, 4)
    sent = [client.put(url, content=part) for url, part in zip(upload["part_urls"], parts(DATA), strict=True)]
    assert {answer.status_code for answer in await asyncio.gather(*reversed(sent))} == {200}
    digest = hashlib.sha256(DATA).hexdigest()
    path = f"/v1/files/uploads/{upload['upload_id']}"
    answer = await client.post(f"{path}/complete", json={"sha256": digest.upper()})
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "s3_url": upload["s3_url"],
        "filename": "名.bin",
        "size": len(DATA),
        "sha256": digest,
        "content_type": None,
        "expires_at": None,
    }
    assert (await client.post(f"{path}/complete", json={})).json() == answer.json()
    file = await house.library.find(AGENT, upload["s3_url"])
    assert b"".join([block async for block in house.objects.read(file.key)]) == DATA
    assert len(house.on_disk()) == 1
    assert (await client.get(path)).status_code == 404
    assert (await client.put(upload["part_urls"][0], content=parts(DATA)[0])).status_code == 404
    assert (await client.delete(path)).status_code == 204
    assert await house.library.find(AGENT, upload["s3_url"]) == file


async def test_a_part_counts_only_when_all_of_it_has_arrived(house: House, client: httpx.AsyncClient) -> None:
    upload = await begin(client)
    path, urls = f"/v1/files/uploads/{upload['upload_id']}", upload["part_urls"]
    for wrong in (b"", b"x" * 999, b"x" * 1001, b"x" * 5000):
        assert (await client.put(urls[0], content=wrong)).status_code == 422
        assert (await client.put(urls[0], content=stream(wrong))).status_code == 422
    assert (await client.get(path)).json()["received"] == []
    for number in (3, 1):
        await client.put(urls[number], content=parts(DATA)[number])
    state = (await client.get(path)).json()
    assert state["received"] == [2, 4]
    assert len(state["part_urls"]) == 4
    refused = await client.post(f"{path}/complete", json={"sha256": None})
    assert refused.status_code == 422
    assert "2 of 4 parts have not arrived: 1, 3" in refused.json()["detail"]["message"]


@pytest.mark.parametrize("wrong", [{"size": True}, {"size": "3"}, {"size": 1.5}, {"ttl": True}, {"ttl": "60"}])
async def test_numbers_of_an_upload_are_whole_numbers(client: httpx.AsyncClient, wrong: dict[str, object]) -> None:
    wanted = {"filename": "a", "size": 3, "area": "workspace", "ttl": 60}
    assert (await client.post("/v1/files/uploads", json=wanted)).status_code == 201
    assert (await client.post("/v1/files/uploads", json=wanted | wrong)).status_code == 422


async def test_a_part_that_was_cut_is_sent_again(house: House, client: httpx.AsyncClient) -> None:
    upload = await begin(client)
    for number, (url, part) in enumerate(zip(upload["part_urls"], parts(DATA), strict=True), 1):
        await client.put(url, content=part[::-1])
        assert (await client.get(f"/v1/files/uploads/{upload['upload_id']}")).json()["received"][-1] == number
    cut = [{"type": "http.request", "body": b"x" * 500, "more_body": True}, {"type": "http.disconnect"}]
    assert await put_raw(house, upload["part_urls"][1], cut) == []
    state = (await client.get(f"/v1/files/uploads/{upload['upload_id']}")).json()
    assert state["received"] == [1, 3, 4]
    for url, part in zip(state["part_urls"], parts(DATA), strict=True):
        assert (await client.put(url, content=part)).status_code == 200
    digest = hashlib.sha256(DATA).hexdigest()
    done = await client.post(f"/v1/files/uploads/{upload['upload_id']}/complete", json={"sha256": digest})
    assert done.json()["sha256"] == digest


async def put_raw(house: House, url: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A PUT whose messages the test chooses; returns what was answered."""
    parsed = httpx.URL(url)
    scope = {
        "type": "http",
        "method": "PUT",
        "path": parsed.path,
        "raw_path": parsed.raw_path.partition(b"?")[0],
        "query_string": parsed.query,
        "headers": [],
    }
    sent: list[dict[str, Any]] = []
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await house(scope, receive, send)
    return sent


async def test_a_part_that_is_sent_again_ends_the_one_under_way(house: House) -> None:
    upload = await house.uploads.create(AGENT, wish(Area.OUTPUTS, "a"), 10)
    first = await house.objects.parts.receive(upload.id, 1, 0, 10)
    await first.write(b"old")
    second = await house.objects.parts.receive(upload.id, 1, 0, 10)
    await second.write(b"0123456789")
    await second.commit()
    await first.write(b"-bytes!")
    with pytest.raises(Invalid, match="sent again"):
        await first.commit()
    await first.discard()
    file = await house.uploads.complete(AGENT, upload.id, None)
    assert file.sha256 == hashlib.sha256(b"0123456789").hexdigest()


async def test_nothing_is_written_into_a_file_that_is_complete(house: House) -> None:
    upload = await house.uploads.create(AGENT, wish(Area.OUTPUTS, "a"), 4)
    part = await house.objects.parts.receive(upload.id, 1, 0, 4)
    await part.write(b"data")
    await part.commit()
    late = await house.objects.parts.receive(upload.id, 1, 0, 4)
    with pytest.raises(Invalid, match="not arrived"):
        await house.uploads.complete(AGENT, upload.id, None)
    await late.write(b"late")
    with pytest.raises(Invalid):
        await late.commit()
    await late.discard()


async def test_another_digest_is_refused_and_the_upload_goes_on(house: House, client: httpx.AsyncClient) -> None:
    upload = await begin(client, size=4)
    complete = f"/v1/files/uploads/{upload['upload_id']}/complete"
    await client.put(upload["part_urls"][0], content=b"dada")
    digest = hashlib.sha256(b"data").hexdigest()
    refused = await client.post(complete, json={"sha256": digest})
    assert (refused.status_code, refused.json()["detail"]["errors"][0]["pointer"]) == (422, "/sha256")
    assert (await client.post(complete, json={"sha256": "xyz"})).status_code == 422
    with pytest.raises(FileNotFound):
        await house.library.find(AGENT, upload["s3_url"])
    await client.put(upload["part_urls"][0], content=b"data")
    assert (await client.post(complete, json={"sha256": digest})).status_code == 200


async def test_an_aborted_upload_leaves_nothing(house: House, client: httpx.AsyncClient) -> None:
    upload = await begin(client)
    await client.put(upload["part_urls"][0], content=parts(DATA)[0])
    path = f"/v1/files/uploads/{upload['upload_id']}"
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(path)).status_code == 404
    assert (await client.put(upload["part_urls"][0], content=parts(DATA)[0])).status_code == 404
    assert house.on_disk() == []


async def test_an_upload_is_only_its_owners(house: House, client: httpx.AsyncClient) -> None:
    upload = await begin(client)
    path = f"/v1/files/uploads/{upload['upload_id']}"
    for who in ("stranger", "person", "other-agent", "agent-call"):
        headers = {"x-test": who}
        assert (await client.get(path, headers=headers)).status_code == 404
        assert (await client.delete(path, headers=headers)).status_code == 404
        assert (await client.post(f"{path}/complete", json={}, headers=headers)).status_code == 404
    assert (await client.get(path)).status_code == 200


async def test_areas_keep_their_rules(house: House, client: httpx.AsyncClient) -> None:
    async def refused(who: str, **wanted: Any) -> str:
        body = {"filename": "a", "size": 1} | wanted
        answer = await client.post("/v1/files/uploads", json=body, headers={"x-test": who})
        return answer.json()["detail"]["error_code"] if answer.status_code >= 400 else "none"

    assert await refused("person", area="outputs") == "MISSING_AGENT_CONTEXT"
    assert await refused("person", area="workspace") == "MISSING_AGENT_CONTEXT"
    assert await refused("person", area="inputs") == "none"
    assert await refused("agent", area="outputs", ttl=60) == "VALIDATION_ERROR"
    assert await refused("agent", area="prefab-outputs") == "VALIDATION_ERROR"
    assert await refused("agent", size=-1) == "VALIDATION_ERROR"
    assert await refused("agent", size=(1 << 20) + 1) == "PAYLOAD_TOO_LARGE"
    upload = await begin(client, size=0, area="workspace", ttl=60, session_id="s")
    assert "/agent-workspace/alice/writer/s/" in upload["s3_url"]
    assert len(upload["part_urls"]) == 1
    await client.put(upload["part_urls"][0], content=b"")
    done = await client.post(f"/v1/files/uploads/{upload['upload_id']}/complete")
    assert (done.json()["size"], done.json()["expires_at"]) == (0, "2025-11-07T10:21:30.000400Z")


async def test_uploads_of_one_microsecond_have_their_own_keys(house: House, client: httpx.AsyncClient) -> None:
    urls = {(await begin(client))["s3_url"] for _ in range(3)}
    urls.add((await house.put(name="名.bin")).s3_url)
    assert len(urls) == 4


async def complete_and_unrecorded(house: House) -> Upload:
    """An upload of `data` that is one object, of which the gateway has no record: as if it had died before that."""
    upload = await house.uploads.create(AGENT, wish(Area.OUTPUTS, "a"), 4)
    part = await house.objects.parts.receive(upload.id, 1, 0, 4)
    await part.write(b"data")
    await part.commit()
    await house.uploads.complete(AGENT, upload.id, None)
    await house.database.write(lambda c: c.execute(files.delete()))
    await house.database.write(lambda c: c.execute(uploads.update().values(completed=False)))
    return upload


async def test_a_completion_that_was_cut_before_its_record_is_done_again(house: House) -> None:
    upload = await complete_and_unrecorded(house)
    file = await house.uploads.complete(AGENT, upload.id, None)
    assert file.sha256 == hashlib.sha256(b"data").hexdigest()
    assert await house.library.find(AGENT, file.s3_url) == file


@pytest.mark.parametrize("size", [0, 1, 16 << 20, (160 << 30) - 1, 100 << 30, 5 << 40])
def test_there_are_never_too_many_parts(size: int) -> None:
    bytes_each = part_size(size, 16 << 20)
    assert bytes_each >= 16 << 20
    assert -(-size // bytes_each) <= MOST_PARTS


async def test_an_upload_that_was_complete_but_not_recorded_leaves_nothing_when_it_is_aborted(house: House) -> None:
    upload = await complete_and_unrecorded(house)
    await house.uploads.abort(AGENT, upload.id)
    assert house.on_disk() == []
