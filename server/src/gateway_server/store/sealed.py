"""Everything that is sealed in the database: what a change of the master key has to reach, and its loss to leave."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Table, and_, select, tuple_

from gateway_server.store import schema
from gateway_server.store.cipher import Cipher, SealBroken
from gateway_server.store.database import Database

BATCH = 500
"""Values that change in one transaction."""


class Rewrapped(NamedTuple):
    """How many values are under the current key now that were not, and how many no key opens."""

    changed: int
    lost: int


def secret_context(user: str, prefab_id: str, name: str) -> str:
    """The place of a secret."""
    return f"secret/{user}/{prefab_id}/{name}"


def signing_key_context(key_id: str) -> str:
    """The place of a signing key."""
    return f"signing-key/{key_id}"


_TABLES: tuple[tuple[Table, Callable[..., str]], ...] = (
    (schema.signing_keys, signing_key_context),
    (schema.secrets, secret_context),
)


async def rewrap(database: Database, cipher: Cipher) -> Rewrapped:
    """Puts every value under the current master key. It may be cut anywhere: each value is under one of both keys, and
    the next time goes on."""
    count = 0
    while True:  # until nobody has set one under the previous key meanwhile
        changed, lost = await _rewrap_all(database, cipher)
        count += changed
        if not changed:
            return Rewrapped(count, lost)


async def _rewrap_all(database: Database, cipher: Cipher) -> Rewrapped:
    count = lost = 0
    for table, context in _TABLES:
        last: Sequence[Any] | None = None
        while rows := await _page(database, table, last):
            changed = []
            for row in rows:
                *place, sealed = row
                try:
                    if (anew := cipher.rewrap(sealed, context(*place))) is not None:
                        changed.append((place, sealed, anew))
                except SealBroken:
                    lost += 1
            if changed:
                await database.write(lambda c, t=table, changes=changed: _replace(c, t, changes))  # type: ignore[misc]
            count += len(changed)
            last = rows[-1][:-1]
    return Rewrapped(count, lost)


async def forget_lost(database: Database, cipher: Cipher) -> int:
    """Removes what no key opens; says how many values."""
    count = 0
    for table, context in _TABLES:
        last: Sequence[Any] | None = None
        while rows := await _page(database, table, last):
            gone = [place for *place, sealed in rows if not _opens(cipher, sealed, context(*place))]
            if gone:
                await database.write(lambda c, t=table, places=gone: _remove(c, t, places))  # type: ignore[misc]
            count += len(gone)
            last = rows[-1][:-1]
    return count


async def _page(database: Database, table: Table, last: Sequence[Any] | None) -> Sequence[Any]:
    key = list(table.primary_key.columns)
    wanted = select(*key, table.c.sealed).order_by(*key).limit(BATCH)
    if last is not None:
        wanted = wanted.where(tuple_(*key) > tuple(last))
    return await database.read(lambda c: c.execute(wanted).all())


def _replace(connection: Connection, table: Table, changes: Sequence[tuple[Sequence[Any], bytes, bytes]]) -> None:
    for place, sealed, anew in changes:  # one that has been set meanwhile is left alone
        change = table.update().where(_is_at(table, place), table.c.sealed == sealed).values(sealed=anew)
        connection.execute(change)


def _remove(connection: Connection, table: Table, places: Sequence[Sequence[Any]]) -> None:
    for place in places:
        connection.execute(table.delete().where(_is_at(table, place)))


def _is_at(table: Table, place: Sequence[Any]) -> Any:
    columns: list[Column[Any]] = list(table.primary_key.columns)
    return and_(*(column == value for column, value in zip(columns, place, strict=True)))


def _opens(cipher: Cipher, sealed: bytes, context: str) -> bool:
    try:
        cipher.open(sealed, context)
    except SealBroken:
        return False
    return True
