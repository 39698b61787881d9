"""Which prefab versions there are: found in an instant, marked, removed."""

import asyncio
import builtins
import difflib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from packaging.version import Version as Ordered
from sqlalchemy import Connection, func, select, update

from gateway_server.errors import Invalid, NotFound, Problem, VersionInUse
from gateway_server.identity import access, audit
from gateway_server.models import Principal
from gateway_server.prefabs.environments import Environments
from gateway_server.prefabs.search import rank, words_of
from gateway_server.prefabs.versions import (
    BUILDING,
    DEPLOYED,
    LATEST,
    Version,
    checked_settings,
    from_row,
    select_versions,
)
from gateway_server.store import schema
from gateway_server.store.database import Database
from gateway_server.threads import finished

LONGEST_ECHO = 80
"""Characters of what a caller sent that an answer repeats at most."""
_REMEMBERED_REMOVALS = 10_000
_NEIGHBOURS = 20
"""Ids on either side of one that is not there, among which the one that was meant is looked for."""
_REMEMBERED_ROWS = 5_000
_Change = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What the audit log is told, and the columns that change."""
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")


class Catalogue:
    """Finds, marks and removes versions. What is deployed is remembered once it was asked for."""

    def __init__(self, database: Database, environments: Environments, folder: Path) -> None:
        self._database = database
        self._environments = environments
        self._folder = folder
        self._known: dict[tuple[str, str], Version] = {}
        self._newest: dict[str, Version] = {}
        self._leaving: set[tuple[str, str]] = set()
        """Versions that are being removed: no call begins any more."""
        self._removed: dict[str, None] = {}
        """Keys of deployments that were removed, the latest last; a version that is published anew has another."""
        self._parsed: dict[tuple[Any, ...], Version] = {}
        """What the last list held."""
        self._changes = 0
        """Versions that were forgotten; what was read before the last one is not remembered."""
        self.attempts: dict[tuple[str, str], Version] = {}
        """Versions that are being published, and those whose publishing failed lately."""
        self.on_gone: Callable[[Version], None] = lambda _version: None
        """Called when a version's processes have to end: it was removed or replaced."""

    async def start(self) -> None:
        """Removes what interrupted publishes left behind, and environments that no version needs any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = await self._database.read(lambda c: c.execute(select(schema.versions)).all())
        wanted = {self.code(row.prefab_id, row.version, row.digest) for row in rows}
        await asyncio.to_thread(self._sweep, wanted)
        await asyncio.to_thread(self._environments.prune, {row.environment for row in rows})

    async def find(self, prefab_id: str, version: str) -> Version:
        """The deployed version; for `LATEST` the newest.

        Raises:
            NotFound: there is none; the message says which there are.
        """
        if version == LATEST:
            return await self.newest(prefab_id)
        if (known := self.recall(prefab_id, version)) is not None:
            return known
        changes, rows = self._changes, []
        if _is_id(prefab_id):
            rows = list(await self._database.read(lambda c: c.execute(select_versions(prefab_id)).all(), settled=False))
        for row in rows:
            if row.version == version:
                found = self._from_row(row)
                if changes == self._changes:
                    self._known[prefab_id, version] = found
                return found
        raise await self._not_found(prefab_id, version, [row.version for row in rows])

    def recall(self, prefab_id: str, version: str) -> Version | None:
        """The deployed version of that number, if it has been found before."""
        return self._known.get((prefab_id, version))

    async def newest(self, prefab_id: str) -> Version:
        """The deployed version with the highest number, those aside that were yanked.

        Raises:
            NotFound: there is none.
        """
        known, changes = self._newest.get(prefab_id), self._changes
        if known is not None:
            return known
        rows = []
        if _is_id(prefab_id):
            rows = list(await self._database.read(lambda c: c.execute(select_versions(prefab_id)).all(), settled=False))
        numbers = [row.version for row in rows if row.yanked is None]
        if not numbers:
            raise await self._not_found(prefab_id, LATEST, [row.version for row in rows])
        found = await self.find(prefab_id, max(numbers, key=Ordered))
        if changes == self._changes:
            self._newest[prefab_id] = found
        return found

    def takes_calls(self, version: Version) -> bool:
        """Whether a call of a version that was found may begin: nobody is removing it, or has removed it since."""
        is_removed = version.deployment is not None and version.deployment.key in self._removed
        return not is_removed and (version.prefab_id, version.version) not in self._leaving

    async def search(self, text: str) -> builtins.list[Version]:
        """The newest version of every prefab that holds all words of a text, the best match first."""
        words = words_of(text)
        newest: dict[str, Version] = {}
        for version in await self.list(DEPLOYED):
            other = newest.get(version.prefab_id)
            is_newer = other is None or Ordered(version.version) > Ordered(other.version)
            if version.yanked is None and is_newer:
                newest[version.prefab_id] = version
        ranked = [(rank(v.manifest, words), v) for v in newest.values() if v.manifest is not None]
        found = [(place, version) for place, version in ranked if place is not None]
        return [version for _, version in sorted(found, key=lambda pair: (pair[0], pair[1].prefab_id))]

    async def list(self, status: str | None = None) -> builtins.list[Version]:
        """Every version, newest first."""
        rows = await self._database.read(lambda c: c.execute(select_versions()).all())
        versions = await self._listed(rows)
        shown = {(v.prefab_id, v.version) for v in versions}
        versions += [attempt for key, attempt in self.attempts.items() if key not in shown]
        versions.sort(key=lambda version: version.created_at, reverse=True)
        return [version for version in versions if status in (None, version.status)]

    async def _listed(self, rows: Sequence[Any]) -> builtins.list[Version]:
        """Versions of all rows. To parse thousands takes a second: it is done in a thread, and once."""
        before, keys = self._parsed, [_state(row) for row in rows]
        new = [(key, row) for key, row in zip(keys, rows, strict=True) if key not in before]
        parsed = await asyncio.to_thread(lambda: {key: self._from_row(row) for key, row in new}) if new else {}
        versions = [parsed.get(key) or before[key] for key in keys]
        self._parsed = dict(islice(zip(keys, versions, strict=True), _REMEMBERED_ROWS))
        return versions

    async def remove(self, prefab_id: str, version: str, principal: Principal) -> None:
        """Takes a version out of the catalogue; its id stays its owner's.

        Raises:
            NotFound: there is no such version.
            PermissionDenied: it is somebody else's.
            VersionInUse: calls of it run, or it is being published once more.
        """
        found = await self._changeable(prefab_id, version, principal)
        attempt = self.attempts.get((prefab_id, version))
        if attempt is not None and attempt.status == BUILDING:
            raise VersionInUse(f"{prefab_id}@{version} is being published right now.")
        table, jobs = schema.versions, schema.jobs
        gone = table.delete().where(table.c.prefab_id == prefab_id, table.c.version == version)
        running = (jobs.c.prefab_id == prefab_id, jobs.c.version == version, jobs.c.ended_at.is_(None))

        def work(connection: Connection) -> None:
            live = connection.execute(select(func.count()).select_from(jobs).where(*running)).scalar_one()
            if live:
                raise VersionInUse(
                    f"{live} calls of {prefab_id}@{version} run. Wait for them or cancel them (gateway job list "
                    f"--status running); to keep new callers away meanwhile, yank it.",
                    running=live,
                )
            connection.execute(gone)
            audit.record(connection, principal, "prefab.remove", f"{prefab_id}@{version}")

        self._leaving.add((prefab_id, version))
        try:
            await self._database.write(work)  # behind the records of all calls that have begun
            self._unknow(prefab_id, version)
            self._remember_removed(found)
            self.on_gone(found)
            await finished(shutil.rmtree, self.code(prefab_id, version, found.digest), ignore_errors=True)
        finally:
            self._leaving.discard((prefab_id, version))

    def is_leaving(self, prefab_id: str, version: str) -> bool:
        """Whether a version is being removed, its code included."""
        return (prefab_id, version) in self._leaving

    def _remember_removed(self, version: Version) -> None:
        if version.deployment is not None:
            self._removed[version.deployment.key] = None
        while len(self._removed) > _REMEMBERED_REMOVALS:
            del self._removed[next(iter(self._removed))]

    async def mark(
        self, prefab_id: str, version: str, principal: Principal, marks: Mapping[str, str | None]
    ) -> Version:
        """Says of a version that it is `deprecated` or `yanked`, and why; None takes it back.

        Raises:
            NotFound: there is no such version.
            PermissionDenied: it is somebody else's.
        """
        found = await self._changeable(prefab_id, version, principal)
        await self._change(found, principal, "prefab.mark", lambda _settings: (dict(marks), marks))
        return await self.find(prefab_id, version)

    async def set_settings(
        self, prefab_id: str, version: str, settings: Mapping[str, str], principal: Principal
    ) -> Version:
        """Replaces the operator's settings of a version; new calls see them.

        Raises:
            NotFound: there is no such version.
            PermissionDenied: it is somebody else's.
        """
        return await self._settle(prefab_id, version, principal, lambda _before: settings)

    async def change_settings(
        self, prefab_id: str, version: str, changes: Mapping[str, str | None], principal: Principal
    ) -> Version:
        """Sets some of the operator's settings of a version, and leaves the others; None removes one.

        Raises:
            NotFound: there is no such version.
            PermissionDenied: it is somebody else's.
        """

        def changed(before: Mapping[str, str]) -> dict[str, str]:
            return {name: value for name, value in {**before, **changes}.items() if value is not None}

        return await self._settle(prefab_id, version, principal, changed)

    async def _settle(
        self,
        prefab_id: str,
        version: str,
        principal: Principal,
        decide: Callable[[Mapping[str, str]], Mapping[str, str]],
    ) -> Version:
        found = await self._changeable(prefab_id, version, principal)

        def change(settings: Mapping[str, str]) -> _Change:
            decided = checked_settings(decide(settings))
            revision = schema.versions.c.revision + 1
            return {"names": sorted(decided)}, {"settings": json.dumps(decided), "revision": revision}

        await self._change(found, principal, "prefab.settings", change)
        self.on_gone(found)
        return await self.find(prefab_id, version)

    async def _changeable(self, prefab_id: str, version: str, principal: Principal) -> Version:
        if version == LATEST:
            message = "must name one version, not the latest"
            raise Invalid(f"The version {message}.", [Problem("/version", message)])
        found = await self.find(prefab_id, version)
        access.may_publish(principal, found.owner, prefab_id)
        return found

    async def _change(
        self, version: Version, principal: Principal, action: str, change: Callable[[Mapping[str, str]], _Change]
    ) -> None:
        """`change` decides in the transaction, from the settings that the version has there."""
        table = schema.versions
        place = (table.c.prefab_id == version.prefab_id, table.c.version == version.version)

        def work(connection: Connection) -> None:
            settings = connection.execute(select(table.c.settings).where(*place)).scalar_one_or_none()
            if settings is None:
                return  # removed meanwhile
            told, values = change(json.loads(settings))
            connection.execute(update(table).where(*place).values(**values))
            audit.record(connection, principal, action, f"{version.prefab_id}@{version.version}", **told)

        await self._database.write(work)
        self._unknow(version.prefab_id, version.version)

    def code(self, prefab_id: str, version: str, digest: str) -> Path:
        """Where the code of a version lies."""
        return self._folder / prefab_id / f"{version}-{digest[:16]}"

    def forget(self, prefab_id: str, version: str) -> None:
        """A version is there anew, or not any more: what is remembered of it goes, and its processes end."""
        before = self._unknow(prefab_id, version)
        if before is not None:
            self.on_gone(before)

    def _unknow(self, prefab_id: str, version: str) -> Version | None:
        self._changes += 1
        self._newest.pop(prefab_id, None)
        return self._known.pop((prefab_id, version), None)

    def _from_row(self, row: Any) -> Version:
        packages = self._environments.path(row.environment) or Path("/nonexistent")
        return from_row(row, self.code(row.prefab_id, row.version, row.digest), packages)

    async def _not_found(self, prefab_id: str, version: str | None, deployed: Sequence[str]) -> NotFound:
        told = prefab_id[:LONGEST_ECHO]
        if deployed and version == LATEST:
            message = f"Every version of {told} was withdrawn. A version that you name still runs."
        elif deployed:
            shown = ", ".join(sorted(deployed, key=Ordered, reverse=True)[:5])
            message = f"Prefab {told} has no version {(version or '')[:LONGEST_ECHO]}; there are: {shown}."
        elif _is_id(prefab_id):
            ids = await self._database.read(lambda c: _around(c, prefab_id))
            near = difflib.get_close_matches(prefab_id, ids, n=1)
            message = f"There is no prefab {told}." + (f" Did you mean {near[0]}?" if near else "")
            if prefab_id in ids:
                message = f"No version of {told} is published any more."
        else:
            message = f"There is no prefab {told}: an id has 3 to 64 lowercase letters, digits and single hyphens."
        return NotFound(message, prefab_id=told, version=version and version[:LONGEST_ECHO])

    def _sweep(self, wanted: set[Path]) -> None:
        for prefab in self._folder.iterdir():
            for version in prefab.iterdir() if prefab.is_dir() else ():
                if version not in wanted:
                    shutil.rmtree(version, ignore_errors=True)


def _around(connection: Connection, prefab_id: str) -> list[str]:
    """The ids that stand before and after one in the alphabet, and itself: however many there are, it takes as long."""
    column = schema.prefabs.c.id
    after = select(column).where(column >= prefab_id).order_by(column).limit(_NEIGHBOURS)
    before = select(column).where(column < prefab_id).order_by(column.desc()).limit(_NEIGHBOURS)
    return [*connection.execute(after).scalars(), *connection.execute(before).scalars()]


def _state(row: Any) -> tuple[Any, ...]:
    """Differs whenever something about a version has changed."""
    return row.prefab_id, row.version, row.digest, row.revision, row.deprecated, row.yanked, row.owner


def _is_id(text: str) -> bool:
    return 3 <= len(text) <= 64 and _ID.match(text) is not None
