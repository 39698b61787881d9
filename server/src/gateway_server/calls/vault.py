"""Secrets of users: write-only, sealed at rest, opened for the one call of a function that declares them."""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from gateway_server.errors import MissingSecret, NotFound, ServiceUnavailable
from gateway_server.identity import audit
from gateway_server.models import Principal
from gateway_server.prefabs.functions import Secret
from gateway_server.store import schema
from gateway_server.store.cipher import Cipher, SealBroken
from gateway_server.store.database import Database
from gateway_server.store.sealed import secret_context

_table = schema.secrets
_ONE = "SELECT sealed FROM secrets WHERE user = ? AND prefab_id = ? AND name = ?"


class Vault:
    """Secrets by user, prefab id and name; versions of a prefab share them."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher

    async def put(self, user: str, prefab_id: str, name: str, value: str, by: Principal) -> None:
        """Sets a secret, replacing what was there."""
        key = {"user": user, "prefab_id": prefab_id, "name": name}
        sealed = self._cipher.seal(value.encode(), secret_context(user, prefab_id, name))

        def work(connection: Connection) -> None:
            connection.execute(delete(_table).filter_by(**key))
            connection.execute(_table.insert().values(**key, sealed=sealed, updated_at=time.time()))
            _record(connection, by, "secret.set", user, prefab_id, name)

        await self._database.write(work)

    async def names(self, user: str, prefab_id: str | None = None) -> list[tuple[str, str]]:
        """(prefab id, name) of a user's secrets; values are never given out."""
        wanted = select(_table.c.prefab_id, _table.c.name).where(_table.c.user == user)
        if prefab_id is not None:
            wanted = wanted.where(_table.c.prefab_id == prefab_id)
        rows = await self._database.read(lambda c: c.execute(wanted.order_by(_table.c.prefab_id, _table.c.name)).all())
        return [(row.prefab_id, row.name) for row in rows]

    async def remove(self, user: str, prefab_id: str, name: str, by: Principal) -> None:
        """Forgets a secret.

        Raises:
            NotFound: there is none of that name.
        """
        gone = delete(_table).filter_by(user=user, prefab_id=prefab_id, name=name)

        def work(connection: Connection) -> bool:
            found = bool(connection.execute(gone).rowcount)
            if found:
                _record(connection, by, "secret.remove", user, prefab_id, name)
            return found

        if not await self._database.write(work):
            raise NotFound(f"There is no secret {name} for prefab {prefab_id}.")

    async def unlock(self, user: str, prefab_id: str, declared: Sequence[Secret]) -> dict[str, str]:
        """The values of the declared secrets that the user has set.

        Raises:
            MissingSecret: a required one is not set.
            ServiceUnavailable: one was sealed with another master key.
        """
        if not declared:
            return {}
        sealed = await self._sealed(user, prefab_id, [secret.name for secret in declared])
        for secret in declared:
            if secret.required and secret.name not in sealed:
                raise MissingSecret(prefab_id, secret.name, secret.instructions or None)
        try:
            return {n: self._cipher.open(v, secret_context(user, prefab_id, n)).decode() for n, v in sealed.items()}
        except SealBroken as error:
            text = (
                f"A secret of prefab {prefab_id} was sealed with another master key. Set it again, or restore the key."
            )
            raise ServiceUnavailable(text) from error

    async def _sealed(self, user: str, prefab_id: str, names: Sequence[str]) -> dict[str, bytes]:
        """Secrets as they are kept, by name; those that are not set are left out."""
        if self._database.looks_up:
            rows = ((name, self._database.look_up(_ONE, user, prefab_id, name)) for name in names)
            return {name: row[0] for name, row in rows if row is not None}
        wanted = select(_table).where(_table.c.user == user, _table.c.prefab_id == prefab_id, _table.c.name.in_(names))
        found = await self._database.read(lambda c: c.execute(wanted).all(), settled=False)
        return {row.name: row.sealed for row in found}


def _record(connection: Connection, by: Principal, action: str, user: str, prefab_id: str, name: str) -> None:
    """What users do with their own secrets is theirs alone; what an admin does with those of others is told."""
    if by.user != user:
        audit.record(connection, by, action, user, prefab_id=prefab_id, name=name)
