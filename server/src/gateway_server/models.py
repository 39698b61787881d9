"""The nouns that every layer speaks: who calls, what, and what comes back. Values, without behaviour of their own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """A moment as every answer writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def rfc3339_at(seconds: float) -> str:
    """A stored moment, in POSIX seconds, as every answer writes it."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


class Scope(StrEnum):
    """What a key or token may do."""

    CALL = "call"
    PUBLISH = "publish"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who calls, as proven by a key, a token or a trusted address."""

    user: str
    agent: str | None = None
    scopes: frozenset[Scope] = frozenset({Scope.CALL})
    prefabs: frozenset[str] | None = None
    """The prefabs that the key behind this identity is limited to; None for all."""
    key_id: str | None = None
    """The API key behind this identity; its revocation ends the identity."""
    issued_at: float = math.inf
    """When the proof of this identity was issued, in POSIX seconds: one from before a deletion no longer counts."""
    made_by: str | None = None
    """Who had the token made that proves this identity, where that was another user."""
    job_id: str | None = None
    """Set for code that runs inside a call: the job it belongs to. Such a caller may run prefabs and use the files of
    its call tree, and nothing else."""
    root_job_id: str | None = None
    tree_id: str | None = None
    """Everything that follows from one request to an agent; None where no agent was asked."""
    depth: int = 0
    """How many calls stand above this one."""
    deadline: float | None = None
    """When the call that this identity belongs to ends, as a POSIX time."""
    signing_key: str | None = None
    """Id of the key that signed when the token of this identity was made; its revocation ends the identity."""


_NO_FILES: Mapping[str, tuple[str, ...]] = {}


class Call(NamedTuple):
    """One function to run."""

    prefab_id: str
    version: str
    function_name: str
    parameters: Mapping[str, Any]
    files: Mapping[str, tuple[str, ...]] = _NO_FILES


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """Where the parts of one prefab version lie, as the engine needs to know them."""

    key: str
    """Changes whenever anything below does."""
    prefab_id: str
    version: str
    entry_point: str
    code: Path
    packages: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment that the operator gave at publish; present at import."""
    cpu: float = 1.0
    """Cores."""
    memory: int = 512 << 20
    """Bytes."""
    network: bool = True
    """Whether the functions reach anything but the gateway."""


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self not in (JobStatus.QUEUED, JobStatus.STARTING, JobStatus.RUNNING)


class EventType(StrEnum):
    """The events of the compatible stream."""

    START = "start"
    CONTENT = "content"
    PROGRESS = "progress"
    DONE = "done"
    ERROR = "error"


class Progress(NamedTuple):
    """An event on the way, as JSON text that is forwarded as it stands."""

    json: bytes
    is_start: bool = False


class Result(NamedTuple):
    """The last event of a call that worked: JSON text, never decoded here."""

    json: bytes
    streamed: bool = False
    """Whether it is the data of a generator's done event rather than a function's result."""
    has_files: bool = False
    """Whether there may be files in the workspace that were not there before."""


class Failure(NamedTuple):
    """The last event of a call whose function failed."""

    error: Mapping[str, Any]
    has_files: bool = False
    """As of a result."""


Event = Progress | Result | Failure
"""What a running function says. Exactly one Result or Failure comes, and it comes last."""
