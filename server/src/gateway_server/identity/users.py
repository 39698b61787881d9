"""Users: the names that keys and tokens stand for, and which of them may no longer call.

A name becomes a user with its first key, token, quota or secret. One who is disabled or deleted is refused from the
next request on. A deleted name may be given out anew; what was issued before does not come to life again.
"""

import asyncio
import difflib
import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Select, and_, func, or_, select, update

from gateway_server.errors import Invalid, PermissionDenied, Problem, Unauthenticated, UserNotFound
from gateway_server.identity import audit
from gateway_server.models import Principal
from gateway_server.store import schema
from gateway_server.store.database import Database

_table, _keys = schema.users, schema.api_keys
_NEVER = math.inf


class UserStatus(StrEnum):
    """Whether a user may call."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True)
class User:
    """A user; the moment is in POSIX seconds."""

    id: str
    status: UserStatus
    created_at: float
    keys: int
    """API keys that are valid."""


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """A user who is no more; moments in POSIX seconds."""

    deleted_at: float
    erased_at: float | None
    """When everything of theirs was gone; None while it is not."""

    @property
    def is_erased(self) -> bool:
        """Whether everything of theirs is gone."""
        return self.erased_at is not None


class Users:
    """The registry. Load it before use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._barred: dict[str, float] = {}
        """Users of whom nothing counts that was issued before a moment: few, so that the check costs one look."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def load(self) -> None:
        """Reads who is barred."""
        wanted = select(_table).where(or_(_table.c.disabled_at.is_not(None), _table.c.deleted_at.is_not(None)))
        for row in await self._database.read(lambda c: c.execute(wanted).all()):
            self._barred[row.id] = row.created_at if _is_present(row) and row.disabled_at is None else _NEVER

    def check(self, user: str, issued_at: float) -> None:
        """Refuses what was issued to a user before a moment in POSIX seconds, if it no longer counts.

        Raises:
            Unauthenticated: the user is disabled or deleted, or this proof is from before the deletion.
        """
        since = self._barred.get(user)
        if since is not None and issued_at < since:
            raise Unauthenticated(f"The user {user} may not call: disabled or deleted.")

    def check_principal(self, principal: Principal) -> None:
        """`check` for an identity that was good a moment ago. Asked right before a write is handed over, it makes sure
        that a deletion takes along whatever the write leaves.

        Raises:
            Unauthenticated: its user, or whoever had its token made, may not call any more.
        """
        self.check(principal.user, principal.issued_at)
        if principal.made_by is not None:
            self.check(principal.made_by, principal.issued_at)

    async def register(self, user: str, by: Principal | None) -> bool:
        """Makes sure that a name is a user; says whether it is a new one. Waits for one who is just being deleted.

        Raises:
            Invalid: the user is disabled, or was deleted and not all of it is gone yet.
        """

        def find(connection: Connection) -> Any:
            return connection.execute(select(_table).where(_table.c.id == user)).first()

        def work(connection: Connection) -> float | None:
            row, moment = find(connection), time.time()
            if row is None:
                connection.execute(_table.insert().values(id=user, created_at=moment))
            elif not _is_present(row):
                if row.erased_at is None:
                    raise _refusal(f"What was {user}'s is still being removed. Try again in a minute.")
                moment = max(moment, math.nextafter(row.deleted_at, math.inf))  # whatever became of the clock
                again = update(_table).where(_table.c.id == user)
                connection.execute(again.values(created_at=moment, disabled_at=None))
            else:
                return None
            audit.record(connection, by, "user.create", user)
            return moment

        row = await self._database.read(find)
        if row is not None and _is_present(row):
            if row.disabled_at is not None:
                raise _refusal(f"The user {user} is disabled. Allow calls again with: gateway user enable {user}")
            return False
        async with self.held(user):
            moment = await self._database.write(work)
            if moment is not None and user in self._barred:
                self._barred[user] = moment
        return moment is not None

    async def list(self, *, search: str = "", after: str = "", limit: int = 100) -> list[User]:
        """Users by name, from the one after `after` on; with `search`, those whose name holds it."""
        wanted = _select().where(_table.c.id > after).order_by(_table.c.id).limit(limit)
        if search:
            wanted = wanted.where(_table.c.id.contains(search, autoescape=True))
        return [_from_row(row) for row in await self._database.read(lambda c: c.execute(wanted).all())]

    async def find(self, user: str) -> User:
        """One user.

        Raises:
            UserNotFound: there is none of that name.
        """
        row = await self._database.read(lambda c: c.execute(_select().where(_table.c.id == user)).first())
        if row is None:
            raise await self._not_found(user)
        return _from_row(row)

    async def disable(self, user: str, by: Principal) -> User:
        """Refuses everything of a user from now on. What is theirs stays.

        Raises:
            UserNotFound: there is none of that name.
            PermissionDenied: it is the caller.
        """
        refuse_oneself(user, by)
        async with self.held(user):
            await self.find(user)
            await self._change(user, by, "user.disable", disabled_at=time.time())
            self._barred[user] = _NEVER
            return await self.find(user)

    async def enable(self, user: str, by: Principal) -> User:
        """Takes `disable` back; keys and tokens count again.

        Raises:
            UserNotFound: there is none of that name.
        """
        async with self.held(user):
            found = await self.find(user)
            if found.status is UserStatus.DISABLED:
                row = await self._change(user, by, "user.enable", disabled_at=None)
                self._barred[user] = row.created_at if row.deleted_at is not None else -_NEVER
            return await self.find(user)

    def held(self, user: str) -> asyncio.Lock:
        """Held while everything of a user is removed: the name is not given out anew before that is done."""
        return self._locks.setdefault(user, asyncio.Lock())

    async def delete(self, user: str, by: Principal) -> None:
        """Makes a user nobody, for good; call it while the name is held. What was theirs is removed by `Erasure`.

        Raises:
            UserNotFound: there is none of that name.
            PermissionDenied: it is the caller.
        """
        refuse_oneself(user, by)
        earlier = (await self.deleted()).get(user)
        if earlier is not None and not earlier.is_erased:
            return  # that deletion was cut: it goes on
        await self.find(user)
        await self._change(user, by, "user.delete", deleted_at=time.time(), disabled_at=None, erased_at=None)
        self._barred[user] = _NEVER

    async def erased(self, user: str) -> None:
        """Notes that everything of a deleted user is gone."""
        change = update(_table).where(_table.c.id == user).values(erased_at=time.time())
        await self._database.write(lambda c: c.execute(change))

    async def deleted(self) -> dict[str, "Deleted"]:
        """Deleted users whose names nobody has been given since."""
        wanted = select(_table).where(_table.c.deleted_at >= _table.c.created_at)
        rows = await self._database.read(lambda c: c.execute(wanted).all())
        return {row.id: Deleted(deleted_at=row.deleted_at, erased_at=row.erased_at) for row in rows}

    async def forget(self, before: float) -> None:
        """Drops the names of users who were deleted before a moment in POSIX seconds, when no token of theirs lives."""
        gone = _table.delete().where(_table.c.deleted_at >= _table.c.created_at, _table.c.deleted_at < before)
        names = await self.deleted()
        await self._database.write(lambda c: c.execute(gone), durable=False)
        for name in names.keys() - (await self.deleted()).keys():
            self._barred.pop(name, None)

    async def _change(self, user: str, by: Principal, action: str, **values: float | None) -> Any:
        def work(connection: Connection) -> Any:
            connection.execute(update(_table).where(_table.c.id == user).values(**values))
            audit.record(connection, by, action, user)
            return connection.execute(select(_table).where(_table.c.id == user)).one()

        return await self._database.write(work)

    async def _not_found(self, user: str) -> UserNotFound:
        names = [found.id for found in await self.list(limit=10_000)]
        near = difflib.get_close_matches(user, names, n=1)
        return UserNotFound(f"There is no user {user[:80]}." + (f" Did you mean {near[0]}?" if near else ""))


def is_deleted(connection: Connection, user: str) -> bool:
    """Whether nothing may be kept for a user any more, within the transaction that would keep it."""
    wanted = select(_table.c.id).where(_table.c.id == user, _table.c.deleted_at >= _table.c.created_at)
    return connection.execute(wanted).first() is not None


def refuse_oneself(user: str, by: Principal) -> None:
    """Nobody locks themselves out.

    Raises:
        PermissionDenied: the caller is meant.
    """
    if user == by.user:
        raise PermissionDenied("You cannot disable or delete yourself. Use the key of another admin.")


def _is_present(row: Any) -> bool:
    return row.deleted_at is None or row.deleted_at < row.created_at


def _select() -> Select[Any]:
    valid = and_(_keys.c.user == _table.c.id, _keys.c.revoked_at.is_(None))
    keys = select(func.count()).select_from(_keys).where(valid).scalar_subquery().label("keys")
    present = or_(_table.c.deleted_at.is_(None), _table.c.deleted_at < _table.c.created_at)
    return select(_table, keys).where(present)


def _from_row(row: Any) -> User:
    status = UserStatus.ACTIVE if row.disabled_at is None else UserStatus.DISABLED
    return User(id=row.id, status=status, created_at=row.created_at, keys=row.keys)


def _refusal(message: str) -> Invalid:
    return Invalid(message, [Problem("/user", message)])
