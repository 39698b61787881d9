"""Everything that can be set, read once and handed down as a value."""

import os
import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

Network = IPv4Network | IPv6Network


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one gateway runs. Durations in seconds, sizes in bytes."""

    data: Path
    """Folder of everything that must survive: database, objects, packages, environments, keys."""
    host: str = "127.0.0.1"
    port: int = 8000
    database: str | None = None
    """SQLAlchemy URL; None is SQLite in the data folder."""
    store: str | None = None
    """URL of an object store; None is the data folder."""
    bucket: str = "agent-builder"
    engine: str = "local"
    sandbox: str = "auto"
    """required, auto or off."""
    allow_loopback: bool = False
    trusted_networks: tuple[Network, ...] = ()
    default_user: str = "default"
    """Who callers without a token are, where the address is trusted."""
    trust_same_host: bool = False
    """Whether callers without a token are trusted on loopback (the dev command)."""
    public_url: str | None = None
    """The address under which clients reach this gateway, where it is not the one it listens on."""
    reload: bool = False
    forget_secrets: bool = False
    """Whether what the master key does not open is removed at the start."""

    workers: int = field(default_factory=lambda: max(32, 16 * _cores()))
    """Functions that run at the same time; nested calls may exceed it, so that a tree of calls cannot block itself."""
    nesting_limit: int = 16
    """How deep functions and agents may call each other."""
    tree_limit: int = 10_000
    """Calls that may follow from one call, or from one request to an agent."""
    queue: int = 1000
    """Calls that may wait for a worker."""
    batch_concurrency: int = 16
    batch_limit: int = 1000
    """Calls in one batch."""
    call_timeout: float = 1200.0
    """Bound of every call, and of every attempt of a job, whatever deadline it brings."""
    import_timeout: float = 120.0
    worker_idle: float = 60.0
    zygote_idle: float = 600.0
    workspace_limit: int = 10 << 30
    """What a call may have on the disk at a time, besides its inputs; also the size of its largest file."""
    workspace_files: int = 100_000
    disk_reserve: int = 1 << 30
    """What is left free on the disk, come what may, but for 5 % of a small one: enough for the database to go on, and
    for what a fast disk takes between two looks of the watchdog."""
    request_limit: int = 16 << 20
    """Longest body of a run request."""
    log_limit: int = 4 << 20
    """Output of a job that is kept."""
    keep_records_days: float = 30
    keep_results_hours: float = 24
    keep_logs_days: float = 7
    keep_audit_days: float = 365
    default_quota: int | None = None
    """Calls a day for users without a quota of their own; None is no limit."""
    presigned_seconds: int = 3600
    part_size: int = 16 << 20
    file_limit: int = 100 << 30
    allow_source_builds: bool = False
    """Whether libraries without a wheel are built, which runs their code as the gateway."""
