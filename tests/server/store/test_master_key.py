"""The master key: where it comes from, how it changes under load and cuts, and what its loss costs."""

import base64
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway_server.calls.vault import Vault
from gateway_server.errors import Invalid, ServiceUnavailable
from gateway_server.identity.signing import SigningKeys
from gateway_server.models import Principal
from gateway_server.prefabs.functions import Secret
from gateway_server.store import master_key, sealed
from gateway_server.store.cipher import Cipher, SealBroken
from gateway_server.store.database import Database

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
ANN = Principal(user="ann")
NAMES = [f"NAME_{number}" for number in range(7)]
DECLARED = [Secret(name=name, description="", instructions="", required=True) for name in NAMES]


def text(key: bytes) -> str:
    return base64.b64encode(key).decode() + "\n"


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    first = master_key.read(tmp_path, {})
    assert master_key.read(tmp_path, {}) == first
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    assert len(first.current) == 32
    assert first.previous is None


def test_the_environment_comes_before_the_command_and_that_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "master.key").write_text(text(OTHER))
    script = f"print({text(NEW).strip()!r})"
    command = {"GATEWAY_MASTER_KEY_COMMAND": f'{sys.executable} -c "{script}"'}
    assert master_key.read(tmp_path, {}).current == OTHER
    assert master_key.read(tmp_path, command).current == NEW
    assert master_key.read(tmp_path, command | {"GATEWAY_MASTER_KEY": text(OLD)}).current == OLD
    both = {"GATEWAY_MASTER_KEY": text(NEW), "GATEWAY_MASTER_KEY_PREVIOUS": text(OLD)}
    assert master_key.read(tmp_path, both) == (NEW, OLD)


@pytest.mark.parametrize("told", ["", "short", "!" * 44, text(b"x" * 31), text(b"x" * 33), "é"])
def test_what_is_no_key_is_told(tmp_path: Path, told: str) -> None:
    (tmp_path / "master.key").write_text(told)
    with pytest.raises(Invalid, match=r"master\.key is no master key: 32 bytes as base64"):
        master_key.read(tmp_path, {})
    if told:
        with pytest.raises(Invalid, match="GATEWAY_MASTER_KEY is no master key") as caught:
            master_key.read(tmp_path, {"GATEWAY_MASTER_KEY": told})
        assert told.strip() not in caught.value.message


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nowhere/client", "No such file"),
        (f"{sys.executable} -c \"raise SystemExit('the vault is sealed')\"", "the vault is sealed"),
        (f'{sys.executable} -c "print(7)"', "is no master key"),
        ("'", "No closing quotation"),
    ],
)
def test_a_command_that_fails_is_told(tmp_path: Path, command: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        master_key.read(tmp_path, {"GATEWAY_MASTER_KEY_COMMAND": command})
    assert not (tmp_path / "master.key").exists()


def test_a_rotation_keeps_the_key_before(tmp_path: Path) -> None:
    old = master_key.read(tmp_path, {}).current
    master_key.rotate(tmp_path, {})
    new = master_key.read(tmp_path, {})
    assert new.previous == old != new.current
    with pytest.raises(Invalid, match="has not been started since"):
        master_key.rotate(tmp_path, {})  # which would lose the first one
    assert master_key.read(tmp_path, {}) == new
    master_key.forget_previous(tmp_path)
    assert master_key.read(tmp_path, {}) == (new.current, None)


def test_a_rotation_that_was_cut_between_the_files_is_begun_anew(tmp_path: Path) -> None:
    old = master_key.read(tmp_path, {}).current
    (tmp_path / "master.key.previous").write_text((tmp_path / "master.key").read_text())
    assert not Cipher(*master_key.read(tmp_path, {})).is_changing
    master_key.rotate(tmp_path, {})
    assert master_key.read(tmp_path, {}).previous == old


def test_a_key_that_comes_from_elsewhere_is_rotated_there(tmp_path: Path) -> None:
    for variable in ("GATEWAY_MASTER_KEY", "GATEWAY_MASTER_KEY_COMMAND"):
        with pytest.raises(Invalid, match=f"comes from {variable}.*GATEWAY_MASTER_KEY_PREVIOUS"):
            master_key.rotate(tmp_path, {variable: text(OLD)})
    with pytest.raises(Invalid, match="the first start"):
        master_key.rotate(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_value_opens_with_its_key_at_its_place_only() -> None:
    value = Cipher(OLD).seal(b"value", "place")
    assert Cipher(OLD).open(value, "place") == Cipher(NEW, OLD).open(value, "place") == b"value"
    changed = bytes([value[-1] ^ 1])
    for cipher, wrong, context in (
        (Cipher(NEW), value, "place"),
        (Cipher(NEW, OTHER), value, "place"),
        (Cipher(OLD), value, "elsewhere"),
        (Cipher(OLD), value[:-1] + changed, "place"),
        (Cipher(OLD), value[:40], "place"),
        (Cipher(OLD), b"", "place"),
    ):
        with pytest.raises(SealBroken):
            cipher.open(wrong, context)
    anew = Cipher(NEW, OLD).rewrap(value, "place")
    assert anew is not None
    assert Cipher(NEW).open(anew, "place") == b"value"
    assert Cipher(NEW, OLD).rewrap(anew, "place") is None
    with pytest.raises(SealBroken):
        Cipher(OLD).open(anew, "place")


@asynccontextmanager
async def filled(folder: Path) -> AsyncIterator[Database]:
    """A database with secrets of ann's and a signing key, under the old master key."""
    database = Database.in_folder(folder)
    database.open()
    try:
        await SigningKeys(database, Cipher(OLD)).load()
        for name in NAMES:
            await Vault(database, Cipher(OLD)).put("ann", "some-prefab", name, f"value of {name}", ANN)
        yield database
    finally:
        await database.close()


async def values(database: Database, cipher: Cipher) -> dict[str, str]:
    return await Vault(database, cipher).unlock("ann", "some-prefab", DECLARED)


@pytest.mark.anyio
async def test_a_change_cut_anywhere_loses_nothing_and_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "BATCH", 2)
    write = Database.write
    for cut in range(5):
        folder = tmp_path / str(cut)
        folder.mkdir()
        async with filled(folder) as database:
            expected = await values(database, Cipher(OLD))
            left = iter(range(cut))

            async def breaking(self, work, **options):  # type: ignore[no-untyped-def]
                if next(left, None) is None:
                    raise ConnectionAbortedError
                return await write(self, work, **options)

            with monkeypatch.context() as patched:
                patched.setattr(Database, "write", breaking)
                with pytest.raises(ConnectionAbortedError):
                    await sealed.rewrap(database, Cipher(NEW, OLD))
            assert await values(database, Cipher(NEW, OLD)) == expected
            done = await sealed.rewrap(database, Cipher(NEW, OLD))
            # one batch of a signing key, then batches of two secrets
            assert done == (len(NAMES) + 1 - (2 * cut - 1 if cut else 0), 0)
            assert await values(database, Cipher(NEW)) == expected
            await SigningKeys(database, Cipher(NEW)).load()
            with pytest.raises(ServiceUnavailable):
                await values(database, Cipher(OLD))


@pytest.mark.anyio
async def test_what_is_set_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that still runs with the old key may set a secret between the reading and the writing of a batch."""
    async with filled(tmp_path) as database:
        replace, late_ones = sealed._replace, iter([NAMES[3]])

        def late(connection, table, changes):  # type: ignore[no-untyped-def]
            if table.name == "secrets" and next(late_ones, None):
                newer = Cipher(OLD).seal(b"newer", sealed.secret_context("ann", "some-prefab", NAMES[3]))
                connection.execute(table.update().where(table.c.name == NAMES[3]).values(sealed=newer))
            replace(connection, table, changes)

        monkeypatch.setattr(sealed, "_replace", late)
        await sealed.rewrap(database, Cipher(NEW, OLD))
        assert (await values(database, Cipher(NEW)))[NAMES[3]] == "newer"


@pytest.mark.anyio
async def test_only_what_is_lost_is_forgotten(tmp_path: Path) -> None:
    async with filled(tmp_path) as database:
        await Vault(database, Cipher(NEW)).put("ann", "some-prefab", NAMES[0], "kept", ANN)
        assert await sealed.rewrap(database, Cipher(NEW, OTHER)) == (0, len(NAMES))  # all but one, and the signing key
        assert await sealed.forget_lost(database, Cipher(NEW)) == len(NAMES)
        assert await sealed.forget_lost(database, Cipher(NEW)) == 0
        assert await Vault(database, Cipher(NEW)).names("ann") == [("some-prefab", NAMES[0])]
        assert await Vault(database, Cipher(NEW)).unlock("ann", "some-prefab", DECLARED[:1]) == {NAMES[0]: "kept"}
        await SigningKeys(database, Cipher(NEW)).load()
