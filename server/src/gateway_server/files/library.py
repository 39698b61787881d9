"""The files of all users: who may have them, what there is, and their end."""

import asyncio
import logging
import mimetypes
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from gateway_server.errors import FileNotFound, Invalid, PermissionDenied, Problem, QuotaExceeded, ServiceUnavailable
from gateway_server.files import listing, records
from gateway_server.files.erasing import erase
from gateway_server.files.keeping import REFUSALS, Keeping, new_id
from gateway_server.files.keys import Area, area_prefix, input_key, place_of
from gateway_server.files.listing import Page
from gateway_server.files.records import StoredFile
from gateway_server.files.sweeping import Swept, sweep
from gateway_server.files.wishes import input_wish, wish
from gateway_server.identity import access
from gateway_server.models import Principal, now
from gateway_server.settings import Settings
from gateway_server.store.database import Database
from gateway_server.store.objects import LONGEST_SIGNATURE, Objects, Written

logger = logging.getLogger("gateway")
UNKNOWN_TYPE = "application/octet-stream"
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Signed:
    """A URL that anybody may use for a while."""

    url: str
    expires_at: datetime


class Library(Keeping):
    """Finds, lists and deletes files, each for its caller. `granted` are s3:// prefixes that everybody may read."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        settings: Settings,
        *,
        granted: Iterable[str] = (),
        clock: Callable[[], datetime] = now,
        check_principal: Callable[[Principal], None] = lambda _principal: None,
    ) -> None:
        super().__init__(database, objects, settings, clock=clock, check_principal=check_principal)
        self._granted = tuple(granted)
        self._presigned_seconds = settings.presigned_seconds

    async def find(self, principal: Principal, s3_url: str) -> StoredFile:
        """The file behind an s3:// URL, if the caller may read it.

        Raises:
            Invalid: it is no s3:// URL.
            PermissionDenied: it is another user's, or lies outside of what this gateway keeps.
            FileNotFound: there is none, or it has expired.
        """
        return (await self.readable(principal, [s3_url]))[0]

    async def readable(self, principal: Principal, s3_urls: Sequence[str]) -> list[StoredFile]:
        """The files behind s3:// URLs, in their order, if the caller may read all of them.

        Raises:
            Invalid: one is no s3:// URL.
            PermissionDenied: one is another user's, or lies outside of what this gateway keeps.
            FileNotFound: there is none, or it has expired.
        """
        keys = [self._key(url) for url in s3_urls]
        owned = [key for key, url in zip(keys, s3_urls, strict=True) if self._is_own(principal, key, url)]
        moment, root = self.clock().timestamp(), principal.root_job_id

        def look(connection: Connection) -> tuple[dict[str, Any], set[str]]:
            tree = records.handed(connection, root, owned) if principal.job_id and root else set()
            return records.recorded(connection, owned), tree

        rows, tree = await self._database.read(look) if owned else ({}, set())
        files = []
        for key, url in zip(keys, s3_urls, strict=True):
            file = self._seen(rows[key], moment) if key in rows else await self._unrecorded(key)
            if file is None:
                raise FileNotFound(f"There is no file {url}, or it has expired.")
            if file.user is not None:
                in_tree = key in tree or (root is not None and file.root_id == root)
                access.may_read_file(principal, file.user, file.agent, in_tree)
            files.append(file)
        return files

    async def hand(self, root_id: str, files: Iterable[StoredFile]) -> None:
        """Lets the code of a call tree read these files. Call it before the code runs; not synced to disk."""
        keys, moment = [file.key for file in files], self.clock().timestamp()
        if keys:
            await self._database.write(lambda c: records.hand(c, root_id, keys, moment), durable=False)

    async def input_url(self, principal: Principal, filename: str, content_type: str | None) -> tuple[str, str]:
        """Where the caller may put one input without a token, and the s3:// URL that it has then.

        Raises:
            Invalid: the content type is none.
            QuotaExceeded: the user has no room left at all.
        """
        await self.room(principal.user, None, 1)
        wanted = wish(Area.INPUTS, filename, content_type=content_type)
        user = access.check_name(principal.user, "User")
        key = input_key(user, self.clock(), new_id()[:16], wanted.name)
        if principal.root_job_id is not None:
            moment = self.clock().timestamp()
            root = principal.root_job_id
            await self._database.write(lambda c: records.hand(c, root, [key], moment), durable=False)
        url = self.objects.sign_put(key, self._presigned_seconds, wanted.content_type)
        return url, self.objects.url(key)

    def sign(self, file: StoredFile, expires_in: float) -> Signed:
        """A URL of a file for `expires_in` seconds, or until the file ends if that is earlier.

        Raises:
            Invalid: the time is not within a second and a week.
        """
        if not 1 <= expires_in <= LONGEST_SIGNATURE:
            message = f"expires_in must be between 1 and {LONGEST_SIGNATURE} seconds."
            raise Invalid(message, [Problem("/expires_in", message)])
        moment = self.clock()
        end = moment + timedelta(seconds=expires_in)
        if file.expires_at is not None and file.expires_at < end:
            end = file.expires_at
        kind = file.content_type or mimetypes.guess_type(file.name)[0] or UNKNOWN_TYPE
        return Signed(self.objects.sign_get(file.key, (end - moment).total_seconds(), file.name, kind), end)

    async def page(self, principal: Principal, wanted: listing.Query) -> Page:
        """A part of what the caller has, in the order of keys, which is that of age within an area of an agent.

        Raises:
            Invalid: the limit or the token is none that fits.
            PermissionDenied: the caller is code inside a call.
        """
        access.require_person(principal)
        last, moment = wanted.last(), self.clock().timestamp()
        if self.objects.direct:
            try:
                await self._take_in(principal.user, wanted.prefix, last, wanted.limit + 1)
            except ServiceUnavailable as error:  # what is recorded can be told without the store
                logger.warning("inputs that nobody has read yet are not listed: %s", error.message)
        rows = await self._database.read(
            lambda c: records.page(
                c, principal.user, wanted.prefix, last=last, limit=wanted.limit + 1, agent=principal.agent, now=moment
            )
        )
        files = [records.from_row(row, self.objects.url) for row in rows[: wanted.limit]]
        more = len(rows) > wanted.limit
        return Page(files, listing.token(files[-1].key) if more else None)

    async def delete(self, principal: Principal, s3_url: str) -> None:
        """Removes a file.

        Raises:
            PermissionDenied: it is not the caller's to delete.
            FileNotFound: there is none.
        """
        key = self._key(s3_url)
        place = place_of(key)
        if place is None:
            raise PermissionDenied("Only files of this gateway's areas can be deleted.")
        access.may_change_file(principal, place.user, place.agent)
        with suppress(QuotaExceeded):  # an input that does not fit is gone once somebody looks at it
            if not await self._remove([key]) and not (await self._unrecorded(key) and await self._remove([key])):
                raise FileNotFound(f"There is no file {s3_url}.")

    async def cleanup(self, principal: Principal, session: str | None) -> int:
        """Removes the temporary files of the caller's agent, or of one session of it. Returns how many there were.

        Raises:
            MissingAgentContext: the caller is no agent.
            PermissionDenied: the caller is code inside a call.
        """
        access.require_person(principal)
        agent = access.require_agent(principal)
        if session is not None:
            access.check_name(session, "Session", "/session_id")
        prefix = area_prefix(Area.WORKSPACE, principal.user, agent, session)
        count, last = 0, None
        while True:
            moment, after = self.clock().timestamp(), last
            rows = await self._database.read(
                lambda c, after=after, moment=moment: records.page(  # type: ignore[misc]
                    c, principal.user, prefix, last=after, limit=_BATCH, agent=agent, now=moment
                )
            )
            if not rows:
                return count
            last = rows[-1].key
            count += await self._remove([row.key for row in rows])

    async def sweep(self) -> Swept:
        """Removes what has expired or was never finished. Cut anywhere, it is finished by the next one."""
        return await sweep(self._database, self.objects, self.clock().timestamp())

    async def erase(self, user: str) -> None:
        """Removes everything that a user has."""
        await erase(self._database, self.objects, user)

    async def _remove(self, keys: Sequence[str]) -> int:
        moment = self.clock().timestamp()
        count = await self._database.write(lambda c: records.hide(c, keys, moment))
        if count:
            await self.objects.delete(keys)
            await self._database.write(lambda c: records.forget(c, keys, moment), durable=False)
        return count

    def _key(self, s3_url: str) -> str:
        if not isinstance(s3_url, str) or not s3_url.startswith("s3://"):
            message = f"{str(s3_url)[:200]!r} is no s3:// URL. Upload the file first, and pass the URL that you get."
            raise Invalid(message, [Problem("/s3_url", message)])
        key = self.objects.key(s3_url)
        if key is None:
            raise PermissionDenied(f"{s3_url[:200]} does not lie in the store of this gateway.")
        return key

    def _is_own(self, principal: Principal, key: str, s3_url: str) -> bool:
        """Whether the key is the caller's, in an area, rather than in what the operator lets everybody read."""
        place = place_of(key)
        if place is not None:
            access.may_read_file(principal, place.user, place.agent, in_tree=True)  # the tree is looked at later
            return True
        if not any(s3_url.startswith(prefix) for prefix in self._granted):
            raise PermissionDenied(f"{s3_url} lies outside of the areas that can be read.")
        return False

    def _seen(self, row: Any, moment: float) -> StoredFile | None:
        return None if records.has_ended(row, moment) else records.from_row(row, self.objects.url)

    async def _unrecorded(self, key: str) -> StoredFile | None:
        """A file without a record: one of the operator's, or an input that was put into the store past the gateway."""
        place = place_of(key)
        if place is not None:
            return await self._adopted(key) if place.area is Area.INPUTS and self.objects.direct else None
        size = await self.objects.size(key)
        if size is None:
            return None
        return StoredFile(
            key=key,
            s3_url=self.objects.url(key),
            area=None,
            user=None,
            name=key.rpartition("/")[2],
            size=size,
            sha256=None,
            content_type=None,
            created_at=self.clock(),
            expires_at=None,
        )

    async def _take_in(self, user: str, prefix: str, last: str | None, count: int) -> None:
        """Records the inputs that nobody has read yet, as far as `count` files of a listing reach."""
        folder = area_prefix(Area.INPUTS, user)
        if not (prefix.startswith(folder) or folder.startswith(prefix)):
            return
        at = last or ""
        while count > 0 and (found := await self.objects.arrived(max(prefix, folder), at)):
            count -= await self._take_in_some(found)
            at = found[-1][0]

    async def _take_in_some(self, found: Sequence[tuple[str, int]]) -> int:
        """Records those that have no record; for which there is no room, they wait until somebody reads them. Returns
        how many of all can be seen then."""
        moment = self.clock().timestamp()
        rows = await self._database.read(lambda c: records.recorded(c, [key for key, _ in found]))
        new = [(key, size) for key, size in found if key not in rows and place_of(key) is not None]
        adopted = await asyncio.gather(*(self._adopt(key, size) for key, size in new), return_exceptions=True)
        for outcome in adopted:
            if isinstance(outcome, BaseException) and not isinstance(outcome, QuotaExceeded):
                raise outcome
        seen = sum(isinstance(outcome, StoredFile) for outcome in adopted)
        return seen + sum(not records.has_ended(row, moment) for row in rows.values())

    async def _adopted(self, key: str) -> StoredFile | None:
        """An input that nobody has read yet. From here on it has a record, which is all that counts: the object of a
        file that has ended stays in the store until it is swept."""
        size = await self.objects.size(key)
        if size is None:
            return None
        try:
            return await self._adopt(key, size)
        except REFUSALS:
            await self.objects.delete([key])
            raise

    async def _adopt(self, key: str, size: int) -> StoredFile | None:
        moment = self.clock()
        file = self.described(key, input_wish(key, None), Written(size, None), moment, None)
        row = await self._database.write(lambda c: records.adopt(c, file))
        return None if row is None else self._seen(row, moment.timestamp())
