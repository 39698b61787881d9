"""API keys: what people and programs outside prove themselves with. Only a digest of a key is stored."""

import hashlib
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, select

from gateway_server.errors import NotFound, PermissionDenied, Unauthenticated
from gateway_server.identity import audit
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope
from gateway_server.store import schema
from gateway_server.store.database import Database

PREFIX = "sk-"
_WITH_DIGEST = select(schema.api_keys).where(schema.api_keys.c.digest == bindparam("digest"))


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """An API key as it is known after it was made: without the key."""

    id: str
    user: str
    name: str
    scopes: frozenset[Scope]
    prefabs: frozenset[str] | None
    """What it is limited to; None for all prefabs."""
    created_at: float
    revoked_at: float | None


class Keys:
    """Makes, checks and revokes API keys. Checked keys are remembered; a revocation counts at once."""

    def __init__(self, database: Database, users: Users) -> None:
        self._database = database
        self._users = users
        self._known: dict[str, Principal] = {}
        """By digest."""
        self._revocations = 0

    async def create(
        self,
        user: str,
        scopes: Iterable[Scope],
        name: str = "",
        *,
        prefabs: Iterable[str] | None = None,
        by: Principal | None = None,
    ) -> tuple[str, ApiKey]:
        """A new key and its record. The key is shown this once and never again.

        Raises:
            Invalid: the user is disabled.
        """
        await self._users.register(user, by)
        text = PREFIX + secrets.token_urlsafe(32)
        kept = frozenset(scopes)
        limit = None if prefabs is None else frozenset(prefabs)
        key = ApiKey(
            id=f"key_{secrets.token_hex(8)}",
            user=user,
            name=name,
            scopes=kept,
            prefabs=limit,
            created_at=time.time(),
            revoked_at=None,
        )
        values = {
            "id": key.id,
            "digest": _digest(text),
            "user": user,
            "name": name,
            "scopes": " ".join(sorted(kept)),
            "prefabs": None if limit is None else " ".join(sorted(limit)),
            "created_at": key.created_at,
        }

        told = {} if limit is None else {"prefabs": sorted(limit)}

        def work(connection: Connection) -> None:
            connection.execute(schema.api_keys.insert().values(values))
            audit.record(connection, by, "key.create", key.id, user=user, scopes=sorted(kept), **told)

        await self._database.write(work)
        return text, key

    async def verify(self, text: str) -> Principal:
        """Who the key stands for: a user, and no agent.

        Raises:
            Unauthenticated: no such key, revoked, or of a user who may not call.
        """
        principal = self.recall(text)
        if principal is not None:
            return principal
        digest, revocations = _digest(text), self._revocations
        work = partial(_find, digest=digest)
        row = self._database.glance(work) if self._database.looks_up else await self._database.read(work, settled=False)
        if row is None:
            raise Unauthenticated("The API key is not valid.")
        if row.revoked_at is not None:
            raise Unauthenticated("The API key has been revoked.")
        key = _from_row(row)
        self._users.check(key.user, key.created_at)
        principal = Principal(
            user=key.user, scopes=key.scopes, prefabs=key.prefabs, key_id=key.id, issued_at=key.created_at
        )
        if revocations == self._revocations:  # else the row may be from before a revocation
            self._known[digest] = principal
        return principal

    def recall(self, text: str) -> Principal | None:
        """The same for a key that has been verified lately; else None.

        Raises:
            Unauthenticated: it is of a user who may not call.
        """
        principal = self._known.get(_digest(text)) if self._known else None
        if principal is not None:
            self._users.check(principal.user, principal.issued_at)
        return principal

    async def list(self, user: str | None = None) -> list[ApiKey]:
        """All keys, or those of one user, newest first."""
        table = schema.api_keys
        wanted = select(table).order_by(table.c.created_at.desc())
        if user is not None:
            wanted = wanted.where(table.c.user == user)
        rows = await self._database.read(lambda c: c.execute(wanted).all())
        return [_from_row(row) for row in rows]

    async def has_admin(self) -> bool:
        """Whether there is a key by which somebody can make others."""
        return bool(await self._database.read(_of_admins))

    async def owner(self, key_id: str) -> str | None:
        """Whose a key is; None if there is none of that id."""
        wanted = select(schema.api_keys.c.user).where(schema.api_keys.c.id == key_id)
        return await self._database.read(lambda c: c.execute(wanted).scalar())

    async def revoke(self, key_id: str, by: Principal) -> ApiKey:
        """Ends a key; revoking it again changes nothing.

        Raises:
            NotFound: there is no key of that id.
            PermissionDenied: it is the last one by which somebody could make others.
        """
        table = schema.api_keys
        moment = time.time()
        change = table.update().where(table.c.id == key_id, table.c.revoked_at.is_(None)).values(revoked_at=moment)

        def work(connection: Connection) -> Any:
            _keep_an_admin(connection, key_id)
            if connection.execute(change).rowcount:
                audit.record(connection, by, "key.revoke", key_id)
            return connection.execute(select(table).where(table.c.id == key_id)).first()

        row = await self._database.write(work)
        if row is None:
            raise NotFound(f"There is no API key {key_id}.")
        self.reread()
        return _from_row(row)

    def reread(self) -> None:
        """Forgets what is remembered: keys were revoked or removed."""
        self._revocations += 1
        self._known.clear()

    async def revoked(self) -> set[str]:
        """Ids of all revoked keys."""
        table = schema.api_keys
        wanted = select(table.c.id).where(table.c.revoked_at.is_not(None))
        return set(await self._database.read(lambda c: c.execute(wanted).scalars().all()))


def _keep_an_admin(connection: Connection, key_id: str) -> None:
    """Without any admin's key nobody could ever make one again."""
    if _of_admins(connection) == {key_id}:
        raise PermissionDenied("This is the last key of an admin. Make another first: gateway key create --scope admin")


def _of_admins(connection: Connection) -> set[str]:
    """Ids of the keys by which somebody can make others."""
    keys, users = schema.api_keys, schema.users
    valid = select(keys.c.id, keys.c.scopes).join(users, users.c.id == keys.c.user)
    rows = connection.execute(valid.where(keys.c.revoked_at.is_(None), users.c.disabled_at.is_(None))).all()
    return {row.id for row in rows if Scope.ADMIN in row.scopes.split()}


def _find(connection: Connection, digest: str) -> Any:
    return connection.execute(_WITH_DIGEST, {"digest": digest}).first()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _from_row(row) -> ApiKey:  # type: ignore[no-untyped-def]
    return ApiKey(
        id=row.id,
        user=row.user,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes.split()),
        prefabs=None if row.prefabs is None else frozenset(row.prefabs.split()),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
