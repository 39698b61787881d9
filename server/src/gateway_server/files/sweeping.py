"""Removes files that have expired, and what was begun and never ended.

Records of what is to be removed go last, so that a sweep that was cut leaves them for the next one.
"""

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, select

from gateway_server.errors import GatewayFault
from gateway_server.files import records, room
from gateway_server.store.database import Database
from gateway_server.store.objects import Objects
from gateway_server.store.schema import files, job_files, pending_objects, uploads

logger = logging.getLogger("gateway")
BATCH = 200
HANDED = 7 * 86400.0
"""Seconds for which a call tree may read what it was given."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many were removed."""

    files: int
    unfinished: int


async def sweep(database: Database, objects: Objects, now: float) -> Swept:
    """Removes everything that has ended at a POSIX time, batch by batch."""
    expired = unfinished = 0
    while count := await _expired(database, objects, now):
        expired += count
    while count := await _pending(database, objects, now - records.LIFE):
        unfinished += count
    while count := await _uploads(database, objects, now):
        unfinished += count
    unfinished += await _leftovers(database, objects, now - records.LIFE)
    old = delete(job_files).where(job_files.c.created_at < now - HANDED)
    await database.write(lambda c: c.execute(old), durable=False)
    return Swept(expired, unfinished)


async def _expired(database: Database, objects: Objects, now: float) -> int:
    keys = await database.read(lambda c: records.expired(c, now, BATCH))
    if keys:
        await objects.delete(keys)
        await database.write(lambda c: records.forget(c, keys, now), durable=False)
    return len(keys)


async def _pending(database: Database, objects: Objects, before: float) -> int:
    """Objects that were announced and not recorded: the gateway died between, or the store failed."""
    query = (
        select(pending_objects.c.id, pending_objects.c.key, _is_recorded(pending_objects.c.key))
        .where(pending_objects.c.created_at < before)
        .limit(BATCH)
    )
    rows = await database.read(lambda c: c.execute(query).all())
    if rows:
        await objects.wipe([key for _, key, recorded in rows if not recorded])
        identifiers = [identifier for identifier, _, _ in rows]
        await database.write(lambda c: records.settle(c, identifiers), durable=False)
    return len(rows)


async def _uploads(database: Database, objects: Objects, now: float) -> int:
    """Uploads in parts that nobody has asked for in a long time."""
    query = (
        select(uploads, _is_recorded(uploads.c.key).label("recorded"))
        .where(uploads.c.expires_at <= now)
        .order_by(uploads.c.expires_at.desc())  # those that could not be removed do not stand before the others
        .limit(BATCH)
    )
    rows = await database.read(lambda c: c.execute(query).all())
    ended = []
    for row in rows:
        try:
            if not row.completed:
                await objects.discard(records.assembly_of(row))
                if not row.recorded:
                    await objects.delete([row.key])
            ended.append(row.id)
        except GatewayFault as fault:  # it is being completed, or the store refuses: the next sweep looks again
            logger.warning("the upload %s cannot be removed now: %s", row.id, fault.message)
    if ended:
        gone = uploads.c.id.in_(ended), uploads.c.expires_at <= now
        await database.write(lambda c: room.end_uploads(c, *gone), durable=False)
    return len(ended)


async def _leftovers(database: Database, objects: Objects, before: float) -> int:
    """What came in and was cut by the end of the gateway, before it even had a key."""
    found = await objects.leftovers(before)
    known = select(uploads.c.id).where(uploads.c.id.in_(found))
    alive = set(await database.read(lambda c: c.execute(known).scalars().all())) if found else set()
    gone = [identifier for identifier in found if identifier not in alive]
    await objects.drop(gone)
    return len(gone)


def _is_recorded(key: Any) -> Any:
    return exists().where(files.c.key == key)
