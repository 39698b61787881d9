"""Ending a worker together with everything that it started, however well that hid."""

import os
import signal
import sys

from gateway_runtime import linux


def adopt_orphans() -> None:
    """Makes processes whose parents have died become children of this one instead of process 1's."""
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(*, yes: bool = True) -> None:
    """Whether the kernel is to kill this process as soon as its parent dies. Its own children do not inherit that."""
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL if yes else 0)


def kill_uid(uid: int) -> None:
    """Kills every process that runs under `uid`, in one atomic step that not even a fork bomb outruns.

    The caller must be allowed to take that uid. Returns when the signal has been delivered.
    """
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os._exit(0)
    _wait(pid)


def kill_descendants(pid: int | None, *, spare: set[int]) -> None:
    """Kills what descends from `pid`, then `pid`, then orphans that came to this process, but for those to `spare`."""
    for _ in range(100):
        parents = _parents()
        doomed = _below(pid, parents) if pid is not None else set()
        doomed |= {child for child, parent in parents.items() if parent == os.getpid() and child not in spare}
        if not doomed:
            break
        for victim in doomed:
            _signal(victim)
            if parents.get(victim) == os.getpid():
                _wait(victim)
    if pid is not None:
        _signal(pid)


def fork_below_init(*sockets: int) -> None:
    """Called by process 1 of a new pid namespace: goes on in a child; the caller itself stays as its init.

    Process 1 ignores the signals that a function sends to itself, so no function should be process 1. When the child
    ends, init ends the same way, and the kernel kills whatever is left in the namespace.
    """
    child = os.fork()
    if child == 0:
        return
    for descriptor in sockets:
        os.close(descriptor)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _parents() -> dict[int, int]:
    """Parent of each live process, from /proc; empty where there is none."""
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return parents
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state != b"Z":
                parents[int(name)] = int(parent)
    return parents


def _below(pid: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    layer = {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer} - found
        found |= layer
    return found


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return
