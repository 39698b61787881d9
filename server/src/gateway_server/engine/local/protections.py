"""What protects people from packages on this machine: each thing as it was found when a worker was tried out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway_runtime.probe import namespaces
from gateway_runtime.zygote import MOST_DESCRIPTORS, MOST_PROCESSES
from gateway_server.engine.local.bounds import size
from gateway_server.engine.local.cgroups import Cgroups
from gateway_server.engine.local.isolation import Isolation
from gateway_server.settings import Settings

_NAMESPACES = {"user": "user namespace", "pid": "pid namespace", "mnt": "mount namespace", "ipc": "ipc namespace"}
_NEEDED = "a kernel that lets this user make namespaces, or root"


@dataclass(frozen=True, kw_only=True)
class Protection:
    """One of them."""

    name: str
    held: bool
    detail: str
    """What it does where it holds; else why it does not, and what to do."""


def protections(
    facts: Mapping[str, Any], *, isolation: Isolation, settings: Settings, cgroups: Cgroups | None, no_groups: str
) -> list[Protection]:
    """All of them, from what a worker found; `cgroups` are those that really hold it."""
    if not facts:
        return [Protection(name="processes apart", held=False, detail="only Linux has a sandbox; for development only")]
    own_uid = isolation is Isolation.UIDS
    ours, theirs = namespaces(), facts["namespaces"]
    found = [
        _one("separate uid", own_uid, "each worker has its own", "all workers share the gateway's uid; run it as root"),
        *(
            _one(title, ours[name] != theirs[name], "apart from the machine's", f"the machine's own; needs {_NEEDED}")
            for name, title in _NAMESPACES.items()
        ),
        _one("landlock", facts["landlock"], "other files are out of reach", "needs Linux 5.13 with it on"),
        _one("seccomp", facts["seccomp"], "the kernel's sharp tools are refused", "needs a 64-bit kernel with filters"),
        _one("no new privileges", facts["no_new_privileges"], "set-uid programs gain nothing", f"needs {_NEEDED}"),
    ]
    return [*found, *_bounds(facts, own_uid=own_uid, settings=settings, cgroups=cgroups, no_groups=no_groups)]


def missing_core(found: list[Protection]) -> list[Protection]:
    """Those that a required sandbox cannot do without and that do not hold."""
    core = ("pid namespace", "landlock", "seccomp", "memory")
    return [one for one in found if one.name in core and not one.held]


def _bounds(
    facts: Mapping[str, Any], *, own_uid: bool, settings: Settings, cgroups: Cgroups | None, no_groups: str
) -> list[Protection]:
    controllers = cgroups.controllers if cgroups is not None else set()
    watched = settings.sandbox != "off"
    advice = f"{no_groups or 'switched off'}; needs root, or systemd with Delegate=yes for the gateway's unit"
    memory = (
        f"control groups, version {cgroups.version}"
        if cgroups
        else f"watched 4 times a second, as control groups: {advice}"
    )
    disk = f"watched: {size(settings.workspace_limit)} and {settings.workspace_files} files a call, and a reserve"
    processes = f"at most {MOST_PROCESSES} a worker"
    off = "switched off by --sandbox off"
    return [
        _one("memory", watched, f"execution_environment.memory of the manifest: {memory}", off),
        _one(
            "cpu", "cpu" in controllers, "busy workers share with others, and all weigh less than the gateway", advice
        ),
        _one("disk", watched, disk, off),
        _one(
            "processes", "pids" in controllers or (own_uid and facts["processes"] <= MOST_PROCESSES), processes, advice
        ),
        _one("descriptors", facts["descriptors"] <= MOST_DESCRIPTORS, f"at most {MOST_DESCRIPTORS} a process", off),
    ]


def _one(name: str, held: bool, does: str, lacks: str) -> Protection:
    return Protection(name=name, held=held, detail=does if held else lacks)
