"""Which prefab versions there are: published whole or not at all, never changed, found in an instant."""

import asyncio
import builtins
import difflib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import Version as Ordered
from sqlalchemy import Connection, Row, func, select, update

from gateway_server.errors import GatewayFault, Invalid, NotFound, Problem, VersionExists, VersionInUse
from gateway_server.identity import access, audit
from gateway_server.models import Deployment, Principal
from gateway_server.prefabs.code import check_code
from gateway_server.prefabs.environments import EnvironmentBuildError, Environments
from gateway_server.prefabs.manifest import Manifest, parse_manifest
from gateway_server.prefabs.package import Package, PackageError, open_package
from gateway_server.prefabs.search import rank, words_of
from gateway_server.store import schema
from gateway_server.store.database import Database

LATEST = "latest"
"""In the place of a version: the newest one that has not been yanked."""
BUILDING, DEPLOYED, FAILED = "building", "deployed", "failed"
REMEMBERED_FAILURES = 100
LONGEST_ECHO = 80
"""Characters of what a caller sent that an answer repeats at most."""
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a prefab; the manifest and where its parts lie are there once it is deployed."""

    prefab_id: str
    version: str
    status: str
    owner: str
    created_at: float
    error: str | None = None
    warnings: tuple[Problem, ...] = ()
    manifest: Manifest | None = None
    deployment: Deployment | None = None
    digest: str = ""
    size: int = 0
    deprecated: str | None = None
    """What to use instead, in the publisher's words."""
    yanked: str | None = None
    """Why nobody should begin to use it; whoever names the version still gets it."""

    def warning(self) -> str | None:
        """What whoever calls this version should know."""
        name = f"{self.prefab_id}@{self.version}"
        if self.yanked is not None:
            return f"{name} was withdrawn by its publisher: {self.yanked}"
        return None if self.deprecated is None else f"{name} is deprecated: {self.deprecated}"


class Catalogue:
    """Publishes, finds and removes versions. What is deployed is remembered once it was asked for."""

    def __init__(self, database: Database, environments: Environments, folder: Path) -> None:
        self._database = database
        self._environments = environments
        self._folder = folder
        self._known: dict[tuple[str, str], Version] = {}
        self._newest: dict[str, Version] = {}
        self._leaving: set[tuple[str, str]] = set()
        """Versions that are being removed: no call begins any more."""
        self._changes = 0
        """Versions that were forgotten; what was read before the last one is not remembered."""
        self._attempts: dict[tuple[str, str], Version] = {}
        """Versions that are being published, and those whose publishing failed lately."""
        self.on_gone: Callable[[Version], None] = lambda _version: None
        """Called when a version's processes have to end: it was removed or replaced."""

    async def start(self) -> None:
        """Removes what interrupted publishes left behind."""
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = await self._database.read(lambda c: c.execute(select(schema.versions)).all())
        wanted = {self._code(row.prefab_id, row.version, row.digest) for row in rows}
        await asyncio.to_thread(self._sweep, wanted)
        await asyncio.to_thread(self._environments.sweep)

    async def publish(
        self,
        path: Path,
        principal: Principal,
        *,
        settings: Mapping[str, str] | None = None,
        replacing: bool = False,
        progress: Progress | None = None,
    ) -> Version:
        """Publishes a folder, wheel or archive. The same content again changes nothing.

        `replacing` lets other content take the place of a version, which only development may do.

        Raises:
            Invalid: the package is wrong; every reason is told.
            VersionExists: the version was published with other content.
            PermissionDenied: the id belongs to somebody else.
        """
        say = progress or (lambda _line: None)
        say("Reading the package")
        try:
            package = await asyncio.to_thread(open_package, path)
        except PackageError as error:
            raise _refusal(error) from error
        with package:
            key = (package.manifest.id, package.manifest.version)
            existing = await self._check(package, principal, replacing)
            if existing is not None and settings in (None, dict(existing.deployment.settings)):  # type: ignore[union-attr]
                return existing
            if self._attempts.get(key, None) and self._attempts[key].status == BUILDING:
                raise VersionExists(f"{key[0]}@{key[1]} is being published right now.")
            attempt = Version(
                prefab_id=key[0], version=key[1], status=BUILDING, owner=principal.user, created_at=time.time()
            )
            self._attempts[key] = attempt
            try:
                version = await self._build(package, principal, dict(settings or {}), say)
            except BaseException as error:
                self._remember_failure(attempt, error)
                raise
            self._attempts.pop(key, None)
            return version

    async def find(self, prefab_id: str, version: str) -> Version:
        """The deployed version; for `LATEST` the newest.

        Raises:
            NotFound: there is none; the message says which there are.
        """
        if version == LATEST:
            return await self.newest(prefab_id)
        known = self._known.get((prefab_id, version))
        if known is not None:
            return known
        changes, rows = self._changes, []
        if _is_id(prefab_id):
            rows = list(await self._database.read(lambda c: c.execute(_select(prefab_id)).all()))
        for row in rows:
            if row.version == version:
                found = self._from_row(row)
                if changes == self._changes:
                    self._known[prefab_id, version] = found
                return found
        raise await self._not_found(prefab_id, version, [row.version for row in rows])

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
            rows = list(await self._database.read(lambda c: c.execute(_select(prefab_id)).all()))
        numbers = [row.version for row in rows if row.yanked is None]
        if not numbers:
            raise await self._not_found(prefab_id, LATEST, [row.version for row in rows])
        found = await self.find(prefab_id, max(numbers, key=Ordered))
        if changes == self._changes:
            self._newest[prefab_id] = found
        return found

    def takes_calls(self, version: Version) -> bool:
        """Whether a call of a version that was found may begin: nobody is removing it."""
        return (version.prefab_id, version.version) not in self._leaving

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
        rows = await self._database.read(lambda c: c.execute(_select()).all())
        versions = [self._from_row(row) for row in rows]
        shown = {(v.prefab_id, v.version) for v in versions}
        versions += [attempt for key, attempt in self._attempts.items() if key not in shown]
        versions.sort(key=lambda version: version.created_at, reverse=True)
        return [version for version in versions if status in (None, version.status)]

    async def remove(self, prefab_id: str, version: str, principal: Principal) -> None:
        """Takes a version out of the catalogue; its id stays its owner's.

        Raises:
            NotFound: there is no such version.
            PermissionDenied: it is somebody else's.
            VersionInUse: calls of it run.
        """
        found = await self._changeable(prefab_id, version, principal)
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
            self._forget(found)
        finally:
            self._leaving.discard((prefab_id, version))
        await asyncio.to_thread(shutil.rmtree, self._code(prefab_id, version, found.digest), ignore_errors=True)

    async def mark(
        self, prefab_id: str, version: str, principal: Principal, marks: Mapping[str, str | None]
    ) -> Version:
        """Says of a version that it is `deprecated` or `yanked`, and why; None takes it back.

        Raises:
            NotFound: there is no such version.
            PermissionDenied: it is somebody else's.
        """
        found = await self._changeable(prefab_id, version, principal)
        await self._change(found, principal, "prefab.mark", dict(marks), marks)
        return await self.find(prefab_id, version)

    async def set_settings(
        self, prefab_id: str, version: str, settings: Mapping[str, str], principal: Principal
    ) -> Version:
        """Replaces the operator's settings of a version; new calls see them.

        Raises:
            NotFound: there is no such version.
            PermissionDenied: it is somebody else's.
        """
        found = await self._changeable(prefab_id, version, principal)
        kept = json.dumps(_checked_settings(settings))
        changes = {"settings": kept, "revision": schema.versions.c.revision + 1}
        await self._change(found, principal, "prefab.settings", {"names": sorted(settings)}, changes)
        self.on_gone(found)
        return await self.find(prefab_id, version)

    async def _changeable(self, prefab_id: str, version: str, principal: Principal) -> Version:
        if version == LATEST:
            message = "must name one version, not the latest"
            raise Invalid(f"The version {message}.", [Problem("/version", message)])
        found = await self.find(prefab_id, version)
        access.may_publish(principal, found.owner)
        return found

    async def _change(
        self, version: Version, principal: Principal, action: str, told: Mapping[str, Any], values: Mapping[str, Any]
    ) -> None:
        table = schema.versions
        place = (table.c.prefab_id == version.prefab_id, table.c.version == version.version)

        def work(connection: Connection) -> None:
            connection.execute(update(table).where(*place).values(**values))
            audit.record(connection, principal, action, f"{version.prefab_id}@{version.version}", **told)

        await self._database.write(work)
        self._unknow(version)

    async def _check(self, package: Package, principal: Principal, replacing: bool) -> Version | None:
        """Whether this publish is allowed; the version if it is there already, as it is."""
        prefab_id, version = package.manifest.id, package.manifest.version
        owner = await self._owner(prefab_id)
        access.may_publish(principal, owner)
        try:
            existing = await self.find(prefab_id, version)
        except NotFound:
            return None
        if existing.digest == package.digest:
            return existing
        if not replacing:
            raise VersionExists(
                f"{prefab_id}@{version} was published with other content, and versions never change. "
                "Raise the version in the manifest and publish again."
            )
        return None

    async def _build(self, package: Package, principal: Principal, settings: dict[str, str], say: Progress) -> Version:
        manifest = package.manifest
        say("Checking the code against the manifest")
        try:
            warnings = (*package.warnings, *await asyncio.to_thread(check_code, package.files, manifest))
        except PackageError as error:
            raise _refusal(error) from error
        say("Resolving the dependencies")
        try:
            resolution = await self._environments.resolve(package.requirements, package.requires_python)
            say("Building the environment")
            await self._environments.build(resolution, progress=say)
        except EnvironmentBuildError as error:
            raise Invalid(error.message, [Problem("/dependencies", error.message)]) from error
        say("Deploying")
        code = self._code(manifest.id, manifest.version, package.digest)
        await asyncio.to_thread(_lay_out, package, code)
        row: dict[str, object] = {
            "prefab_id": manifest.id,
            "version": manifest.version,
            "status": DEPLOYED,
            "error": None,
            "warnings": json.dumps(warnings),
            "manifest": json.dumps(manifest.raw, ensure_ascii=False),
            "digest": package.digest,
            "environment": resolution.key,
            "settings": json.dumps(_checked_settings(settings)),
            "revision": time.time_ns() % (1 << 31),
            "published_by": principal.user,
            "created_at": time.time(),
            "size": package.size,
        }
        before = self._known.get((manifest.id, manifest.version))
        await self._database.write(lambda connection: _insert(connection, row, principal))
        self._changes += 1
        self._newest.pop(manifest.id, None)
        if before is not None:
            self._forget(before)
        return await self.find(manifest.id, manifest.version)

    async def _owner(self, prefab_id: str) -> str | None:
        table = schema.prefabs
        wanted = select(table.c.owner).where(table.c.id == prefab_id)
        return await self._database.read(lambda c: c.execute(wanted).scalar())

    def _from_row(self, row: Row) -> Version:  # type: ignore[type-arg]
        manifest = parse_manifest(row.manifest)
        settings = json.loads(row.settings)
        deployment = Deployment(
            key=f"{row.prefab_id}@{row.version}#{row.digest[:16]}.{row.revision}",
            prefab_id=row.prefab_id,
            version=row.version,
            entry_point=manifest.entry_point,
            code=self._code(row.prefab_id, row.version, row.digest),
            packages=self._environments.path(row.environment) or Path("/nonexistent"),
            settings=settings,
            cpu=manifest.cpu,
            memory=manifest.memory,
        )
        return Version(
            prefab_id=row.prefab_id,
            version=row.version,
            status=row.status,
            owner=row.owner,
            created_at=row.created_at,
            error=row.error,
            warnings=tuple(Problem(*problem) for problem in json.loads(row.warnings)),
            manifest=manifest,
            deployment=deployment,
            digest=row.digest,
            size=row.size,
            deprecated=row.deprecated,
            yanked=row.yanked,
        )

    def _code(self, prefab_id: str, version: str, digest: str) -> Path:
        return self._folder / prefab_id / f"{version}-{digest[:16]}"

    def _forget(self, version: Version) -> None:
        self._unknow(version)
        self.on_gone(version)

    def _unknow(self, version: Version) -> None:
        self._changes += 1
        self._known.pop((version.prefab_id, version.version), None)
        self._newest.pop(version.prefab_id, None)

    def _remember_failure(self, attempt: Version, error: BaseException) -> None:
        key = (attempt.prefab_id, attempt.version)
        self._attempts.pop(key, None)
        if isinstance(error, GatewayFault):
            while len(self._attempts) >= REMEMBERED_FAILURES:
                self._attempts.pop(next(iter(self._attempts)))
            self._attempts[key] = replace(attempt, status=FAILED, error=error.message)

    async def _not_found(self, prefab_id: str, version: str | None, deployed: Sequence[str]) -> NotFound:
        told = prefab_id[:LONGEST_ECHO]
        if deployed and version == LATEST:
            message = f"Every version of {told} was withdrawn. A version that you name still runs."
        elif deployed:
            shown = ", ".join(sorted(deployed, key=Ordered, reverse=True)[:5])
            message = f"Prefab {told} has no version {(version or '')[:LONGEST_ECHO]}; there are: {shown}."
        elif _is_id(prefab_id):
            ids = await self._database.read(lambda c: c.execute(select(schema.prefabs.c.id)).scalars().all())
            near = difflib.get_close_matches(prefab_id, ids, n=1)
            message = f"There is no prefab {told}." + (f" Did you mean {near[0]}?" if near else "")
        else:
            message = f"There is no prefab {told}: an id has 3 to 64 lowercase letters, digits and single hyphens."
        return NotFound(message, prefab_id=told, version=version and version[:LONGEST_ECHO])

    def _sweep(self, wanted: set[Path]) -> None:
        for prefab in self._folder.iterdir():
            for version in prefab.iterdir() if prefab.is_dir() else ():
                if version not in wanted:
                    shutil.rmtree(version, ignore_errors=True)


def _is_id(text: str) -> bool:
    return 3 <= len(text) <= 64 and _ID.match(text) is not None


def _select(prefab_id: str | None = None):  # type: ignore[no-untyped-def]
    versions, prefabs = schema.versions, schema.prefabs
    wanted = select(versions, prefabs.c.owner).join(prefabs, prefabs.c.id == versions.c.prefab_id)
    return wanted if prefab_id is None else wanted.where(versions.c.prefab_id == prefab_id)


def _insert(connection: Connection, row: dict[str, object], principal: Principal) -> None:
    """The moment at which a version exists. Ownership is decided here once more: two first publishers may race."""
    prefabs, versions = schema.prefabs, schema.versions
    owner = connection.execute(select(prefabs.c.owner).where(prefabs.c.id == row["prefab_id"])).scalar()
    access.may_publish(principal, owner)
    if owner is None:
        values = {"id": row["prefab_id"], "owner": principal.user, "created_at": row["created_at"]}
        connection.execute(prefabs.insert().values(values))
    key = (versions.c.prefab_id == row["prefab_id"], versions.c.version == row["version"])
    connection.execute(versions.delete().where(*key))
    connection.execute(versions.insert().values(row))
    audit.record(connection, principal, "prefab.publish", f"{row['prefab_id']}@{row['version']}", digest=row["digest"])


def _lay_out(package: Package, code: Path) -> None:
    if not code.exists():
        package.write_to(code)


def _refusal(error: PackageError) -> Invalid:
    problems = [Problem(*problem) for problem in error.problems]
    shown = "; ".join(f"{p.pointer}: {p.message}" if p.pointer else p.message for p in problems[:5])
    return Invalid(f"The package was refused: {shown}", problems)


def _checked_settings(settings: Mapping[str, str]) -> dict[str, str]:
    for name in settings:
        if not name.isidentifier() or name.startswith(("X_INTERNAL_", "GATEWAY_", "PYTHON", "LD_")):
            message = "is no name that a setting may have"
            raise Invalid(f"{name!r} {message}.", [Problem(f"/settings/{name}", message)])
    return dict(settings)
