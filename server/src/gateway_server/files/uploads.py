"""Uploads in parts: large files that may be cut and resumed, sent past each other and sent again."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Row, select, update

from gateway_server.errors import (
    FileNotFound,
    IdempotencyConflict,
    Invalid,
    PayloadTooLarge,
    PermissionDenied,
    Problem,
    QuotaExceeded,
    ServiceUnavailable,
)
from gateway_server.files import records, room
from gateway_server.files.again import Again, check, digest_of, meet
from gateway_server.files.keeping import new_id
from gateway_server.files.keys import place_of
from gateway_server.files.library import Library
from gateway_server.files.records import StoredFile
from gateway_server.files.wishes import Wish, key_maker
from gateway_server.identity import access
from gateway_server.models import Principal
from gateway_server.settings import Settings
from gateway_server.store.database import Database
from gateway_server.store.objects import Assembly, Objects, Written
from gateway_server.store.schema import uploads

MOST_PARTS = 10_000
_MEGABYTE = 1 << 20
_DIGEST = re.compile(r"[0-9a-fA-F]{64}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """An upload, as its owner needs it: every part goes to its own URL by PUT, without a token."""

    id: str
    s3_url: str
    part_size: int
    """Bytes of every part but the last."""
    part_urls: list[str]
    received: list[int]
    """Numbers of the parts that have arrived whole; they begin at 1."""


class Uploads:
    """Begins, resumes, completes and aborts uploads in parts."""

    def __init__(self, library: Library, database: Database, objects: Objects, settings: Settings) -> None:
        self._library = library
        self._database = database
        self._objects = objects
        self._settings = settings
        self._beginning: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._completing: dict[str, asyncio.Task[StoredFile]] = {}

    async def create(self, principal: Principal, wanted: Wish, size: int, again: Again | None = None) -> Upload:
        """Begins an upload of `size` bytes, or gives the one that the key of `again` has begun.

        Raises:
            IdempotencyConflict: that key came with another upload.
            Invalid: the size is negative.
            MissingAgentContext: the area belongs to agents, and the caller is none.
            PayloadTooLarge: it is more than a file may have.
            QuotaExceeded: the user has no room for it. What has begun keeps its room until it ends.
        """
        if again is None:
            return await self._create(principal, wanted, size, None)
        async with self._beginning.setdefault(again.key, asyncio.Lock()):  # who comes at the same time waits
            return await self._create(principal, wanted, size, again)

    async def _create(self, principal: Principal, wanted: Wish, size: int, again: Again | None) -> Upload:
        if size < 0:
            raise Invalid("The size is negative.", [Problem("/size", "must be a number of bytes")])
        if size > self._settings.file_limit:
            raise PayloadTooLarge(f"A file has at most {self._settings.file_limit} bytes.")
        identifier, moment = new_id(), self._library.clock()
        key_at = key_maker(principal, wanted, identifier[:16])
        values: dict[str, Any] = {
            "id": identifier,
            "user": principal.user,
            "agent": principal.agent,
            "root_id": principal.root_job_id,
            "key_id": principal.key_id,
            "name": wanted.name,
            "size": size,
            "part_size": part_size(size, self._settings.part_size),
            "content_type": wanted.content_type,
            "ttl": wanted.ttl,
            "completed": False,
            "created_at": moment.timestamp(),
            "expires_at": moment.timestamp() + records.LIFE,
            "request_key": None if again is None else again.key,
            "request_digest": digest_of(wanted, size, None),
        }

        def begin(connection: Connection) -> str | Row[Any]:
            known = None if again is None else meet(connection, uploads, again, moment.timestamp())
            if known is not None:
                check(known, values["request_digest"])
                return known  # type: ignore[no-any-return]
            room.change(connection, principal.user, {principal.key_id: size})
            key = records.claim(connection, identifier, key_at, moment)
            connection.execute(uploads.insert().values(values | {"key": key}))
            records.settle(connection, [identifier])
            return key

        key = await self._database.write(begin)
        if not isinstance(key, str):
            return await self._begun_before(key)
        assembly = Assembly(
            id=identifier, key=key, size=size, part_size=values["part_size"], content_type=wanted.content_type
        )
        return await self._signed(await self._begin(assembly), [])

    async def _begin(self, assembly: Assembly) -> Assembly:
        try:
            handle = await self._objects.begin(assembly)
        except ServiceUnavailable:
            await self._end(assembly.id)
            raise
        if handle is not None:
            await self._change(assembly.id, handle=handle)
        return replace(assembly, handle=handle)

    async def _begun_before(self, row: Row[Any]) -> Upload:
        """What was answered when the upload began, or would have been if the gateway had not died meanwhile."""
        assembly = records.assembly_of(row)
        if not row.completed:
            try:
                await self._objects.received(assembly)
            except FileNotFound:
                await self._objects.discard(assembly)
                assembly = await self._begin(assembly)
        return await self._signed(assembly, [])

    async def resume(self, principal: Principal, identifier: str) -> Upload:
        """What has arrived, with new URLs for every part; the upload lives on for another day.

        Raises:
            FileNotFound: there is no such upload of the caller's, or it has been completed.
        """
        row = await self._find(principal, identifier)
        if row.completed:
            raise FileNotFound(f"The upload {identifier} has been completed.")
        assembly = records.assembly_of(row)
        received = await self._objects.received(assembly)
        await self._change(identifier, expires_at=self._library.clock().timestamp() + records.LIFE)
        return await self._signed(assembly, received)

    async def complete(self, principal: Principal, identifier: str, sha256: str | None) -> StoredFile:
        """Makes the file of its parts. To do so again gives the same answer.

        Raises:
            Invalid: parts are missing, or the bytes have another digest; the upload goes on.
            FileNotFound: there is no such upload of the caller's.
        """
        if sha256 is not None and not _DIGEST.match(sha256):
            raise Invalid("sha256 is no digest.", [Problem("/sha256", "must be 64 hexadecimal digits")])
        row = await self._find(principal, identifier)
        if row.completed:
            file = await self._library.find(principal, self._objects.url(row.key))
        else:
            if identifier not in self._completing:
                self._completing[identifier] = asyncio.create_task(self._complete(row, sha256))
            file = await asyncio.shield(self._completing[identifier])
        if None not in (sha256, file.sha256) and sha256.lower() != file.sha256:  # type: ignore[union-attr]
            raise IdempotencyConflict("The upload has been completed, with bytes of another digest.")
        return file

    async def _complete(self, row: Any, sha256: str | None) -> StoredFile:
        """Goes on to the end even if the one who asked has left."""
        try:
            written = await self._objects.assemble(records.assembly_of(row), sha256)
            file = self._file(row, written)
            try:
                await self._database.write(lambda c: _record(c, file, row.id))
            except (PermissionDenied, QuotaExceeded):
                await self._objects.delete([file.key])
                raise
            return file
        finally:
            del self._completing[row.id]

    def _file(self, row: Any, written: Written) -> StoredFile:
        place = place_of(row.key)
        assert place is not None
        wanted = Wish(area=place.area, name=row.name, content_type=row.content_type, ttl=row.ttl, session=place.session)
        return self._library.described(row.key, wanted, written, self._library.clock(), row.root_id, row.key_id)

    async def abort(self, principal: Principal, identifier: str) -> None:
        """Forgets an upload and what has arrived of it. One that has been completed stays.

        Raises:
            FileNotFound: there is no such upload of the caller's.
        """
        row = await self._find(principal, identifier)
        if not row.completed:
            await self._objects.discard(records.assembly_of(row))
            await self._end(identifier)
            if not await self._database.read(lambda c: records.recorded(c, [row.key])):
                await self._objects.delete([row.key])  # it was complete, and the gateway died before that was recorded

    async def _end(self, identifier: str) -> None:
        await self._database.write(lambda c: room.end_uploads(c, uploads.c.id == identifier))

    async def _find(self, principal: Principal, identifier: str) -> Any:
        moment = self._library.clock().timestamp()
        wanted = select(uploads).where(uploads.c.id == identifier, uploads.c.expires_at > moment)
        row = await self._database.read(lambda c: c.execute(wanted).first())
        if row is None or not access.may_continue_upload(principal, row.user, row.agent, row.root_id):
            raise FileNotFound(f"There is no upload {identifier[:80]}, or it has ended.")
        return row

    async def _change(self, identifier: str, **values: Any) -> None:
        await self._database.write(
            lambda c: c.execute(update(uploads).where(uploads.c.id == identifier).values(values))
        )

    async def _signed(self, assembly: Assembly, received: Sequence[int]) -> Upload:
        seconds = self._settings.presigned_seconds

        def sign() -> list[str]:
            return [self._objects.sign_part(assembly, number, seconds) for number in range(1, assembly.parts + 1)]

        urls = sign() if assembly.parts < 100 else await asyncio.to_thread(sign)
        return Upload(
            id=assembly.id,
            s3_url=self._objects.url(assembly.key),
            part_size=assembly.part_size,
            part_urls=urls,
            received=list(received),
        )


def part_size(size: int, usual: int) -> int:
    """Bytes of a part, so that there are not too many: the usual number, or more in whole megabytes."""
    needed = -(-size // MOST_PARTS)
    return usual if needed <= usual else -(-needed // _MEGABYTE) * _MEGABYTE


def _record(connection: Connection, file: StoredFile, identifier: str) -> None:
    row = connection.execute(select(uploads).where(uploads.c.id == identifier)).first()
    if row is None:
        raise PermissionDenied("The user who began this upload has been deleted.")
    if not row.completed:
        connection.execute(update(uploads).where(uploads.c.id == identifier).values(completed=True))
        room.give_back(connection, [row])  # it is the file's from now on
    records.save(connection, [file])
