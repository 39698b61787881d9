"""What is remembered to save a look into the database never outlives what the database says."""

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest

from gateway_server.errors import NotFound, Unauthenticated
from gateway_server.identity.keys import Keys
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.versions import Version
from gateway_server.store.database import Database


class SlowDatabase(Database):
    """Gives what it read only when told to, so that a test can put something in between, and reads nothing at once."""

    looks_up = False

    def hold(self) -> None:
        self.has_read, self.go_on = asyncio.Event(), asyncio.Event()
        self.is_held = True

    async def read(self, work, *, settled=True):
        found = await super().read(work, settled=settled)
        if getattr(self, "is_held", False):
            self.is_held = False
            self.has_read.set()
            await self.go_on.wait()
        return found


def run(main, folder: Path) -> None:
    async def whole() -> None:
        database = SlowDatabase.in_folder(folder)
        database.open()
        try:
            await main(database)
        finally:
            await database.close()

    asyncio.run(asyncio.wait_for(whole(), 20))


def test_a_key_that_was_revoked_during_a_look_is_not_remembered(tmp_path: Path):
    async def main(database: SlowDatabase) -> None:
        keys = Keys(database, Users(database))
        text, key = await keys.create("ann", [Scope.CALL])
        database.hold()
        looking = asyncio.create_task(keys.verify(text))
        await database.has_read.wait()
        await keys.revoke(key.id, Principal(user="admin"))
        database.go_on.set()
        await asyncio.wait([looking])
        with pytest.raises(Unauthenticated):
            await keys.verify(text)

    run(main, tmp_path)


def test_a_key_is_found_at_once_where_the_database_is_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def main(database: SlowDatabase) -> None:
        monkeypatch.setattr(SlowDatabase, "looks_up", True)
        keys = Keys(database, Users(database))
        text, key = await keys.create("ann", [Scope.CALL])
        database.hold()  # whoever reads now would wait for good
        found = await keys.verify(text)
        assert (found.user, found.key_id) == ("ann", key.id)
        assert found == keys.recall(text)
        with pytest.raises(Unauthenticated):
            await keys.verify(text + "x")
        await keys.revoke(key.id, Principal(user="admin"))
        with pytest.raises(Unauthenticated, match="revoked"):
            await keys.verify(text)

    run(main, tmp_path)


def test_a_glance_leaves_no_transaction_behind(tmp_path: Path):
    """Whatever came of it: the next one, and a plain look, see what has been written meanwhile."""

    async def main(database: SlowDatabase) -> None:
        users = Users(database)
        count = "SELECT count(*) FROM users"
        with pytest.raises(ZeroDivisionError):
            database.glance(lambda connection: connection.exec_driver_sql(count).scalar_one() / 0)
        for number in range(3):
            assert database.glance(lambda connection: connection.exec_driver_sql(count).scalar_one()) == number
            assert database.look_up(count) == (number,)
            await users.register(f"user-{number}", None)

    run(main, tmp_path)


def test_a_version_that_was_removed_during_a_look_is_not_remembered(tmp_path: Path):
    async def main(database: SlowDatabase) -> None:
        catalogue = Catalogue(database, Mock(), tmp_path / "prefabs")
        version = Version(prefab_id="odd", version="1.0.0", status="deployed", owner="ann", created_at=0.0)
        catalogue._from_row = lambda row: version  # type: ignore[method-assign]
        await database.write(
            lambda c: c.exec_driver_sql("INSERT INTO prefabs (id, owner, created_at) VALUES ('odd', 'ann', 0)")
        )
        await database.write(lambda c: c.exec_driver_sql(INSERT))
        database.hold()
        looking = asyncio.create_task(catalogue.find("odd", "1.0.0"))
        await database.has_read.wait()
        await catalogue.remove("odd", "1.0.0", Principal(user="ann", scopes=frozenset(Scope)))
        database.go_on.set()
        await asyncio.wait([looking])
        with pytest.raises(NotFound):
            await catalogue.find("odd", "1.0.0")

    run(main, tmp_path)


INSERT = """
INSERT INTO versions (prefab_id, version, status, warnings, manifest, digest, environment, settings, revision,
published_by, created_at, size) VALUES ('odd', '1.0.0', 'deployed', '[]', '{}', 'd', 'e', '{}', 1, 'ann', 0, 1)
"""
