"""The audit log: who changed what in the gateway. An entry is written in the transaction of the change itself, so that
neither is there without the other."""

import time
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, delete, select

from gateway_server.models import Principal
from gateway_server.store import schema
from gateway_server.store.database import Database

GATEWAY = "gateway"
"""The actor of what the gateway does by itself."""
LONGEST_TARGET = 300
_table = schema.audit


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change; the moment is in POSIX seconds."""

    id: int
    at: float
    actor: str
    key_id: str | None
    action: str
    target: str
    detail: dict[str, Any]


def record(connection: Connection, principal: Principal | None, action: str, target: str, **detail: Any) -> None:
    """Notes a change within the transaction that makes it. `detail` is for people and must hold no secret."""
    connection.execute(
        _table.insert().values(
            at=time.time(),
            actor=principal.user if principal else GATEWAY,
            key_id=principal.key_id if principal else None,
            action=action,
            target=target[:LONGEST_TARGET],
            detail=orjson.dumps(detail).decode(),
        )
    )


async def entries(
    database: Database,
    *,
    actor: str | None = None,
    action: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Entries, newest first.

    `action` is one of them, or the noun of several such as ``key``; `before` is the id of the last one seen.
    """
    wanted = select(_table).order_by(_table.c.id.desc()).limit(limit)
    if actor is not None:
        wanted = wanted.where(_table.c.actor == actor)
    if action is not None:
        wanted = wanted.where((_table.c.action == action) | _table.c.action.startswith(f"{action}.", autoescape=True))
    if before is not None:
        wanted = wanted.where(_table.c.id < before)
    rows = await database.read(lambda c: c.execute(wanted).all())
    return [_from_row(row) for row in rows]


async def forget(database: Database, before: float) -> None:
    """Removes entries from before a moment in POSIX seconds."""
    await database.write(lambda c: c.execute(delete(_table).where(_table.c.at < before)), durable=False)


def _from_row(row: Any) -> Entry:
    detail = orjson.loads(row.detail)
    return Entry(
        id=row.id, at=row.at, actor=row.actor, key_id=row.key_id, action=row.action, target=row.target, detail=detail
    )
