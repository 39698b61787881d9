"""Publishing: from a folder, wheel or archive to a version that is there whole, or not at all."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gateway_server.errors import GatewayFault, Invalid, NotFound, Problem, VersionExists
from gateway_server.identity import access
from gateway_server.models import Principal
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.code import check_code
from gateway_server.prefabs.environments import EnvironmentBuildError, Environments
from gateway_server.prefabs.package import Package, PackageError, open_package
from gateway_server.prefabs.versions import BUILDING, DEPLOYED, FAILED, Version, checked_settings, insert, other_content
from gateway_server.store import schema
from gateway_server.store.database import Database
from gateway_server.threads import finished, until_done

REMEMBERED_FAILURES = 100
Progress = Callable[[str], None]


class Publisher:
    """Brings versions into a catalogue."""

    def __init__(
        self,
        database: Database,
        environments: Environments,
        catalogue: Catalogue,
        check: Callable[[Principal], None],
    ) -> None:
        self._database = database
        self._check_principal = check
        self._environments = environments
        self._catalogue = catalogue
        self._attempts = catalogue.attempts

    async def publish(
        self,
        path: Path,
        principal: Principal,
        *,
        settings: Mapping[str, str] | None = None,
        replacing: bool = False,
        progress: Progress | None = None,
        scratch: Path | None = None,
    ) -> Version:
        """Publishes a folder, wheel or archive. The same content again changes nothing.

        `replacing` lets other content take the place of a version, which only development may do. Archives are unpacked
        below `scratch`, else in the system's temporary folder.

        Raises:
            Invalid: the package is wrong; every reason is told.
            VersionExists: the version was published with other content.
            PermissionDenied: the id belongs to somebody else.
        """
        say = progress or (lambda _line: None)
        say("Reading the package")
        try:
            package = await finished(open_package, path, scratch=scratch)  # nothing may come there after its end
        except PackageError as error:
            raise _refusal(error) from error
        try:
            return await self._publish(package, principal, settings, say, replacing=replacing)
        finally:
            await finished(package.close)  # there may be thousands of files

    async def _publish(
        self,
        package: Package,
        principal: Principal,
        settings: Mapping[str, str] | None,
        say: Progress,
        *,
        replacing: bool,
    ) -> Version:
        key = (package.manifest.id, package.manifest.version)
        existing = await self._check(package, principal, replacing)
        if existing is not None and settings in (None, dict(existing.deployment.settings)):  # type: ignore[union-attr]
            return existing
        if self._attempts.get(key, None) and self._attempts[key].status == BUILDING:
            raise VersionExists(f"{key[0]}@{key[1]} is being published right now.")
        if self._catalogue.is_leaving(*key):
            raise VersionExists(f"{key[0]}@{key[1]} is being removed right now; publish it in a moment.")
        attempt = Version(
            prefab_id=key[0], version=key[1], status=BUILDING, owner=principal.user, created_at=time.time()
        )
        self._attempts[key] = attempt
        try:
            version = await self._build(package, principal, dict(settings or {}), say, replacing=replacing)
        except BaseException as error:
            self._remember_failure(attempt, error)
            raise
        self._attempts.pop(key, None)
        return version

    async def _check(self, package: Package, principal: Principal, replacing: bool) -> Version | None:
        """Whether this publish is allowed; the version if it is there already, as it is."""
        prefab_id, version = package.manifest.id, package.manifest.version
        owner = await self._owner(prefab_id)
        access.may_publish(principal, owner, prefab_id)
        try:
            existing = await self._catalogue.find(prefab_id, version)
        except NotFound:
            return None
        if existing.digest == package.digest:
            return existing
        if not replacing:
            raise other_content(prefab_id, version)
        return None

    async def _build(
        self, package: Package, principal: Principal, settings: dict[str, str], say: Progress, *, replacing: bool
    ) -> Version:
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
        code = self._catalogue.code(manifest.id, manifest.version, package.digest)
        await finished(_lay_out, package, code)  # else it would meet that of another try
        row: dict[str, Any] = {
            "prefab_id": manifest.id,
            "version": manifest.version,
            "status": DEPLOYED,
            "error": None,
            "warnings": json.dumps(warnings),
            "manifest": json.dumps(manifest.raw, ensure_ascii=False),
            "digest": package.digest,
            "environment": resolution.key,
            "settings": json.dumps(checked_settings(settings)),
            "revision": time.time_ns() % (1 << 31),
            "published_by": principal.user,
            "created_at": time.time(),
            "size": package.size,
        }
        self._check_principal(principal)  # environments take their time
        writing = self._database.hand_over(lambda connection: insert(connection, row, principal, replacing=replacing))
        try:
            await asyncio.shield(writing)
        finally:
            await until_done(writing)  # a caller who hangs up now does not call it back
            self._catalogue.forget(manifest.id, manifest.version)
        return await self._catalogue.find(manifest.id, manifest.version)

    async def _owner(self, prefab_id: str) -> str | None:
        table = schema.prefabs
        wanted = select(table.c.owner).where(table.c.id == prefab_id)
        return await self._database.read(lambda c: c.execute(wanted).scalar())

    def _remember_failure(self, attempt: Version, error: BaseException) -> None:
        key = (attempt.prefab_id, attempt.version)
        self._attempts.pop(key, None)
        if isinstance(error, GatewayFault):
            while len(self._attempts) >= REMEMBERED_FAILURES:
                self._attempts.pop(next(iter(self._attempts)))
            self._attempts[key] = replace(attempt, status=FAILED, error=error.message)


def _lay_out(package: Package, code: Path) -> None:
    if not code.exists():
        package.write_to(code)


def _refusal(error: PackageError) -> Invalid:
    problems = [Problem(*problem) for problem in error.problems]
    shown = "; ".join(f"{p.pointer}: {p.message}" if p.pointer else p.message for p in problems[:5])
    return Invalid(f"The package was refused: {shown}", problems)
