"""A tree of processes: which belong to it, what they have used of the processors, what memory they hold."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def marked(variable: str, value: str) -> set[int]:
    """Processes that were started with a variable in their environment, whoever their parent is now."""
    wanted = f"{variable}={value}".encode()
    found = set()
    for pid in _all():
        with contextlib.suppress(OSError):
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found


def family(roots: Iterable[int]) -> set[int]:
    """The processes `roots` and everything below them."""
    children: dict[int, list[int]] = {}
    for pid in _all():
        if (fields := _stat(pid)) is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, ())
    return {pid for pid in found if (PROC / str(pid)).exists()}


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes, with that of their children that have ended."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid)) is not None) / TICKS


def pss_mb(pids: Iterable[int]) -> float:
    """Memory of processes; what several of them share counts once, in equal parts."""
    kilobytes = 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def end(pids: Iterable[int], seconds: float = 5.0) -> None:
    """Kills processes, and waits until they are gone or nobody has waited for them yet."""
    left = set(pids)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        left = {pid for pid in left if (fields := _stat(pid)) is not None and fields[0] != "Z"}
        if not left:
            return
        time.sleep(0.02)


def _all() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """What /proc/PID/stat says behind the name: state, parent, … user time (11), system (12), of children (13, 14)."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
