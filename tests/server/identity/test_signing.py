"""Signing keys: rotated without an outage, revoked at once, found when another gateway has made them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway_server.errors import Invalid, Unauthenticated
from gateway_server.identity import audit, signing
from gateway_server.identity.signing import SigningKeys
from gateway_server.identity.tokens import Tokens
from gateway_server.identity.users import Users
from gateway_server.models import Principal
from gateway_server.store import schema
from gateway_server.store.cipher import Cipher
from gateway_server.store.database import Database

pytestmark = pytest.mark.anyio
MASTER = b"m" * 32
ANN, ADMIN = Principal(user="ann"), Principal(user="admin")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Database]:
    database = Database.in_folder(folder)
    database.open()
    try:
        yield database
    finally:
        await database.close()


async def gateway(database: Database, master: bytes = MASTER) -> tuple[SigningKeys, Tokens]:
    """The part of a gateway over a database that knows tokens."""
    keys = SigningKeys(database, Cipher(master))
    await keys.load()
    return keys, Tokens(database, keys, Users(database))


def minted(tokens: Tokens) -> str:
    return tokens.mint(ANN, expires_at=time.time() + 60)


def refused(act: Callable[[], object]) -> None:
    with pytest.raises(Unauthenticated):
        act()


async def test_a_rotation_ends_no_token(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        keys, tokens = await gateway(database)
        remembered, unseen = minted(tokens), minted(tokens)
        tokens.verify(remembered)
        newest, retired = await keys.rotate(ADMIN)
        assert newest.retired_at is None
        assert retired.retired_at is not None
        after = minted(tokens)
        for token in (remembered, unseen, after):
            assert tokens.verify(token).user == "ann"
        assert keys.signer[0] == newest.id != retired.id
        (entry,) = await audit.entries(database, action="signing-key.rotate")
        assert (entry.actor, entry.target, entry.detail) == ("admin", newest.id, {"revoke_old": False})
        _, again = await gateway(database)
        for token in (remembered, unseen, after):
            assert again.verify(token).user == "ann"


async def test_a_revoked_key_ends_its_tokens_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        keys, tokens = await gateway(database)
        remembered, unseen = minted(tokens), minted(tokens)
        tokens.verify(remembered)
        assert len(await keys.rotate(ADMIN, revoke_old=True)) == 1
        for token in (remembered, unseen):
            refused(lambda token=token: tokens.verify(token))  # type: ignore[misc]
        assert tokens.verify(minted(tokens)).user == "ann"


async def test_retired_keys_go_when_no_token_of_theirs_can_live(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        keys, tokens = await gateway(database)
        token, before = minted(tokens), time.time()
        await keys.rotate(ADMIN)
        await keys.sweep(before)
        assert tokens.verify(token).user == "ann"
        await keys.sweep(time.time() + 1)
        refused(lambda: tokens.verify(token))
        assert tokens.verify(minted(tokens)).user == "ann"
        assert len(await database.read(lambda c: c.execute(select(schema.signing_keys)).all())) == 1


async def test_a_key_of_another_gateway_is_looked_for_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as database:
        keys, tokens = await gateway(database)
        _, others = await gateway(database)
        await keys.rotate(ADMIN)
        token = minted(tokens)
        refused(lambda: others.verify(token))
        assert (await others.identify(token)).user == "ann"
        looks = []
        look = others._signing._read
        monkeypatch.setattr(others._signing, "_read", lambda: looks.append(1) or look())
        unknown = minted((await gateway_elsewhere(tmp_path))[1])
        for _ in range(20):
            with pytest.raises(Unauthenticated):
                await others.identify(unknown)
        assert not looks, "a flood of foreign tokens must not become a flood of reads"
        monkeypatch.setattr(signing, "LOOK_EVERY", 0.0)
        for wrong in (unknown, "no token", f"{token[:-3]}xyz"):
            with pytest.raises(Unauthenticated):
                await others.identify(wrong)
        assert len(looks) == 1, "only a key that is not known is worth a look"


async def gateway_elsewhere(folder: Path) -> tuple[SigningKeys, Tokens]:
    other = folder / "other"
    other.mkdir()
    async with opened(other) as database:
        return await gateway(database)


async def test_concurrent_rotations_leave_one_key_that_signs(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        keys, tokens = await gateway(database)
        token = minted(tokens)
        await asyncio.gather(*(keys.rotate(ADMIN) for _ in range(5)))
        rows = await database.read(lambda c: c.execute(select(schema.signing_keys)).all())
        assert [row.retired_at is None for row in rows].count(True) == 1
        assert len(rows) == 6
        assert tokens.verify(token).user == tokens.verify(minted(tokens)).user == "ann"


async def test_another_master_key_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        await gateway(database)
        with pytest.raises(
            Invalid, match=r"another master key.*--forget-secrets.*API keys, files, jobs and prefabs stay"
        ):
            await gateway(database, b"o" * 32)


async def test_what_was_read_before_a_key_was_revoked_does_not_bring_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as database:
        keys, _ = await gateway(database)
        revoked, read, has_read, held = keys.signer[0], database.read, asyncio.Event(), asyncio.Event()

        async def reads_late(work: Callable[[object], object]) -> object:
            monkeypatch.setattr(database, "read", read)  # the others are read at once
            rows = await read(work)
            has_read.set()
            await held.wait()
            return rows

        monkeypatch.setattr(database, "read", reads_late)
        monkeypatch.setattr(keys, "_looked", -signing.LOOK_EVERY)
        looking = asyncio.create_task(keys.look_again())
        await has_read.wait()
        rotating = asyncio.create_task(keys.rotate(ADMIN, revoke_old=True))
        await asyncio.wait([rotating], timeout=0.2)  # it may have to wait for the other
        held.set()
        await asyncio.gather(looking, rotating)
        assert keys.find(revoked) is None
        assert keys.signer[0] != revoked
