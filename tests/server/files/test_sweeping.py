"""What has ended is removed, and nothing else, however often a sweep is cut."""

from __future__ import annotations

import os

import pytest

from gateway_server.errors import FileNotFound, Invalid
from gateway_server.files import records
from gateway_server.files.keys import Area
from gateway_server.files.wishes import wish
from gateway_server.store.objects import Assembly
from gateway_server.store.schema import job_files, pending_objects, uploads

from .conftest import PRINCIPALS, House

pytestmark = pytest.mark.anyio
AGENT = PRINCIPALS["agent"]


async def count(house: House, table: object) -> int:
    return len(await house.database.read(lambda c: c.execute(table.select()).all()))  # type: ignore[attr-defined]


async def test_expired_files_are_removed(house: House) -> None:
    kept = await house.put(area=Area.WORKSPACE, ttl=100)
    for _ in range(3):
        await house.put(area=Area.WORKSPACE, ttl=10)
    house.clock.forward(seconds=10)
    assert (await house.library.sweep()).files == 3
    assert (await house.library.sweep()).files == 0
    assert len(house.on_disk()) == 1
    assert await house.library.find(AGENT, kept.s3_url)


async def test_a_sweep_that_was_cut_is_finished_by_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.put(area=Area.WORKSPACE, ttl=10)
    house.clock.forward(seconds=10)

    with monkeypatch.context() as patch:
        patch.setattr(records, "forget", lambda *_: (_ for _ in ()).throw(RuntimeError("cut")))
        with pytest.raises(RuntimeError, match="cut"):
            await house.library.sweep()
    assert house.on_disk() == []
    assert (await house.library.sweep()).files == 1


async def test_a_deletion_that_was_cut_is_finished_by_the_sweeper(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await house.put()
    with monkeypatch.context() as patch:
        patch.setattr(house.objects, "delete", lambda _keys: (_ for _ in ()).throw(RuntimeError("cut")))
        with pytest.raises(RuntimeError, match="cut"):
            await house.library.delete(AGENT, file.s3_url)
    with pytest.raises(FileNotFound):
        await house.library.find(AGENT, file.s3_url)
    assert (await house.library.sweep()).files == 1
    assert house.on_disk() == []


async def test_an_object_that_was_never_recorded_is_removed_after_a_day(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(records, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("cut")))
        with pytest.raises(RuntimeError, match="cut"):
            await house.put()
    assert len(house.on_disk()) == 1
    house.clock.forward(hours=23)
    assert (await house.library.sweep()).unfinished == 0
    house.clock.forward(hours=2)
    assert (await house.library.sweep()).unfinished == 1
    assert house.on_disk() == []
    assert await count(house, pending_objects) == 0


async def test_the_announcement_of_a_recorded_object_takes_nothing_along(house: House) -> None:
    file = await house.put()
    moment = house.clock.timestamp()
    await house.database.write(lambda c: records.announce(c, [("again", file.key)], moment))
    house.clock.forward(days=2)
    await house.library.sweep()
    assert await house.library.find(AGENT, file.s3_url)
    assert len(house.on_disk()) == 1


async def test_abandoned_uploads_are_removed_and_those_in_use_are_not(house: House) -> None:
    abandoned = await house.uploads.create(AGENT, wish(Area.OUTPUTS, "a"), 10)
    in_use = await house.uploads.create(AGENT, wish(Area.OUTPUTS, "b"), 10)
    house.clock.forward(hours=23)
    await house.uploads.resume(AGENT, in_use.id)
    house.clock.forward(hours=2)
    await house.library.sweep()
    assert {name.partition(".")[0] for name in house.on_disk()} == {f"incoming/{in_use.id}"}
    with pytest.raises(FileNotFound):
        await house.uploads.resume(AGENT, abandoned.id)
    house.clock.forward(days=2)
    await house.library.sweep()
    assert house.on_disk() == []
    assert await count(house, uploads) == 0


async def test_an_upload_that_cannot_be_removed_now_keeps_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, _ = [await house.uploads.create(AGENT, wish(Area.OUTPUTS, name), 10) for name in "ab"]
    house.clock.forward(hours=25)
    discard = house.objects.discard

    async def refuse(assembly: Assembly) -> None:
        if assembly.id == stuck.id:
            raise Invalid("The upload is being completed already.")
        await discard(assembly)

    with monkeypatch.context() as patch:
        patch.setattr(house.objects, "discard", refuse)
        assert (await house.library.sweep()).unfinished == 1
    assert await count(house, uploads) == 1
    assert (await house.library.sweep()).unfinished == 1


async def test_a_completed_upload_is_forgotten_and_its_file_stays(house: House) -> None:
    upload = await house.uploads.create(AGENT, wish(Area.OUTPUTS, "empty"), 0)
    part = await house.objects.parts.receive(upload.id, 1, 0, 0)
    await part.commit()
    file = await house.uploads.complete(AGENT, upload.id, None)
    house.clock.forward(days=2)
    await house.library.sweep()
    assert await count(house, uploads) == 0
    assert await house.library.find(AGENT, file.s3_url) == file
    assert len(house.on_disk()) == 1


async def test_what_a_killed_gateway_was_receiving_is_removed_after_a_day(house: House) -> None:
    left = house.folder / "objects" / "incoming" / "cut"
    left.write_bytes(b"half")
    moment = house.clock.timestamp()
    os.utime(left, (moment, moment))
    house.clock.forward(hours=23)
    await house.library.sweep()
    assert left.exists()
    house.clock.forward(hours=2)
    assert (await house.library.sweep()).unfinished == 1
    assert not left.exists()


async def test_what_trees_were_given_is_forgotten_after_a_week(house: House) -> None:
    await house.library.hand("job-1", [await house.put()])
    house.clock.forward(days=6)
    await house.library.sweep()
    assert await count(house, job_files) == 1
    house.clock.forward(days=2)
    await house.library.sweep()
    assert await count(house, job_files) == 0
