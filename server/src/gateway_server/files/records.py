"""What is known of files, and the statements that read and change it. Functions of a connection, for `Database`."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, or_, select, true, update

from gateway_server.errors import PermissionDenied
from gateway_server.files import room
from gateway_server.files.keys import Area, after
from gateway_server.identity.users import is_deleted
from gateway_server.store.database import inserting
from gateway_server.store.objects import Assembly
from gateway_server.store.schema import files, job_files, pending_objects, uploads

LIFE = 86400.0
"""Seconds after which what was begun, and neither ended nor asked for, is forgotten."""
MOST_IN_ONE = 500
"""Keys in one statement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file in the store."""

    key: str
    s3_url: str
    area: Area | None
    """None for what lies outside the areas and is only granted to be read."""
    user: str | None
    agent: str | None = None
    session: str | None = None
    job_id: str | None = None
    """The job that wrote it."""
    root_id: str | None = None
    """The call tree that it was written in."""
    key_id: str | None = None
    """The API key that it was stored with."""
    name: str
    size: int
    """Bytes."""
    sha256: str | None
    """Hexadecimal; None where the gateway has not seen the bytes."""
    content_type: str | None
    created_at: datetime
    expires_at: datetime | None
    """None: it is kept until somebody deletes it."""


def from_row(row: Any, url: Callable[[str], str]) -> StoredFile:
    """A row of the table as a value."""
    return StoredFile(
        key=row.key,
        s3_url=url(row.key),
        area=Area(row.area),
        user=row.user,
        agent=row.agent,
        session=row.session,
        job_id=row.job_id,
        root_id=row.root_id,
        key_id=row.key_id,
        name=row.name,
        size=row.size,
        sha256=row.sha256,
        content_type=row.content_type,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        expires_at=None if row.expires_at is None else datetime.fromtimestamp(row.expires_at, UTC),
    )


def assembly_of(row: Any) -> Assembly:
    """A row of the table as the store knows it."""
    return Assembly(
        id=row.id,
        key=row.key,
        size=row.size,
        part_size=row.part_size,
        content_type=row.content_type,
        handle=row.handle,
    )


def _to_row(file: StoredFile) -> dict[str, Any]:
    names = ("key", "area", "user", "agent", "session", "job_id", "root_id", "key_id", "name", "size", "sha256")
    row = {name: getattr(file, name) for name in names}
    row["content_type"] = file.content_type
    row["created_at"] = file.created_at.timestamp()
    row["expires_at"] = None if file.expires_at is None else file.expires_at.timestamp()
    return row


def save(
    connection: Connection, stored: Sequence[StoredFile], request_key: bytes | None = None, digest: bytes | None = None
) -> None:
    """Records files, in the place of those that had their keys; a single one perhaps with the key of its request.

    Raises:
        PermissionDenied: their user has been deleted meanwhile; the objects are left to the sweeper.
        QuotaExceeded: the user has no room for them; the same.
    """
    rows = [_to_row(file) | {"request_key": request_key, "request_digest": digest} for file in stored]
    _require_users(connection, stored)
    _take_room(connection, stored)
    if rows:
        insert = inserting(connection)(files)
        changes = {name: insert.excluded[name] for name in rows[0] if name != "key"}
        connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_=changes), rows)


def adopt(connection: Connection, file: StoredFile) -> Any:
    """Records what lies in the store already, unless its key is taken. Returns the row that the key has then, if any.

    Raises:
        PermissionDenied: its user has been deleted meanwhile.
        QuotaExceeded: the user has no room for it.
    """
    if not is_taken(connection, file.key):
        _require_users(connection, [file])
        added = inserting(connection)(files).values(_to_row(file)).on_conflict_do_nothing()
        if connection.execute(added).rowcount and file.user is not None:
            room.change(connection, file.user, {file.key_id: file.size})
    return recorded(connection, [file.key]).get(file.key)


def _require_users(connection: Connection, stored: Sequence[StoredFile]) -> None:
    for user in {file.user for file in stored}:
        if user is not None and is_deleted(connection, user):
            raise PermissionDenied(f"The user {user} has been deleted.")


def _take_room(connection: Connection, stored: Sequence[StoredFile]) -> None:
    changes: dict[str, Tally[str | None]] = {}
    for file in stored:
        if file.user is not None:
            changes.setdefault(file.user, Tally())[file.key_id] += file.size
    keys = [file.key for file in stored]
    for at in range(0, len(keys), MOST_IN_ONE):
        before = select(files.c.user, files.c.key_id, files.c.size).where(files.c.key.in_(keys[at : at + MOST_IN_ONE]))
        for row in connection.execute(before):
            changes.setdefault(row.user, Tally())[row.key_id] -= row.size
    for user, by_key in changes.items():
        room.change(connection, user, by_key)


def require_room(connection: Connection, user: str, key: str, size: int) -> None:
    """Looks whether a file fits in the place of the one that has its key, if there is one.

    Raises:
        QuotaExceeded: it does not.
    """
    before = recorded(connection, [key]).get(key)
    more = size - (before.size if before is not None else 0)
    if more > 0:
        room.look(connection, user, None).require(more)


def claim(connection: Connection, identifier: str, key_at: Callable[[datetime], str], moment: datetime) -> str:
    """Announces an object under the first key, from `moment` on by microseconds, that no other has."""
    while is_taken(connection, key := key_at(moment)):
        moment += timedelta(microseconds=1)
    announce(connection, [(identifier, key)], moment.timestamp())
    return key


def is_taken(connection: Connection, key: str) -> bool:
    """Whether an object has the key, or is about to."""
    recorded = exists().where(files.c.key == key)
    announced = exists().where(pending_objects.c.key == key)
    uploaded = exists().where(uploads.c.key == key)
    return bool(connection.execute(select(or_(recorded, announced, uploaded))).scalar())


def announce(connection: Connection, pending: Iterable[tuple[str, str]], now: float) -> None:
    """Says what is about to be stored: ids and keys. Until it is recorded, the sweeper knows by this what to remove."""
    rows = [{"id": identifier, "key": key, "created_at": now} for identifier, key in pending]
    if rows:
        connection.execute(pending_objects.insert(), rows)


def settle(connection: Connection, identifiers: Sequence[str]) -> None:
    """Takes announcements back."""
    connection.execute(delete(pending_objects).where(pending_objects.c.id.in_(identifiers)))


def recorded(connection: Connection, keys: Sequence[str]) -> dict[str, Any]:
    """The rows of those keys that have one, even if nobody sees the file any more."""
    found: dict[str, Any] = {}
    for at in range(0, len(keys), MOST_IN_ONE):
        some = keys[at : at + MOST_IN_ONE]
        for row in connection.execute(select(files).where(files.c.key.in_(some))):
            found[row.key] = row
    return found


def handed(connection: Connection, root_id: str, keys: Sequence[str]) -> set[str]:
    """Those of the keys that were handed to a call tree."""
    found: set[str] = set()
    for at in range(0, len(keys), MOST_IN_ONE):
        some = keys[at : at + MOST_IN_ONE]
        query = select(job_files.c.key).where(job_files.c.root_id == root_id, job_files.c.key.in_(some))
        found.update(connection.execute(query).scalars())
    return found


def hand(connection: Connection, root_id: str, keys: Iterable[str], now: float) -> None:
    """Notes that files were handed to a call tree."""
    rows = [{"root_id": root_id, "key": key, "created_at": now} for key in dict.fromkeys(keys)]
    if rows:
        connection.execute(inserting(connection)(job_files).on_conflict_do_nothing(), rows)


def page(
    connection: Connection, user: str, prefix: str, *, last: str | None, limit: int, agent: str | None, now: float
) -> Sequence[Any]:
    """Up to `limit` rows of a user whose keys begin with `prefix`, after the key `last`, in the order of keys.

    With an agent, areas of other agents are left out.
    """
    start = files.c.key >= prefix if last is None else files.c.key > last
    mine = or_(files.c.agent.is_(None), files.c.agent == agent) if agent is not None else true()
    within = and_(files.c.user == user, start, files.c.key < after(prefix), _alive(now))
    return connection.execute(select(files).where(within, mine).order_by(files.c.key).limit(limit)).all()


def hide(connection: Connection, keys: Sequence[str], now: float) -> int:
    """Makes files vanish for every reader, before their objects do. Returns how many could be seen until now."""
    change = update(files).where(files.c.key.in_(keys), _alive(now)).values(expires_at=0.0, request_key=None)
    return connection.execute(change).rowcount


def expired(connection: Connection, now: float, limit: int) -> list[str]:
    """Keys of files that nobody sees any more, oldest first."""
    query = select(files.c.key).where(files.c.expires_at <= now).order_by(files.c.expires_at).limit(limit)
    return list(connection.execute(query).scalars())


def forget(connection: Connection, keys: Sequence[str], now: float) -> None:
    """Removes the records of files that nobody sees any more, and gives back their room."""
    gone = files.c.key.in_(keys), files.c.expires_at <= now
    rows = connection.execute(select(files.c.user, files.c.key_id, files.c.size).where(*gone)).all()
    connection.execute(delete(files).where(*gone))
    room.give_back(connection, rows)


def has_ended(row: Any, now: float) -> bool:
    """Whether nobody sees the file of a row any more."""
    return row.expires_at is not None and row.expires_at <= now


def _alive(now: float) -> Any:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > now)
