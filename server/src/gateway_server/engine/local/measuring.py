"""What a family of processes takes: memory that is its own, and disk, counting what is hidden from view.

Read from /proc and from the workspace while the family may do as it likes in there: no link is followed, every folder
is opened in the one above it, and what vanishes meanwhile counts nothing.
"""

import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway_runtime import workspace

DEEPEST = 100
"""Folders inside each other."""
BREATH, BREATHER = 500, 0.002
"""After how many entries of a folder a walk lets others on, and for how long, in seconds."""
_BLOCK = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooDeep(Exception):
    """Folders lie in each other deeper than anybody needs."""


@dataclass
class Disk:
    """What lies in a workspace."""

    size: int = 0
    """Bytes that are taken on the disk, which is less than the length of a file with holes."""
    entries: int = 0


def disk(root: Path, folder: str, most_entries: int = sys.maxsize) -> Disk:
    """Walks a folder below `root`, which is the gateway's own; stops once there are more than `most_entries`.

    Raises:
        TooDeep: folders are nested more than DEEPEST.
        OSError: the folder is gone, or cannot be read.
    """
    found, linked = Disk(), set[int]()
    with workspace.opened(root, folder) as top:
        for told in _walk(top, 0):
            found.entries += 1
            if found.entries > most_entries:
                break
            if told.st_nlink > 1 and not stat.S_ISDIR(told.st_mode):
                if told.st_ino in linked:
                    continue
                linked.add(told.st_ino)
            found.size += told.st_blocks * _BLOCK
            if found.entries % BREATH == 0:
                time.sleep(BREATHER)
    return found


def _walk(folder: int, depth: int) -> Iterator[os.stat_result]:
    if depth > DEEPEST:
        raise TooDeep
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                told = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield told
            if stat.S_ISDIR(told.st_mode):
                inner = _open(entry.name, folder)
                if inner is not None:
                    try:
                        yield from _walk(inner, depth + 1)
                    finally:
                        os.close(inner)


def _open(name: str, folder: int) -> int | None:
    """A folder's descriptor, even if its owner has closed it to everybody."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        with suppress(OSError):
            at = os.open(name, _FOLDER | os.O_PATH, dir_fd=folder)
            try:
                os.chmod(f"/proc/self/fd/{at}", 0o700)
                return os.open(".", _FOLDER, dir_fd=at)
            finally:
                os.close(at)
    except OSError:
        pass
    return None


def unlinked(pids: Iterable[int]) -> dict[tuple[int, int], int]:
    """Files without a name that processes hold open or mapped: device and inode, and the bytes that each takes."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        for path in _held(pid):
            with suppress(OSError):
                told = os.stat(path)
                if told.st_nlink == 0 and stat.S_ISREG(told.st_mode):
                    found[told.st_dev, told.st_ino] = told.st_blocks * _BLOCK
    return found


def _held(pid: int) -> Iterator[str]:
    """Where /proc shows the files that a process holds. What is mapped is shown to root alone."""
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            yield f"/proc/{pid}/fd/{name}"
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:
        for line in maps:
            if line.endswith(b" (deleted)\n"):
                yield f"/proc/{pid}/map_files/{line.split(None, 1)[0].decode()}"


def memory(pids: Iterable[int], files: int, limit: int) -> int:
    """Bytes of memory that are the processes' own, or their part of what they share with others.

    `files` is what they hold in files that lie in memory, mapped or not. What they have mapped from other files can be
    read again, and does not count. While all is below `limit` even with everything that they share counted each time,
    that is the answer, as it is cheaper to have.
    """
    pids = list(pids)
    resident = files + sum(map(_resident, pids))
    if resident <= limit:
        return resident
    parts = [_proportional(pid) for pid in pids]
    return sum(own for own, _ in parts) + max(files, sum(shared for _, shared in parts))


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> tuple[int, int]:
    """A process's part of memory that no file has, and of that which is a file's or mapped by several."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            told = {words[0]: int(words[1]) << 10 for words in map(bytes.split, file) if words[0].startswith(b"Pss")}
    except OSError:
        return 0, 0
    return told.get(b"Pss_Anon:", told.get(b"Pss:", 0)), told.get(b"Pss_Shmem:", 0)


def processor_time(pids: list[int]) -> float:
    """Seconds that processes have computed, those of their children among them that they have seen end."""
    ticks = 0
    for pid in pids:
        with suppress(OSError, ValueError), open(f"/proc/{pid}/stat", "rb") as file:
            ticks += sum(map(int, file.read().rpartition(b")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def is_any_of(uid: int) -> bool:
    """Whether any process runs under a uid."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                return True
    return False


def memory_devices() -> set[int]:
    """The devices of files that lie in memory."""
    found = set()
    descriptor = os.memfd_create("gateway")
    found.add(os.fstat(descriptor).st_dev)
    os.close(descriptor)
    with suppress(OSError):
        found.add(os.stat("/dev/shm").st_dev)  # noqa: S108
    return found


class Processes:
    """All processes of the machine at one moment, by their parents."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                self._children.setdefault(parent, []).append(int(name))

    def below(self, pid: int) -> list[int]:
        """A process and its descendants."""
        found = [pid]
        for one in found:
            found += self._children.get(one, ())
        return found

    def children(self, pid: int) -> dict[int, int]:
        """The children of a process: their pids as it sees them, and as we do."""
        depth = len(_namespaced(pid)) - 1
        found = {}
        for child in self._children.get(pid, ()):
            pids = _namespaced(child)
            if len(pids) > depth >= 0:
                found[pids[depth]] = child
        return found


def _namespaced(pid: int) -> list[int]:
    """A process's pids, from the outermost namespace to its own."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"NSpid:"):
                return [int(word) for word in line.split()[1:]]
    return []


def descends(pid: int, ancestor: int) -> bool:
    """Whether a process of this machine is another, or descends from it."""
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(status.rpartition(")")[2].split()[1])
    return False
