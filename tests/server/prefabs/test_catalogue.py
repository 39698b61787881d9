"""What the catalogue says of versions that come, change and go."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from packages import write_package

from gateway_server.errors import NotFound, VersionExists, VersionInUse
from gateway_server.models import Principal, Scope
from gateway_server.prefabs import catalogue as module
from gateway_server.prefabs import versions
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.environments import MARKER, Environments, Resolution
from gateway_server.prefabs.manifest import Manifest, parse_manifest
from gateway_server.prefabs.package import Package, pack_folder
from gateway_server.prefabs.publisher import Publisher
from gateway_server.store.database import Database

from .conftest import manifest

ANN = Principal(user="ann", scopes=frozenset(Scope))
pytestmark = pytest.mark.anyio


def written(folder: Path) -> Path:
    """A package that a publisher takes."""
    return write_package(folder / "package", "def f():\n    return 1\n", prefab_id="hello-world")


class Shop:
    """A catalogue of versions that were never built."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self._revision = 0
        environments = Mock()
        environments.path.return_value = folder
        self.catalogue = Catalogue(database, environments, folder)

    def publisher(self) -> Publisher:
        """Publishes into the catalogue; every environment is there already."""
        environments = AsyncMock()
        environments.resolve.return_value = Resolution(key="any", lock="")
        return Publisher(self.database, environments, self.catalogue, lambda _principal: None)

    async def publish(
        self, version: str, name: str = "Hello", *, digest: str = "0" * 64, replacing: bool = False, **members: Any
    ) -> None:
        self._revision += 1
        row = {
            "prefab_id": "hello-world",
            "version": version,
            "status": "deployed",
            "error": None,
            "warnings": "[]",
            "manifest": json.dumps(manifest(version=version, name=name, **members)),
            "digest": digest,
            "environment": "any",
            "settings": "{}",
            "revision": self._revision,
            "published_by": "ann",
            "created_at": float(self._revision),
            "size": 1,
        }
        await self.database.write(lambda connection: versions.insert(connection, row, ANN, replacing=replacing))
        self.catalogue.forget("hello-world", version)

    async def names(self) -> dict[str, str]:
        return {found.version: found.manifest.name for found in await self.catalogue.list() if found.manifest}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    database = Database.in_folder(tmp_path)
    database.open()
    yield Shop(database, tmp_path / "prefabs")
    await database.close()


async def test_no_call_of_a_removed_version_begins(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_REMOVALS", 1)
    await shop.publish("1.0.0")
    before = await shop.catalogue.find("hello-world", "1.0.0")
    assert shop.catalogue.takes_calls(before)
    await shop.catalogue.remove("hello-world", "1.0.0", ANN)
    assert not shop.catalogue.takes_calls(before)
    await shop.publish("1.0.0")
    assert shop.catalogue.takes_calls(await shop.catalogue.find("hello-world", "1.0.0"))
    assert not shop.catalogue.takes_calls(before)
    await shop.publish("2.0.0")
    await shop.catalogue.remove("hello-world", "2.0.0", ANN)
    assert len(shop.catalogue._removed) == 1
    with pytest.raises(NotFound):
        await shop.catalogue.find("hello-world", "2.0.0")


async def test_two_publishers_who_race_do_not_replace_each_other(shop: Shop) -> None:
    await shop.publish("1.0.0", digest="a" * 64)
    with pytest.raises(VersionExists, match="versions never change"):
        await shop.publish("1.0.0", digest="b" * 64)  # it was not there when the publish began
    assert (await shop.catalogue.find("hello-world", "1.0.0")).digest == "a" * 64
    await shop.publish("1.0.0", digest="b" * 64, replacing=True)
    assert (await shop.catalogue.find("hello-world", "1.0.0")).digest == "b" * 64


async def test_a_version_that_is_being_published_once_more_is_not_removed(shop: Shop) -> None:
    await shop.publish("1.0.0")
    found = await shop.catalogue.find("hello-world", "1.0.0")
    shop.catalogue.attempts["hello-world", "1.0.0"] = replace(found, status=versions.BUILDING)
    with pytest.raises(VersionInUse, match="is being published right now"):
        await shop.catalogue.remove("hello-world", "1.0.0", ANN)
    assert await shop.catalogue.find("hello-world", "1.0.0")


async def test_a_version_is_published_again_only_when_its_code_is_gone(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.publish("1.0.0")
    removes, may_end = threading.Event(), threading.Event()

    def rmtree(_folder: Path, *, ignore_errors: bool) -> None:
        removes.set()
        may_end.wait(20)

    monkeypatch.setattr(module.shutil, "rmtree", rmtree)
    removal = asyncio.create_task(shop.catalogue.remove("hello-world", "1.0.0", ANN))
    await asyncio.to_thread(removes.wait, 20)
    publisher = Publisher(shop.database, Mock(), shop.catalogue, lambda _principal: None)
    package = write_package(tmp_path / "package", "def f():\n    return 1\n", prefab_id="hello-world")
    with pytest.raises(VersionExists, match="is being removed right now"):
        await publisher.publish(package, ANN)
    assert not shop.catalogue.attempts
    may_end.set()
    await removal
    assert not shop.catalogue.is_leaving("hello-world", "1.0.0")


async def test_a_list_parses_only_what_is_new(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[threading.Thread] = []

    def counting(raw: str) -> Manifest:
        parsed.append(threading.current_thread())
        return parse_manifest(raw)

    await shop.publish("1.0.0")
    await shop.publish("2.0.0")
    monkeypatch.setattr(versions, "parse_manifest", counting)
    assert await shop.names() == {"1.0.0": "Hello", "2.0.0": "Hello"}
    assert len(parsed) == 2
    assert threading.main_thread() not in parsed
    assert await shop.names() == {"1.0.0": "Hello", "2.0.0": "Hello"}
    assert [found.version for found in await shop.catalogue.search("hello")] == ["2.0.0"]
    assert len(parsed) == 2

    await shop.publish("2.0.0", "Anew")
    await shop.publish("3.0.0")
    assert await shop.names() == {"1.0.0": "Hello", "2.0.0": "Anew", "3.0.0": "Hello"}
    await shop.catalogue.mark("hello-world", "3.0.0", ANN, {"yanked": "broken"})
    assert [found.version for found in await shop.catalogue.search("anew")] == ["2.0.0"]
    await shop.catalogue.remove("hello-world", "2.0.0", ANN)
    assert {found.version: found.yanked for found in await shop.catalogue.list()} == {"1.0.0": None, "3.0.0": "broken"}
    await shop.catalogue.set_settings("hello-world", "1.0.0", {"MODE": "new"}, ANN)
    settings = [found.deployment.settings for found in await shop.catalogue.list() if found.deployment]
    assert {"MODE": "new"} in settings


async def test_a_list_that_is_too_long_to_remember_is_whole(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_ROWS", 1)
    for version in ("1.0.0", "2.0.0"):
        await shop.publish(version)
    for _ in range(2):
        assert await shop.names() == {"1.0.0": "Hello", "2.0.0": "Hello"}
    assert len(shop.catalogue._parsed) == 1


async def test_who_mistypes_an_id_is_told_the_one_that_was_meant(shop: Shop) -> None:
    await shop.publish("1.0.0")
    for wrong, told in (
        ("hello-wrld", "Did you mean hello-world?"),
        ("hello-world-2", "hello-world?"),
        ("xyz", "xyz."),
    ):
        with pytest.raises(NotFound) as caught:
            await shop.catalogue.find(wrong, "1.0.0")
        assert str(caught.value).endswith(told)


async def test_a_manifest_that_is_longer_as_it_is_kept_is_read_all_the_same(shop: Shop) -> None:
    """As it comes it may have no spaces, and keeps the catalogue readable for all in any case."""
    short = json.dumps(manifest(tags=["a"] * 240_000), separators=(",", ":"))
    assert parse_manifest(short)
    await shop.publish("1.0.0")
    await shop.publish("2.0.0", tags=["a"] * 240_000)
    assert await shop.names() == {"1.0.0": "Hello", "2.0.0": "Hello"}
    assert (await shop.catalogue.newest("hello-world")).version == "2.0.0"


async def test_the_settings_of_a_publish_that_was_left_at_its_end_count(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, package = shop.publisher(), written(tmp_path)
    await publisher.publish(package, ANN)
    hand_over = shop.database.hand_over

    def hands_over_and_is_left(work: Any, *, durable: bool = True) -> Any:
        publish.cancel()
        return hand_over(work, durable=durable)

    with monkeypatch.context() as patch:
        patch.setattr(shop.database, "hand_over", hands_over_and_is_left)
        publish = asyncio.create_task(publisher.publish(package, ANN, settings={"MODE": "new"}))
        with pytest.raises(asyncio.CancelledError):
            await publish
    found = await shop.catalogue.find("hello-world", "1.0.0")
    assert found.deployment is not None
    assert found.deployment.settings == {"MODE": "new"}


async def test_a_publish_that_was_left_does_not_meet_the_next_one(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, package = shop.publisher(), written(tmp_path)
    writes, may_write, write_to = threading.Event(), threading.Event(), Package.write_to

    def writes_late(self: Package, folder: Path) -> None:
        writes.set()
        may_write.wait(20)
        write_to(self, folder)

    monkeypatch.setattr(Package, "write_to", writes_late)
    left = asyncio.create_task(publisher.publish(package, ANN))
    await asyncio.to_thread(writes.wait, 20)
    left.cancel()
    await asyncio.wait([left], timeout=0.05)
    with pytest.raises(VersionExists, match="right now"):
        await publisher.publish(package, ANN)
    may_write.set()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert (await publisher.publish(package, ANN)).version == "1.0.0"


async def test_settings_that_change_at_the_same_time_are_all_kept(shop: Shop) -> None:
    await shop.publish("1.0.0")
    changes: list[dict[str, str | None]] = [{f"NAME_{number}": str(number)} for number in range(20)]
    await shop.catalogue.set_settings("hello-world", "1.0.0", {"GONE": "1", "KEPT": "1"}, ANN)
    change_settings = shop.catalogue.change_settings
    await asyncio.gather(
        *(change_settings("hello-world", "1.0.0", change, ANN) for change in [*changes, {"GONE": None}])
    )
    found = await shop.catalogue.find("hello-world", "1.0.0")
    assert found.deployment is not None
    assert found.deployment.settings == {"KEPT": "1"} | {f"NAME_{number}": str(number) for number in range(20)}


async def test_environments_that_no_version_needs_go_at_the_start(shop: Shop, tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments", Mock())
    for name in ("any", "other"):
        (tmp_path / "environments" / name).mkdir(parents=True)
        (tmp_path / "environments" / name / MARKER).touch()
    await shop.publish("1.0.0")
    await Catalogue(shop.database, environments, tmp_path / "prefabs").start()
    assert [path.name for path in (tmp_path / "environments").iterdir()] == ["any"]


async def test_a_publish_unpacks_where_it_is_told_to(shop: Shop, tmp_path: Path) -> None:
    """What a kill leaves there is removed at the next start; of the system's folder nobody does that."""
    environments, unpacked = AsyncMock(), list[Path]()
    environments.resolve.side_effect = lambda *_: unpacked.extend((tmp_path / "scratch").iterdir())
    package = write_package(tmp_path / "package", "def f():\n    return 1\n", prefab_id="hello-world")
    with (tmp_path / "package.tar.gz").open("wb") as archive:
        pack_folder(package, archive)
    (tmp_path / "scratch").mkdir()
    publisher = Publisher(shop.database, environments, shop.catalogue, lambda _principal: None)
    with pytest.raises(AttributeError):
        await publisher.publish(tmp_path / "package.tar.gz", ANN, scratch=tmp_path / "scratch")
    assert len(unpacked) == 1
    assert list((tmp_path / "scratch").iterdir()) == []
