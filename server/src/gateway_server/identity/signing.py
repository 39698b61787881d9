"""The keys that sign internal tokens: one of them signs, those before it verify while a token of theirs may live."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from gateway_server.errors import Invalid
from gateway_server.identity import audit
from gateway_server.models import Principal
from gateway_server.store import schema
from gateway_server.store.cipher import Cipher, SealBroken
from gateway_server.store.database import Database
from gateway_server.store.sealed import signing_key_context

LOOK_EVERY = 1.0
"""Seconds between two looks for keys that another gateway may have made."""
_table = schema.signing_keys
_OTHER_MASTER_KEY = (
    "The secrets and signing keys of this gateway were sealed with another master key. Start with the right one: "
    "master.key of the data folder, GATEWAY_MASTER_KEY or GATEWAY_MASTER_KEY_COMMAND. If it is lost for good, start "
    "once with: gateway serve --forget-secrets. Secrets have to be set and tokens to be made anew then; API keys, "
    "files, jobs and prefabs stay."
)


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key without the key; moments in POSIX seconds."""

    id: str
    created_at: float
    retired_at: float | None
    """Since when it only verifies."""


class SigningKeys:
    """Load them before use."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher
        self._keys: dict[str, bytes] = {}
        self._looked = -LOOK_EVERY
        self._current = ""
        self._reading = asyncio.Lock()  # what was read before a key was revoked must not be taken for the latest

    async def load(self) -> None:
        """Reads the keys; makes the first one on an empty database.

        Raises:
            Invalid: they were sealed with another master key.
        """
        await self._read()
        if not self._current:
            await self._database.write(lambda c: self._make(c))
            await self._read()

    @property
    def signer(self) -> tuple[str, bytes]:
        """The id of the key that signs, and the key."""
        return self._current, self._keys[self._current]

    def find(self, key_id: str) -> bytes | None:
        """A key that verifies; None if there is none of that id."""
        return self._keys.get(key_id)

    async def look_again(self) -> bool:
        """Reads the keys anew, unless that has just been done; says whether it was."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return False
        self._looked = time.monotonic()
        await self._read()
        return True

    async def rotate(self, by: Principal, *, revoke_old: bool = False) -> list[SigningKey]:
        """Signs with a new key from now on; gives all there are, newest first. Those before it verify on, or with
        `revoke_old` end at once, and with them every token."""

        def work(connection: Connection) -> None:
            if revoke_old:
                connection.execute(_table.delete())
            else:
                retire = _table.update().where(_table.c.retired_at.is_(None))
                connection.execute(retire.values(retired_at=time.time()))
            audit.record(connection, by, "signing-key.rotate", self._make(connection), revoke_old=revoke_old)

        await self._database.write(work)
        return await self._read()

    async def sweep(self, before: float) -> None:
        """Removes keys that were retired before a moment in POSIX seconds."""
        gone = _table.delete().where(_table.c.retired_at < before)
        if (await self._database.write(lambda c: c.execute(gone), durable=False)).rowcount:
            await self._read()

    def _make(self, connection: Connection) -> str:
        name = secrets.token_hex(8)
        sealed = self._cipher.seal(secrets.token_bytes(32), signing_key_context(name))
        connection.execute(_table.insert().values(id=name, sealed=sealed, created_at=time.time()))
        return name

    async def _read(self) -> list[SigningKey]:
        wanted = select(_table).order_by(_table.c.created_at.desc())
        async with self._reading:
            rows = await self._database.read(lambda c: c.execute(wanted).all())
            self._keys = {row.id: self._open(row) for row in rows}
            self._current = next((row.id for row in rows if row.retired_at is None), "")
        return [SigningKey(id=row.id, created_at=row.created_at, retired_at=row.retired_at) for row in rows]

    def _open(self, row: Any) -> bytes:
        try:
            return self._cipher.open(row.sealed, signing_key_context(row.id))
        except SealBroken as error:
            raise Invalid(_OTHER_MASTER_KEY) from error
