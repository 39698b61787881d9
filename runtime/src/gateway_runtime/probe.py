"""A package of the gateway's own: its function says how a worker is locked in, by trying and by asking the kernel."""

import os
import resource
import sys

from gateway_runtime import linux

NAMESPACES = ("user", "pid", "mnt", "ipc", "net")


def look() -> dict[str, object]:
    """What holds for the process that this runs in."""
    if sys.platform != "linux":
        return {}
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "uid": os.getuid(),
        "namespaces": namespaces(),
        "no_new_privileges": status.get("NoNewPrivs") == "1",
        "seccomp": status.get("Seccomp") == "2" and not _may_unshare(),
        "landlock": not _may_list("/"),
        "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0],
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "largest_file": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
    }


def namespaces() -> dict[str, str]:
    """Which namespaces this process is in."""
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES}


def _may_unshare() -> bool:
    try:
        linux.unshare(linux.CLONE_NEWUSER)
    except OSError:
        return False
    return True


def _may_list(folder: str) -> bool:
    try:
        os.listdir(folder)
    except PermissionError:
        return False
    return True
