"""Uploads that come again: the same key with the same file never stores it twice.

A key lives on the record of the file, or of the upload in parts, that it made: it is there as long as that is, whatever
happens to the gateway. Who comes second, however soon, has its own bytes thrown away and gets the first answer.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select, update

from gateway_server.errors import IdempotencyConflict
from gateway_server.files.wishes import Wish

_SIZE = 16
_OTHER_FILE = "This Idempotency-Key was used with another file. Make a new key for each."


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """The key that an upload came with."""

    key: bytes
    """Of one caller; nobody else's is like it."""
    kept: float
    """Seconds for which it stands for what it made."""


def digest_of(wanted: Wish, size: int, sha256: str | None) -> bytes:
    """What must be the same for an upload to be the same."""
    told = (wanted.area, wanted.name, wanted.content_type, wanted.ttl, wanted.session, size, sha256)
    return hashlib.blake2b(repr(told).encode(), digest_size=_SIZE).digest()


def meet(connection: Connection, table: Table, again: Again, now: float, *, forget: bool = True) -> Any:
    """The row of `files` or `uploads` that a key has made; None if there is none, or its time is over.

    With `forget` a key whose time is over is free from here on.
    """
    row = connection.execute(select(table).where(table.c.request_key == again.key)).first()
    if row is None:
        return None
    is_over = row.created_at + again.kept <= now or (row.expires_at is not None and row.expires_at <= now)
    if is_over and forget:
        connection.execute(update(table).where(table.c.request_key == again.key).values(request_key=None))
    return None if is_over else row


def check(row: Any, digest: bytes) -> None:
    """Whether the row was made by the same upload.

    Raises:
        IdempotencyConflict: by another one.
    """
    if row.request_digest != digest:
        raise IdempotencyConflict(_OTHER_FILE)
