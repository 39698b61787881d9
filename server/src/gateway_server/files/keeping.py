"""How files get into the store: objects, and the records of them.

An object and its record are two things, and the gateway may die between them. So an object is announced before it is
stored and recorded after, in one transaction with the end of the announcement; and a file is hidden before its object
is removed, and its record goes last. What is recorded and not hidden has its object; the sweeper finishes the rest.
"""

import asyncio
import secrets
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from gateway_server.errors import (
    FileNotFound,
    IdempotencyConflict,
    PayloadTooLarge,
    PermissionDenied,
    QuotaExceeded,
    Unauthenticated,
)
from gateway_server.files import records, room
from gateway_server.files.again import Again, check, digest_of, meet
from gateway_server.files.keys import Area, place_of, prefab_output_key
from gateway_server.files.outputs import Output
from gateway_server.files.records import StoredFile
from gateway_server.files.room import Room
from gateway_server.files.wishes import Wish, input_wish, key_maker
from gateway_server.models import Principal, now
from gateway_server.settings import Settings
from gateway_server.store.database import Database
from gateway_server.store.objects import Incoming, Objects, Written
from gateway_server.store.schema import files

T = TypeVar("T")
REFUSALS = (PermissionDenied, Unauthenticated, QuotaExceeded)
"""Of a file whose bytes are there: its user was deleted, disabled or has no room any more."""
_BREATH = 100
"""Outputs whose keys are made at a time, before others on the event loop have their turn."""
_AT_ONCE = 8
"""Outputs of one call; thousands would stand in the way of everybody else's."""


class Keeping:
    """How files get into the store."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = now,
        check_principal: Callable[[Principal], None] = lambda _principal: None,
    ) -> None:
        self.objects = objects
        self.check_principal = check_principal
        self.clock = clock
        self._database = database
        self._limit = settings.file_limit

    async def room(self, user: str, key_id: str | None, size: int = 0) -> Room:
        """The room that a user has, who came with a key.

        Raises:
            QuotaExceeded: `size` bytes do not fit.
        """
        free = await self._database.read(lambda connection: room.look(connection, user, key_id))
        free.require(size)
        return free

    async def put(
        self,
        principal: Principal,
        chunks: AsyncIterable[bytes],
        wish: Callable[[], Wish],
        expected: int = 0,
        again: Again | None = None,
    ) -> StoredFile:
        """Stores what arrives. `wish` is asked when all of it is there, since a form may end with what it says.
        `expected` is how many bytes there will be at least, as far as that is known. What was stored before with the
        key of `again` is the answer once more.

        Raises:
            IdempotencyConflict: that key came with another file.
            MissingAgentContext: the area belongs to agents, and the caller is none.
            PayloadTooLarge: it is more than a file may have.
            QuotaExceeded: the user has no room for it.
        """
        self._require_size(expected)
        if again is not None and await self._is_known(again):
            free = Room(())  # what comes takes the place of nothing
        else:
            free = await self.room(principal.user, principal.key_id, expected)
        incoming_id = new_id()
        incoming = self.objects.receive(incoming_id)
        try:
            await self._receive(incoming, chunks, free)
            wanted = wish()
            key_at = key_maker(principal, wanted, incoming_id[:16])
            moment = self.clock()
            key = await self._announce(lambda c: records.claim(c, incoming_id, key_at, moment))
            written = await incoming.commit(key)
        finally:
            await incoming.discard()
        file = self.described(key, wanted, written, moment, principal.root_job_id, principal.key_id)
        if again is None:
            await self._record([file], [incoming_id], principal=principal)
            return file
        digest = digest_of(wanted, file.size, file.sha256)
        return await self._record_once(file, incoming_id, again, digest, principal)

    async def _record_once(
        self, file: StoredFile, announced: str, again: Again, digest: bytes, principal: Principal
    ) -> StoredFile:
        """Records a file unless its key has made one; that one is the answer then, and these bytes go."""

        def work(connection: Connection) -> StoredFile:
            known = meet(connection, files, again, file.created_at.timestamp())
            if known is not None:
                check(known, digest)
                return records.from_row(known, self.objects.url)
            records.save(connection, [file], again.key, digest)
            records.settle(connection, [announced])
            return file

        try:
            self.check_principal(principal)
            kept = await self._database.write(work)
        except (*REFUSALS, IdempotencyConflict):
            await self._drop([file], [announced])
            raise
        if kept is not file:
            await self._drop([file], [announced])
        return kept

    async def _is_known(self, again: Again) -> bool:
        moment = self.clock().timestamp()
        return await self._database.read(lambda c: meet(c, files, again, moment, forget=False) is not None)

    async def put_input(
        self, key: str, chunks: AsyncIterable[bytes], content_type: str | None, expected: int = 0
    ) -> StoredFile:
        """Stores what arrives at a signed URL of an input; the signature has proven the key.

        Raises:
            PayloadTooLarge: it is more than a file may have.
            QuotaExceeded: the user has no room for it.
        """
        place = place_of(key)
        assert place is not None
        free = await self.room(place.user, None, expected)
        incoming_id = new_id()
        incoming = self.objects.receive(incoming_id)
        try:
            await self._receive(incoming, chunks, free)
            moment = self.clock()

            def announce(connection: Connection) -> None:
                records.require_room(connection, place.user, key, incoming.size)  # before the bytes replace others
                records.announce(connection, [(incoming_id, key)], moment.timestamp())

            await self._announce(announce)
            written = await incoming.commit(key)
        finally:
            await incoming.discard()
        file = self.described(key, input_wish(key, content_type), written, moment, None)
        await self._record([file], [incoming_id])
        return file

    async def store_outputs(
        self,
        *,
        user: str,
        job_id: str,
        root_id: str,
        key_id: str | None = None,
        outputs: Mapping[str, Sequence[Output]],
        durable: bool = True,
        pace: Callable[[int], Awaitable[None]] | None = None,
    ) -> dict[str, list[StoredFile]]:
        """Keeps what a function wrote. What has vanished since it was found is left out. `pace` is waited for before
        each file, with its size.

        Without `durable`, files and records may be lost with the power, though never with the process.

        Raises:
            QuotaExceeded: the user has no room for all of it; nothing is kept.
        """
        moment = self.clock()
        every = [output for group in outputs.values() for output in group]
        if not every:
            return {}
        keys: dict[Output, str] = {}
        for at in range(0, len(every), _BREATH):
            for output in every[at : at + _BREATH]:
                keys[output] = prefab_output_key(user, moment, job_id, output.relative)
            await asyncio.sleep(0)
        await self.room(user, key_id, sum(output.size for output in every))
        ids = {output: new_id() for output in keys}
        await self._announce(lambda c: records.announce(c, [(ids[o], keys[o]) for o in keys], moment.timestamp()))

        async def keep(output: Output) -> StoredFile | None:
            if pace is not None:
                await pace(output.size)
            try:
                written = await self.objects.put_file(
                    ids[output], keys[output], output.open, self._limit, durable=durable
                )
            except FileNotFound:
                return None
            return StoredFile(
                key=keys[output],
                s3_url=self.objects.url(keys[output]),
                area=Area.PREFAB_OUTPUTS,
                user=user,
                job_id=job_id,
                root_id=root_id,
                key_id=key_id,
                name=output.relative.rpartition("/")[2],
                size=written.size,
                sha256=written.sha256,
                content_type=None,
                created_at=moment,
                expires_at=None,
            )

        stored: dict[Output, StoredFile | None] = {}
        left = iter(keys)

        async def keep_some() -> None:
            for output in left:
                stored[output] = await keep(output)

        for outcome in await asyncio.gather(*(keep_some() for _ in range(_AT_ONCE)), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        await self._record([file for file in stored.values() if file], list(ids.values()), durable=durable)
        found = {key: [file for output in group if (file := stored[output])] for key, group in outputs.items()}
        return {key: files for key, files in found.items() if files}

    def described(
        self,
        key: str,
        wanted: Wish,
        written: Written,
        moment: datetime,
        root_id: str | None,
        key_id: str | None = None,
    ) -> StoredFile:
        """A file that was stored under `key` as somebody wished."""
        place = place_of(key)
        assert place is not None
        return StoredFile(
            key=key,
            s3_url=self.objects.url(key),
            area=place.area,
            user=place.user,
            agent=place.agent,
            session=place.session,
            root_id=root_id,
            key_id=key_id,
            name=wanted.name,
            size=written.size,
            sha256=written.sha256,
            content_type=wanted.content_type,
            created_at=moment,
            expires_at=wanted.expires_at(moment),
        )

    async def _receive(self, incoming: Incoming, chunks: AsyncIterable[bytes], free: Room) -> None:
        async for chunk in chunks:
            free.require(incoming.size + len(chunk))
            self._require_size(incoming.size + len(chunk))
            await incoming.write(chunk)

    def _require_size(self, size: int) -> None:
        if size > self._limit:
            raise PayloadTooLarge(f"A file has at most {self._limit} bytes.")
        if size > self.objects.most_received:
            raise PayloadTooLarge(
                f"A form holds at most {self.objects.most_received} bytes here; upload the file in parts."
            )

    async def _announce(self, work: Callable[[Connection], T]) -> T:
        """Not synced: a loss of power takes the object along, or leaves one that only costs room."""
        return await self._database.write(work, durable=False)

    async def _record(
        self,
        stored: Sequence[StoredFile],
        announced: Sequence[str],
        *,
        principal: Principal | None = None,
        durable: bool = True,
    ) -> None:
        """What belongs to a user who was deleted meanwhile, or does not fit, is not kept, nor are its bytes."""

        def work(connection: Connection) -> None:
            records.save(connection, stored)
            records.settle(connection, announced)

        try:
            if principal is not None:
                self.check_principal(principal)
            await self._database.write(work, durable=durable)
        except REFUSALS:
            await self._drop(stored, announced)
            raise

    async def _drop(self, stored: Sequence[StoredFile], announced: Sequence[str]) -> None:
        """Removes what is not kept; with it the records of files whose bytes it has replaced."""
        keys, moment = [file.key for file in stored], self.clock().timestamp()

        def forget(connection: Connection) -> None:
            records.forget(connection, keys, moment)
            records.settle(connection, announced)

        await self._database.write(lambda c: records.hide(c, keys, moment))
        await self.objects.delete(keys)
        await self._database.write(forget, durable=False)


def new_id() -> str:
    """An id that nobody can guess."""
    return secrets.token_hex(16)
