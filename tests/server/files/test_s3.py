"""The store on S3: the same promises, against a real server that speaks S3."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import obstore
import pytest
from s3_server import BUCKET, s3_server
from sqlalchemy import select

from gateway_server.errors import (
    FileNotFound,
    Invalid,
    PayloadTooLarge,
    PermissionDenied,
    QuotaExceeded,
    ServiceUnavailable,
)
from gateway_server.files.keys import Area
from gateway_server.files.library import Library
from gateway_server.files.listing import Query
from gateway_server.files.records import StoredFile, announce, hide
from gateway_server.files.uploads import Uploads
from gateway_server.files.wishes import wish
from gateway_server.models import Principal, now
from gateway_server.settings import Settings
from gateway_server.store import s3_objects, s3_parts
from gateway_server.store.counters import USER, Counter, Metric, Period, amount
from gateway_server.store.objects import Assembly, Written
from gateway_server.store.s3_objects import S3Objects
from gateway_server.store.s3_signatures import Credentials, presign
from gateway_server.store.schema import files, quotas

from .conftest import PRINCIPALS, House, stream
from .gates import Gate, cancel, writes_into_no_other

KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
AGENT, PERSON = PRINCIPALS["agent"], PRINCIPALS["person"]


def test_a_signature_is_the_one_of_the_documentation() -> None:
    credentials = Credentials(
        access_key_id="AKIAIOSFODNN7EXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    )
    url = "https://examplebucket.s3.amazonaws.com/test.txt"
    signed = presign(credentials, "GET", url, 86400, datetime(2013, 5, 24, tzinfo=UTC))
    assert signed.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_a_store_is_named_by_url_and_environment() -> None:
    store = S3Objects.from_url("s3://bucket/some/prefix/", KEYS)
    assert store.url("k") == "s3://bucket/some/prefix/k"
    assert store.key("s3://bucket/some/prefix/k") == "k"
    assert store.key("s3://bucket/other/k") is None
    signed = store.sign_get("名 1.txt", 60, "名", None)
    assert signed.startswith("https://bucket.s3.us-east-1.amazonaws.com/some/prefix/%E5%90%8D%201.txt?")
    local = S3Objects.from_url("s3://bucket", KEYS | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert local.sign_get("k", 60, "k", None).startswith("http://127.0.0.1:9/bucket/k?")
    assert "hidden" not in repr(Credentials(access_key_id="k", secret_access_key="hidden", session_token="hidden"))
    for url, environment in [("s3://bucket", {}), ("http://bucket", KEYS), ("s3://", KEYS)]:
        with pytest.raises(ValueError):
            S3Objects.from_url(url, environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
async def store(server: dict[str, str]) -> AsyncIterator[S3Objects]:
    store = S3Objects.from_url(f"s3://{BUCKET}/{uuid.uuid4()}", server)
    yield store
    await store.close()


async def content(store: S3Objects, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([data async for data in store.read(key, start, end)])


@pytest.mark.anyio
async def test_objects_are_whole_or_not_there(store: S3Objects, tmp_path: Path) -> None:
    incoming = store.receive("one")
    data = os.urandom(9 << 20)
    for at in range(0, len(data), 1 << 20):
        await incoming.write(data[at : at + (1 << 20)])
    assert await store.size("a/名.bin") is None
    written = await incoming.commit("a/名.bin")
    await incoming.discard()
    assert (written.size, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert await store.size("a/名.bin") == len(data)
    assert await content(store, "a/名.bin") == data
    assert await content(store, "a/名.bin", 5, 9) == data[5:9]
    assert await content(store, "a/名.bin", len(data) - 3) == data[-3:]
    with (tmp_path / "copy").open("wb") as file:
        await store.copy_out("a/名.bin", file.fileno())
    assert (tmp_path / "copy").read_bytes() == data
    assert await store.leftovers(now().timestamp() + 60) == []
    await store.delete(["a/名.bin", "never"])
    with pytest.raises(FileNotFound):
        await content(store, "a/名.bin")


@pytest.mark.anyio
async def test_what_was_cut_is_a_leftover(store: S3Objects, tmp_path: Path) -> None:
    incoming = store.receive("cut")
    await incoming.write(b"half")
    await incoming.discard()
    left = store.receive("left")
    await left.write(b"half")
    await left.commit("kept")
    assert await store.leftovers(now().timestamp() + 60) == ["left"]
    assert await store.leftovers(now().timestamp() - 60) == []
    await store.drop(["left"])
    assert await store.leftovers(now().timestamp() + 60) == []
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(PayloadTooLarge):
        await store.put_file("id", "k", lambda: os.open(tmp_path / "file", os.O_RDONLY), 4)
    assert (await store.put_file("id", "k", lambda: os.open(tmp_path / "file", os.O_RDONLY), 5)).size == 5
    with pytest.raises(FileNotFound):
        await store.put_file("id", "k", lambda: os.open(tmp_path / "none", os.O_RDONLY), 5)


@pytest.mark.anyio
@pytest.mark.parametrize("megabytes", [4, 8, 20])
async def test_nothing_stays_of_an_upload_that_was_cut(store: S3Objects, megabytes: int) -> None:
    incoming = store.receive("cut")
    for _ in range(megabytes):
        await incoming.write(bytes(1 << 20))
    await incoming.discard()
    assert await begun(store) == []
    assert await store.leftovers(now().timestamp() + 60) == []


@pytest.mark.anyio
async def test_nothing_stays_of_an_upload_that_a_kill_has_cut(store: S3Objects) -> None:
    assembly = Assembly(id="killed", key="incoming/killed", size=4, part_size=4)
    assembly = replace(assembly, handle=await store.begin(assembly))
    async with httpx.AsyncClient() as client:
        await client.put(store.sign_part(assembly, 1, 60), content=b"data")
    goes_on = await store.begin(replace(assembly, key="incoming/killed-not"))
    assert sorted(await store.leftovers(now().timestamp() + 60)) == ["killed", "killed-not"]
    assert await store.leftovers(now().timestamp() - 60) == []
    await store.drop(["killed"])
    assert await begun(store) == [goes_on]


async def begun(store: S3Objects) -> list[str]:
    """Uploads in parts that go on."""
    return [upload.handle for upload in await store.begun("")]


@pytest.mark.anyio
@pytest.mark.parametrize("size", [0, 5, (16 << 20) + 1])
async def test_an_output_goes_straight_to_its_key(
    store: S3Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("obstore.copy_async", None)  # which S3 does up to 5 GB only
    (tmp_path / "output").write_bytes(data := os.urandom(size))
    written = await store.put_file("id", "out/名", lambda: os.open(tmp_path / "output", os.O_RDONLY), 1 << 30)
    assert written == Written(size, hashlib.sha256(data).hexdigest())
    assert await content(store, "out/名") == data
    if size:
        with pytest.raises(PayloadTooLarge):
            await store.put_file("id", "cut", lambda: os.open(tmp_path / "output", os.O_RDONLY), size - 1)
    assert (await store.size("cut"), await begun(store)) == (None, [])


@pytest.mark.anyio
async def test_nothing_stays_of_an_output_that_a_kill_has_cut(house: House, store: S3Objects, library: Library) -> None:
    key = "prefab-outputs/alice/2025/11/07/job/名 &.bin"
    other = await store.begin(Assembly(id="o", key=key + "2", size=4, part_size=4))
    await store.begin(Assembly(id="killed", key=key, size=4, part_size=4))
    await house.database.write(lambda c: announce(c, [("killed", key)], house.clock.timestamp()))
    house.clock.forward(days=2)
    assert (await library.sweep()).unfinished == 1
    assert await begun(store) == [other]


@pytest.mark.anyio
async def test_a_form_that_the_store_could_not_copy_is_refused_before_it_comes(house: House, store: S3Objects) -> None:
    library = Library(house.database, store, Settings(data=house.folder))
    come: list[bytes] = []

    async def form() -> AsyncIterator[bytes]:
        come.append(b"data")
        yield b"data"

    with pytest.raises(PayloadTooLarge, match="in parts"):
        await library.put(AGENT, form(), lambda: wish(Area.OUTPUTS, "big"), expected=(5 << 30) + 1)
    assert come == []
    small = Library(house.database, store, Settings(data=house.folder, file_limit=3))
    with pytest.raises(PayloadTooLarge, match="at most 3 bytes"):
        await small.put(AGENT, form(), lambda: wish(Area.OUTPUTS, "big"))
    assert (await library.put(AGENT, form(), lambda: wish(Area.OUTPUTS, "big"), expected=4)).size == 4


@pytest.mark.anyio
async def test_a_part_that_the_store_did_not_take_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_parts, "_PAUSES", (0.0, 0.0))
    answers, bodies = [503, 500, 200, 503, 503, 503], list[bytes]()

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(answers.pop(0))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        parts = s3_parts.S3Parts(client, lambda *_, **__: "http://store/key")
        assembly = Assembly(id="i", key="k", size=4, part_size=4, handle="h")
        await parts.put(assembly, 1, b"data")
        with pytest.raises(ServiceUnavailable):
            await parts.put(assembly, 1, b"data")
    assert bodies == [b"data"] * 6


@pytest.mark.anyio
async def test_a_library_works_past_the_gateway(house: House, store: S3Objects) -> None:
    settings = Settings(data=house.folder, part_size=5 << 20)
    library = Library(house.database, store, settings)
    uploads = Uploads(library, house.database, store, settings)
    person = Principal(user="alice")
    async with httpx.AsyncClient() as client:
        upload_url, s3_url = await library.input_url(person, "名 +.txt", "text/plain")
        assert (await client.put(upload_url, content=b"data", headers={"content-type": "text/html"})).status_code == 403
        with pytest.raises(FileNotFound):
            await library.find(person, s3_url)
        assert (
            await client.put(upload_url, content=b"data", headers={"content-type": "text/plain"})
        ).status_code == 200
        file = await library.find(person, s3_url)
        assert (file.name, file.size) == ("名 +.txt", 4)
        answer = await client.get(library.sign(file, 60).url, headers={"range": "bytes=1-2"})
        assert (answer.status_code, answer.content) == (206, b"at")
        assert answer.headers["content-type"] == "text/plain"
        assert "%E5%90%8D" in answer.headers["content-disposition"]
        tampered = library.sign(file, 60).url.replace("Expires=60", "Expires=61")
        assert (await client.get(tampered)).status_code == 403

        data = os.urandom((11 << 20) + 3)
        upload = await uploads.create(AGENT, wish(Area.OUTPUTS, "big"), len(data))
        parts = [data[at : at + upload.part_size] for at in range(0, len(data), upload.part_size)]
        for url, part in list(zip(upload.part_urls, parts, strict=True))[1:]:
            assert (await client.put(url, content=part)).status_code == 200
        assert (await uploads.resume(AGENT, upload.id)).received == [2, 3]
        with pytest.raises(Invalid, match="1 of 3 parts have not arrived: 1"):
            await uploads.complete(AGENT, upload.id, None)
        await client.put(upload.part_urls[0], content=parts[0])
        stored = await uploads.complete(AGENT, upload.id, hashlib.sha256(data).hexdigest())
        assert await uploads.complete(AGENT, upload.id, None) == stored
        assert await content(store, stored.key) == data

        aborted = await uploads.create(AGENT, wish(Area.OUTPUTS, "big"), 5)
        await uploads.abort(AGENT, aborted.id)
        with pytest.raises(FileNotFound):
            await uploads.resume(AGENT, aborted.id)
        form = await library.put(AGENT, stream(b"a", b"b"), lambda: wish(Area.OUTPUTS, "form"))
        assert await content(store, form.key) == b"ab"
        await library.delete(AGENT, form.s3_url)
        assert await store.size(form.key) is None


@pytest.fixture
def library(house: House, store: S3Objects) -> Library:
    return Library(house.database, store, house.settings, clock=house.clock)


async def ended_after(library: Library, house: House, store: S3Objects, seconds: float) -> StoredFile:
    """An input of four bytes that was sent in parts and ends by itself."""
    uploads = Uploads(library, house.database, store, house.settings)
    upload = await uploads.create(PERSON, wish(Area.INPUTS, "a.txt", content_type="text/plain", ttl=seconds), 4)
    async with httpx.AsyncClient() as client:
        assert (await client.put(upload.part_urls[0], content=b"data")).status_code == 200
    return await uploads.complete(PERSON, upload.id, None)


@pytest.mark.anyio
async def test_an_input_that_has_expired_does_not_come_back(house: House, store: S3Objects, library: Library) -> None:
    file = await ended_after(library, house, store, 10)
    assert await library.find(PERSON, file.s3_url) == file
    house.clock.forward(seconds=60)
    with pytest.raises(FileNotFound):
        await library.find(PERSON, file.s3_url)
    assert (await library.sweep()).files == 1
    assert await store.size(file.key) is None


@pytest.mark.anyio
async def test_an_input_that_is_being_deleted_does_not_come_back(
    house: House, store: S3Objects, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await ended_after(library, house, store, 1000)
    delete = store.delete

    async def read_first(keys: Sequence[str]) -> None:
        with pytest.raises(FileNotFound):
            await library.find(PERSON, file.s3_url)
        await delete(keys)

    monkeypatch.setattr(store, "delete", read_first)
    await library.delete(PERSON, file.s3_url)
    with pytest.raises(FileNotFound):
        await library.find(PERSON, file.s3_url)
    assert (await library.page(PERSON, Query(prefix="", limit=10, token=None))).files == []


@pytest.mark.anyio
async def test_two_that_read_a_new_input_at_once_get_the_same(house: House, store: S3Objects, library: Library) -> None:
    s3_url = await put_past(library, "a.txt")
    first, second = await asyncio.gather(library.find(PERSON, s3_url), library.find(PERSON, s3_url))
    assert first == second
    taken = Counter("alice", USER, Metric.BYTES, Period.NOW)
    assert await house.database.read(lambda c: amount(c, taken, 0)) == 4


async def put_past(library: Library, name: str, data: bytes = b"data") -> str:
    """An input that was sent to its signed URL, and that nobody has read yet."""
    url, s3_url = await library.input_url(PERSON, name, None)
    async with httpx.AsyncClient() as client:
        assert (await client.put(url, content=data)).status_code == 200
    return s3_url


@pytest.mark.anyio
async def test_an_input_that_nobody_has_read_can_be_deleted(house: House, store: S3Objects, library: Library) -> None:
    s3_url = await put_past(library, "a.txt")
    with pytest.raises(PermissionDenied):
        await library.delete(PRINCIPALS["stranger"], s3_url)
    await library.delete(PERSON, s3_url)
    assert await store.size(s3_url.removeprefix(store.url(""))) is None
    for url in (s3_url, store.url("agent-inputs/alice/a/b/../c")):
        for refused in (library.find, library.delete):
            with pytest.raises(FileNotFound):
                await refused(PERSON, url)
    assert await house.database.read(lambda c: c.execute(select(files)).all()) == []


async def listed(library: Library, prefix: str, who: Principal = PERSON) -> list[str]:
    """The s3:// URLs of a listing, asked for two at a time."""
    found, token = list[str](), None
    while True:
        page = await library.page(who, Query(prefix=prefix, limit=2, token=token))
        found += [file.s3_url for file in page.files]
        if (token := page.next_token) is None:
            return found


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["", "agent-inputs/alice/2025", "agent-inputs/alice/2025/11/"])
async def test_inputs_that_nobody_has_read_are_listed(
    house: House, store: S3Objects, library: Library, prefix: str
) -> None:
    urls = sorted([await put_past(library, f"{number} 名") for number in range(5)])
    deleted = await put_past(library, "deleted")
    await library.find(PERSON, deleted)
    await house.database.write(lambda c: hide(c, [deleted.removeprefix(store.url(""))], house.clock.timestamp()))
    await library.input_url(PERSON, "never arrives", None)
    form = await library.put(AGENT, stream(b"a"), lambda: wish(Area.OUTPUTS, "form"))
    assert await listed(library, "", PRINCIPALS["stranger"]) == []
    assert await listed(library, "agent-outputs/") == [form.s3_url]
    assert await listed(library, "agent-inputs/alice/../") == []
    assert await listed(library, urls[3].removeprefix(store.url(""))) == [urls[3]]
    assert await listed(library, prefix) == [*urls, *([] if prefix else [form.s3_url])]


@pytest.mark.anyio
async def test_inputs_that_do_not_fit_are_not_listed_and_go_when_they_are_read(
    house: House, store: S3Objects, library: Library
) -> None:
    urls = [await put_past(library, name, b"123456") for name in "ab"]
    limit = {"user": "alice", "key_id": "", "metric": "bytes", "period": "", "limit": 7}
    await house.database.write(lambda c: c.execute(quotas.insert().values(limit)))
    (kept,) = await listed(library, "")
    (waits,) = set(urls) - {kept}
    assert await store.size(waits.removeprefix(store.url(""))) == 6
    with pytest.raises(QuotaExceeded):
        await library.find(PERSON, waits)
    assert await store.size(waits.removeprefix(store.url(""))) is None
    await library.delete(PERSON, await put_past(library, "c", b"1"))
    await library.delete(PERSON, another := await put_past(library, "d", b"1234567"))
    assert await store.size(another.removeprefix(store.url(""))) is None
    assert await listed(library, "") == [kept]


@pytest.mark.anyio
async def test_what_is_recorded_is_listed_though_the_store_does_not_answer(
    house: House, store: S3Objects, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await put_past(library, "a", b"123456")
    assert await listed(library, "") == [url]

    async def fail(*_: object) -> None:
        raise ServiceUnavailable("The store of files does not answer.")

    monkeypatch.setattr(store, "arrived", fail)
    assert await listed(library, "") == [url]


@pytest.mark.anyio
async def test_a_store_that_does_not_tell_what_was_begun_still_removes(
    store: S3Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_prefix: str) -> None:
        raise ServiceUnavailable("The store of files refused: 403.")

    for key in ("kept/a", "incoming/b"):
        await obstore.put_async(store._store, store._prefix + key, b"x")
    monkeypatch.setattr(store, "begun", refuse)
    await store.wipe(["kept/a"])
    assert await store.size("kept/a") is None
    assert "b" in await store.leftovers(time.time() + 60)


@pytest.mark.anyio
async def test_a_store_that_does_not_answer_is_told() -> None:
    store = S3Objects.from_url("s3://bucket", KEYS | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    with pytest.raises(ServiceUnavailable):
        await store.received(Assembly(id="i", key="k", size=1, part_size=1, handle="h"))
    await store.close()


@pytest.mark.anyio
async def test_what_is_copied_out_does_not_go_into_the_next_file_that_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, gate = S3Objects.from_url("s3://bucket", KEYS), Gate()
    monkeypatch.setattr(store, "read", lambda _key: stream(b"of one user"))
    monkeypatch.setattr(s3_objects, "write_all", gate.before(s3_objects.write_all))
    with (tmp_path / "input").open("wb") as input_file:
        copying = asyncio.create_task(store.copy_out("key", input_file.fileno()))
        await writes_into_no_other(copying, gate, tmp_path / "of another")
    await store.close()


@pytest.mark.anyio
async def test_an_output_that_nobody_wants_leaves_no_file_open(tmp_path: Path) -> None:
    store, gate = S3Objects.from_url("s3://bucket", KEYS), Gate()
    (tmp_path / "output").write_bytes(b"data")
    opened: list[int] = []

    def source() -> int:
        opened.append(os.open(tmp_path / "output", os.O_RDONLY))
        return opened[0]

    storing = asyncio.create_task(store.put_file("id", "key", gate.before(source), 10))
    await gate.reached()
    await cancel(storing, times=1)
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await storing
    await gate.done()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
    await store.close()


@pytest.mark.anyio
async def test_nothing_stays_of_outputs_of_a_deleted_user_that_a_kill_has_cut(
    house: House, store: S3Objects, library: Library
) -> None:
    keys = {user: f"prefab-outputs/{user}/2025/11/07/job/big" for user in ("alice", "alice2")}
    begun_by = {user: await store.begin(Assembly(id=user, key=key, size=4, part_size=4)) for user, key in keys.items()}
    await house.database.write(lambda c: announce(c, keys.items(), house.clock.timestamp()))
    await library.erase("alice")
    assert await begun(store) == [begun_by["alice2"]]
