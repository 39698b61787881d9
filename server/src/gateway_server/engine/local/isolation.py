"""How far this machine can lock a package in, and what a locked-in package gets to see."""

import os
import sys
import sysconfig
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gateway_runtime import linux, seccomp
from gateway_server.engine.local import uids
from gateway_server.models import Deployment

UIDS_EACH = 1000
"""Uids that one zygote may give to its workers."""
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc", "/dev", "/proc")


class Isolation(StrEnum):
    """The levels, strongest first."""

    UIDS = "uids"
    PIDS = "pids"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things lie as a zygote sees them, at one level of isolation."""

    isolation: Isolation
    support: Path
    """Folder of the host with gateway_runtime and gateway_sdk."""
    largest_file: int
    """Bytes of the largest file that a package may write."""
    first_uid: int = uids.FIRST
    """First uid on the host that a zygote may use."""
    door: tuple[str, int] | None = None
    """Where the gateway is to be met by functions without a network; an IP address and a port."""

    def order(self, deployment: Deployment, work: Path, slot: int, base_url: str) -> dict[str, Any]:
        """What the launcher is told."""
        places = self._places(deployment, work)
        interpreter = f"{places['python']}/bin/{_binary()}"
        return {
            "isolation": self.isolation,
            "interpreter": interpreter if self.isolation is not Isolation.NONE else sys.executable,
            "arguments": ["-I", "-S", "-u", f"{places['support']}/gateway_runtime/__main__.py"],
            "environment": self._environment(deployment, places, base_url),
            "uids": [self._zygote_uid(slot), UIDS_EACH],
            "network": deployment.network,
            "door": self.door,
            "root": str(work.parent / "root"),
            "mounts": [
                [sys.base_prefix, places["python"], True],
                [str(self.support), places["support"], True],
                [str(deployment.packages), places["packages"], True],
                [str(deployment.code), places["code"], True],
                [str(work), places["work"], False],
                [str(work / "import"), places["workspace"], False],
            ],
        }

    def plan(self, deployment: Deployment, work: Path, *, preload: bool) -> dict[str, Any]:
        """What the zygote is told; see gateway_runtime.zygote.Plan."""
        places = self._places(deployment, work)
        return {
            "entry_point": deployment.entry_point,
            "paths": [places["code"], places["packages"], places["support"]],
            "work": places["work"],
            "workspace": places["workspace"],
            "isolation": self.isolation,
            "preload": preload,
            "landlock": self.isolation is not Isolation.NONE and linux.landlock_version() > 0,
            "largest_file": self.largest_file,
            "seccomp": self.isolation is not Isolation.NONE and seccomp.available(),
            "readable": [*_SYSTEM, places["python"], places["support"], places["packages"], places["code"]],
        }

    def owner(self, slot: int, number: int) -> int | None:
        """The uid on the host that worker `number` runs under; None where all share the gateway's."""
        return self._zygote_uid(slot) + 100 + number if self.isolation is Isolation.UIDS else None

    def zygote_owner(self, slot: int) -> int | None:
        """The uid on the host that the zygote itself runs under."""
        return self._zygote_uid(slot) if self.isolation is Isolation.UIDS else None

    def _zygote_uid(self, slot: int) -> int:
        return self.first_uid + slot * UIDS_EACH

    def _places(self, deployment: Deployment, work: Path) -> dict[str, str]:
        if self.isolation is Isolation.NONE:
            return {
                "python": sys.base_prefix,
                "support": str(self.support),
                "packages": str(deployment.packages),
                "code": str(deployment.code),
                "work": str(work),
                "workspace": str(work / "import"),
            }
        return {name: f"/{name}" for name in ("python", "support", "packages", "code", "work", "workspace")}

    def _environment(self, deployment: Deployment, places: dict[str, str], base_url: str) -> dict[str, str]:
        threads = str(max(1, int(deployment.cpu)))
        bins = [f"{places['python']}/bin", f"{places['packages']}/bin", "/usr/local/bin", "/usr/bin", "/bin"]
        environment = {
            "PATH": ":".join(bins),
            "PYTHONPATH": ":".join(places[name] for name in ("code", "packages", "support")),
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "USER": "prefab",
            "LOGNAME": "prefab",
            "HOME": f"{places['workspace']}/.home",
            "TMPDIR": f"{places['workspace']}/.tmp",
            "GATEWAY_BASE_URL": base_url,
            # Libraries that start a thread for each core at import could not be forked, and would take more than
            # the manifest asked for.
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
        }
        if sysconfig.get_config_var("Py_ENABLE_SHARED") and sys.base_prefix != "/usr":
            environment["LD_LIBRARY_PATH"] = f"{places['python']}/lib"
        return {**environment, **deployment.settings}


def _binary() -> str:
    """Name of the interpreter's own file below its prefix, whatever links led to it."""
    return os.path.basename(os.path.realpath(sys.executable))


def candidates(sandbox: str) -> list[Isolation]:
    """The levels worth trying on this machine, best first, under a setting of required, auto or off."""
    if sandbox == "off" or sys.platform != "linux":
        return [Isolation.NONE]
    best = [Isolation.UIDS, Isolation.PIDS] if os.geteuid() == 0 else [Isolation.PIDS]
    return best if sandbox == "required" else [*best, Isolation.NONE]
