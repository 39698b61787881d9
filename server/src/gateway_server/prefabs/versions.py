"""One version of a prefab, and the statements that read and write it. Functions of a connection, for `Database`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Select, select

from gateway_server.errors import Invalid, Problem, VersionExists
from gateway_server.identity import access, audit
from gateway_server.models import Deployment, Principal
from gateway_server.prefabs.manifest import Manifest, parse_manifest
from gateway_server.store import schema

LATEST = "latest"
"""In the place of a version: the newest one that has not been yanked."""
BUILDING, DEPLOYED, FAILED = "building", "deployed", "failed"
Status = Literal["building", "deployed", "failed"]
"""Where a version stands."""


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
        if self.yanked is not None:
            return f"{self.prefab_id}@{self.version} was withdrawn by its publisher: {self.yanked}"
        if self.deprecated is not None:
            return f"{self.prefab_id}@{self.version} is deprecated: {self.deprecated}"
        return None


def from_row(row: Any, code: Path, packages: Path) -> Version:
    """A deployed version, from its row and where its parts lie."""
    manifest = parse_manifest(json.loads(row.manifest))  # as text it may be longer than a package's may be
    deployment = Deployment(
        key=f"{row.prefab_id}@{row.version}#{row.digest[:16]}.{row.revision}",
        prefab_id=row.prefab_id,
        version=row.version,
        entry_point=manifest.entry_point,
        code=code,
        packages=packages,
        settings=json.loads(row.settings),
        cpu=manifest.cpu,
        memory=manifest.memory,
        network=manifest.network,
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


def select_versions(prefab_id: str | None = None) -> Select[Any]:
    """Rows of all versions, or those of one prefab, with their owner."""
    versions, prefabs = schema.versions, schema.prefabs
    wanted = select(versions, prefabs.c.owner).join(prefabs, prefabs.c.id == versions.c.prefab_id)
    return wanted if prefab_id is None else wanted.where(versions.c.prefab_id == prefab_id)


def other_content(prefab_id: str, version: str) -> VersionExists:
    """Why a version cannot be published."""
    return VersionExists(
        f"{prefab_id}@{version} was published with other content, and versions never change. "
        "Raise the version in the manifest and publish again."
    )


def insert(connection: Connection, row: Mapping[str, Any], principal: Principal, *, replacing: bool) -> None:
    """The moment at which a version exists. Ownership and content are looked at here once more: two publishers may
    race.

    Raises:
        PermissionDenied: the id belongs to somebody else.
        VersionExists: the version has other content, and is not to be replaced.
    """
    prefabs, versions = schema.prefabs, schema.versions
    owner = connection.execute(select(prefabs.c.owner).where(prefabs.c.id == row["prefab_id"])).scalar()
    access.may_publish(principal, owner, row["prefab_id"])
    if owner is None:
        values = {"id": row["prefab_id"], "owner": principal.user, "created_at": row["created_at"]}
        connection.execute(prefabs.insert().values(values))
    key = (versions.c.prefab_id == row["prefab_id"], versions.c.version == row["version"])
    before = connection.execute(select(versions.c.digest, versions.c.deprecated, versions.c.yanked).where(*key)).first()
    if before is not None and before.digest != row["digest"] and not replacing:
        raise other_content(row["prefab_id"], row["version"])
    connection.execute(versions.delete().where(*key))
    # Said of the version, whatever its settings are now:
    marks = {} if before is None else {"deprecated": before.deprecated, "yanked": before.yanked}
    connection.execute(versions.insert().values({**row, **marks}))
    audit.record(connection, principal, "prefab.publish", f"{row['prefab_id']}@{row['version']}", digest=row["digest"])


def checked_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings under names that they may have.

    Raises:
        Invalid: one has another name.
    """
    for name in settings:
        if not name.isidentifier() or name.startswith(("X_INTERNAL_", "GATEWAY_", "PYTHON", "LD_")):
            message = "is no name that a setting may have"
            raise Invalid(f"{name!r} {message}.", [Problem(f"/settings/{name}", message)])
    return dict(settings)
