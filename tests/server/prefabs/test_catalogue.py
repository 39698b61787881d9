"""What the catalogue says of versions that come, change and go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from gateway_server.errors import NotFound
from gateway_server.models import Principal, Scope
from gateway_server.prefabs import catalogue as module
from gateway_server.prefabs import versions
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.store.database import Database

from .conftest import manifest

ANN = Principal(user="ann", scopes=frozenset(Scope))
pytestmark = pytest.mark.anyio


class Shop:
    """A catalogue of versions that were never built."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._revision = 0
        environments = Mock()
        environments.path.return_value = folder
        self.catalogue = Catalogue(database, environments, folder)

    async def publish(self, version: str, name: str = "Hello") -> None:
        self._revision += 1
        row = {
            "prefab_id": "hello-world",
            "version": version,
            "status": "deployed",
            "error": None,
            "warnings": "[]",
            "manifest": json.dumps(manifest(version=version, name=name)),
            "digest": "0" * 64,
            "environment": "any",
            "settings": "{}",
            "revision": self._revision,
            "published_by": "ann",
            "created_at": float(self._revision),
            "size": 1,
        }
        await self._database.write(lambda connection: versions.insert(connection, row, ANN))
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
