"""The few Linux system calls that the process tree needs and the standard library does not offer.

Every function raises OSError with the name of the step that failed. Numbers of system calls stand here only where the
C library has no wrapper; those of Landlock are the same on every architecture.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x8000000, 0x10000000, 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_ADMIN = 5, 6, 7, 8, 21
_KEPT_MOUNT_FLAGS = {os.ST_NOSUID: MS_NOSUID, os.ST_NODEV: MS_NODEV, os.ST_NOEXEC: 8, os.ST_NOATIME: 1024}
_CHANGES = 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x01000000 | 0x02000000 | 0x80000000
"""Of inotify: IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF; of folders
that are no links (IN_ONLYDIR, IN_DONT_FOLLOW); the first change is enough (IN_ONESHOT)."""
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_SCOPES, _SCOPED_SINCE = 3, 6
"""Of Landlock: abstract sockets and signals; since which interface."""
_FS_READ = (1 << 0) | (1 << 2) | (1 << 3)  # execute, read file, read directory
_FS_FILE = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)  # the rights that apply to a single file
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many file rights each interface knows; 16 from the fifth on


def _check(result: int, step: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{step}: {os.strerror(number)}")
    return result


def _path(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    result = _libc.mount(_path(source), _path(target), _path(kind), ctypes.c_ulong(flags), _path(data))
    _check(result, f"mount {source or kind} on {target}")


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Shows `source` at `target`, which must exist; read-only mounts keep the flags that the source's mount locks."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        have = os.statvfs(target).f_flag
        kept = sum(flag for bit, flag in _KEPT_MOUNT_FLAGS.items() if have & bit)
        mount(None, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | kept)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare {flags:#x}")


def fork_in_new_pid_namespace() -> int:
    """Like os.fork, the child being process 1 of a pid namespace of its own. Later forks come back to the old one."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWPID)
        pid = os.fork()
        if pid:
            _check(_libc.setns(home, CLONE_NEWPID), "setns pid")
        return pid
    finally:
        os.close(home)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.pivot_root(_path(new), _path(old)), "pivot_root")


def unmount(target: str) -> None:
    """Detaches a mount from the tree, busy or not."""
    _check(_libc.umount2(_path(target), MNT_DETACH), f"umount {target}")


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def prctl_pointer(option: int, value: int, structure: ctypes.Structure) -> None:
    """prctl(2) with a number and a structure."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), ctypes.byref(structure), 0, 0), f"prctl {option}")


def look_up_files_as(uid: int) -> None:
    """Walks paths with the rights of `uid` from now on, while capabilities that have nothing to do with files stay."""
    _libc.setfsuid(ctypes.c_uint(uid))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("e0", "p0", "i0", "e1", "p1", "i1")]


def keep_capabilities(kept: Iterable[int]) -> None:
    """Drops every capability but `kept`, for this process and all that it will execute."""
    bits = sum(1 << capability for capability in kept)
    for capability in range(64):
        if not bits >> capability & 1 and _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break  # beyond the last capability that this kernel knows
    data = _CapabilityData(bits, bits, 0, 0, 0, 0)
    _check(_libc.capset(ctypes.byref(_CapabilityHeader(0x20080522, 0)), ctypes.byref(data)), "capset")


def listen(folders: Iterable[str]) -> int:
    """A descriptor (inotify(7)) that has something to read once one of the folders, which must be no links, was moved,
    removed or given other rights, or anything in it was made, removed or renamed."""
    descriptor = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
    try:
        for folder in folders:
            _check(_libc.inotify_add_watch(descriptor, _path(folder), ctypes.c_uint32(_CHANGES)), f"watch {folder}")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


def landlock_version() -> int:
    """The Landlock interface that this kernel speaks; 0 where there is none."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)))


class Landlock:
    """What processes are to be narrowed to: reading below some paths, and anything below others. As much as can be is
    found out here, once, and not in each of them.

    Signals and abstract sockets stay inside as well where the kernel can (interface 6).
    """

    def __init__(self, readable: Iterable[str], writable: Iterable[str]) -> None:
        version = landlock_version()
        everything = (1 << _FS_RIGHTS.get(version, 16)) - 1
        # Interfaces below 4 and 6 know shorter structures: tell the kernel only of the members that it has.
        self._rules = _Ruleset(everything, 0, _SCOPES if version >= _SCOPED_SINCE else 0)
        self._size = ctypes.c_size_t(8 if version < 4 else 16 if version < _SCOPED_SINCE else 24)
        self._allowed: list[tuple[str, int]] = []
        for paths, access in ((readable, _FS_READ), (writable, everything)):
            for path in filter(os.path.exists, paths):
                self._allowed.append((path, access if os.path.isdir(path) else access & _FS_FILE & everything))

    def restrict(self) -> None:
        """Narrows this process and its descendants. What the paths lead to is decided now."""
        ruleset = _libc.syscall(_LANDLOCK_CREATE, ctypes.byref(self._rules), self._size, 0)
        _check(ruleset, "landlock ruleset")
        for path, allowed in self._allowed:
            at = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _check(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", allowed, at), 0), path)
            os.close(at)
        _restrict(ruleset)


def landlock_scopes() -> None:
    """Keeps signals and abstract sockets of this process and its descendants among them, where the kernel can. Files
    are left alone, and mounts with them."""
    if landlock_version() >= _SCOPED_SINCE:
        rules = _Ruleset(0, 0, _SCOPES)
        size = ctypes.c_size_t(ctypes.sizeof(rules))
        _restrict(_check(_libc.syscall(_LANDLOCK_CREATE, ctypes.byref(rules), size, 0), "landlock ruleset"))


def _restrict(ruleset: int) -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _check(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock restrict")
    os.close(ruleset)
