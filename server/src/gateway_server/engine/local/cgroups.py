"""Control groups, version 1 or 2: the memory, the share of the processors and the number of processes of one family.

    <where the gateway is>/prefabs.<pid>.<random>/    everything that packages run; weighs less than the gateway
        <name>/                                       one family: a zygote's, or a worker's

A gateway holds a lock on its folders; what nobody holds is from a gateway that was killed, and is removed by the next.
"""

import fcntl
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway_runtime import groups

CONTROLLERS = ("memory", "cpu", "pids")
OURS, GATEWAYS = "prefabs", "gateway"
SHARES_OF_ALL = 512
"""Of all packages together in version 1, where one thread of the gateway has 1024. Version 2 has a tenth of each."""
SHARES_EACH_CORE = 1024
PERIOD, SHORTEST_QUOTA = 20_000, 1000
"""Microseconds in which a ration of processor time has to last, and the least that the kernel takes for one."""
MOST_PROCESSES = 512
"""Processes and threads of one family."""


class Unavailable(Exception):
    """This machine lets the gateway make no control groups; the message says why."""


@dataclass(frozen=True)
class Mount:
    """A hierarchy of groups: the folder where the gateway itself is, and what can be bounded there."""

    folder: Path
    version: int
    controllers: tuple[str, ...]


class Group:
    """One family's group: a folder in each hierarchy."""

    def __init__(self, folders: list[Path], memory: Path, *, version: int = 2) -> None:
        self._folders = folders
        self._memory = memory
        self._entry = groups.THREADS if version == 1 else groups.MEMBERS

    @property
    def entries(self) -> list[str]:
        """The files through which a process comes in that has no threads yet."""
        return [str(folder / self._entry) for folder in self._folders]

    def open(self) -> list[int]:
        """Descriptors of the entries, to be closed by the caller."""
        found: list[int] = []
        try:
            for entry in self.entries:
                found.append(os.open(entry, os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for descriptor in found:
                os.close(descriptor)
            raise
        return found

    def processes(self) -> list[int]:
        """Who is in there; empty once the group is gone."""
        try:
            return [int(line) for line in (self._memory / groups.MEMBERS).read_text().split()]
        except OSError:
            return []

    def allow(self, memory: int) -> None:
        """Lets the group have more memory, in bytes.

        Raises:
            OSError: the kernel refused.
        """
        # Where swapping is counted, too, that limit is never the lower one.
        for name in ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "memory.max"):
            if (self._memory / name).exists():
                (self._memory / name).write_text(str(memory))

    def ration(self, cores: float | None) -> None:
        """Lets the group have so much processor time and no more, or as much as its weight gives it. A kernel that
        cannot, or a group that has gone, is passed over."""
        quota = None if cores is None else max(SHORTEST_QUOTA, int(cores * PERIOD))
        for folder in self._folders:
            with suppress(OSError):
                if (folder / "cpu.max").exists():
                    (folder / "cpu.max").write_text(f"{'max' if quota is None else quota} {PERIOD}")
                elif (folder / "cpu.cfs_quota_us").exists():
                    (folder / "cpu.cfs_period_us").write_text(str(PERIOD))
                    (folder / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed somebody in here because the memory was used up."""
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError):
                told = dict(line.split() for line in (self._memory / name).read_text().splitlines())
                return int(told.get("oom_kill", 0)) > 0
        return False

    def remove(self) -> bool:
        """Removes the group; waits a second at most for killed processes to leave it. False if some have not."""
        return all([groups.remove(folder) for folder in self._folders])


class Cgroups:
    """The groups of one gateway. Blocking: making and removing groups takes a lock of the whole machine.

    Raises:
        Unavailable: there are none, or they are not the gateway's to make.
    """

    def __init__(self, system: Path = Path("/")) -> None:
        self._locks: list[int] = []
        self._mounts = _mounts(system)
        self.version = self._mounts[0].version
        self._name = name = f"{os.getpid()}.{secrets.token_hex(4)}"
        try:
            for mount in self._mounts:
                _remove_stale(mount.folder)
            if self.version == 2:
                self._make_room(self._mounts[0].folder, name)
            for mount in self._mounts:
                self._make(mount.folder / f"{OURS}.{name}")
                _write(mount, f"{OURS}.{name}", {"cpu": SHARES_OF_ALL})
                if mount.version == 2:
                    _delegate(mount.folder / f"{OURS}.{name}")
        except OSError as error:
            self.close()
            raise Unavailable(f"{error.filename}: {error.strerror}") from error

    @property
    def controllers(self) -> set[str]:
        """What can be bounded: memory, and perhaps cpu and pids."""
        return {name for mount in self._mounts for name in mount.controllers}

    @property
    def folders(self) -> list[str]:
        """The folder of this gateway in each hierarchy."""
        return [str(mount.folder / f"{OURS}.{self._name}") for mount in self._mounts]

    def add(self, name: str, *, memory: int, cpu: float) -> Group:
        """A new group; `memory` in bytes, `cpu` in cores, which is a weight.

        Raises:
            OSError: the kernel refused.
        """
        bounds = {"memory": memory, "cpu": max(2, int(cpu * SHARES_EACH_CORE)), "pids": MOST_PROCESSES}
        group = self._group(name)
        try:
            for mount in self._mounts:
                _make_anew(mount.folder / f"{OURS}.{self._name}" / name)
                _write(mount, f"{OURS}.{self._name}/{name}", bounds)
        except OSError:
            group.remove()
            raise
        return group

    def remove_all(self, prefix: str) -> None:
        """Removes the groups whose names begin with `prefix`."""
        for folder in self.folders:
            with suppress(OSError):
                for name in os.listdir(folder):
                    if name.startswith(prefix):
                        groups.remove(os.path.join(folder, name))

    def close(self) -> None:
        """Removes every group."""
        for folder in self.folders:
            groups.remove(folder)
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()

    def _group(self, name: str) -> Group:
        memory = next(mount for mount in self._mounts if "memory" in mount.controllers)
        inner = f"{OURS}.{self._name}/{name}"
        return Group([mount.folder / inner for mount in self._mounts], memory.folder / inner, version=self.version)

    def _make(self, folder: Path) -> None:
        os.mkdir(folder)
        self._locks.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        fcntl.flock(self._locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _make_room(self, folder: Path, name: str) -> None:
        """In version 2 a group either has processes or hands controllers down: the gateway moves below itself.

        The root of the machine may do both. In a container of its own it takes the others along; elsewhere they are
        not the gateway's to move, and the kernel will refuse if there are any.
        """
        if (folder / "cgroup.type").exists():
            self._make(folder / f"{GATEWAYS}.{name}")
            inside = (folder / groups.MEMBERS).read_text().split()
            for pid in inside if "1" in inside else [str(os.getpid())]:
                (folder / f"{GATEWAYS}.{name}" / groups.MEMBERS).write_text(pid)
        _delegate(folder)


def _mounts(system: Path) -> list[Mount]:
    """Version 2 if it has what is needed, else the hierarchies of version 1 that do."""
    try:
        mounts = [line.split() for line in (system / "proc/self/mountinfo").read_text().splitlines()]
        paths = [line.split(":", 2) for line in (system / "proc/self/cgroup").read_text().splitlines()]
    except OSError as error:
        raise Unavailable("the kernel has none") from error
    found: dict[str, Mount] = {}
    for words in mounts:
        root, point, kind, options = words[3], words[4], words[words.index("-") + 1], words[-1].split(",")
        for _, names, path in paths if kind in ("cgroup", "cgroup2") else []:
            held = names.split(",") if names else []
            if (kind == "cgroup2") == (not names) and set(held) <= set(options):
                inner = path[len(root) :] if root != "/" and path.startswith(root) else path
                folder = system / point.lstrip("/") / inner.lstrip("/")
                folder = folder if folder.is_dir() else system / point.lstrip("/")
                offered = held if names else _read(folder / "cgroup.controllers").split()
                controllers = tuple(name for name in CONTROLLERS if name in offered)
                found[",".join(controllers)] = Mount(folder, 2 if kind == "cgroup2" else 1, controllers)
    whole = next((mount for mount in found.values() if mount.version == 2 and "memory" in mount.controllers), None)
    useful = [whole] if whole else [mount for mount in found.values() if mount.controllers]
    if not any("memory" in mount.controllers for mount in useful):
        raise Unavailable("the memory controller is not handed to the group that the gateway is in")
    return useful


def _make_anew(folder: Path) -> None:
    """Makes a group; one of the same name was made for somebody who had gone when it was ready."""
    try:
        os.mkdir(folder)
    except FileExistsError:
        groups.remove(folder, patience=0)
        os.mkdir(folder)


def _write(mount: Mount, name: str, bounds: dict[str, int]) -> None:
    """Sets the bounds that a hierarchy knows."""
    folder = mount.folder / name
    for controller in mount.controllers:
        if controller not in bounds:
            continue
        value = bounds[controller]
        if controller == "pids":
            _put(folder / "pids.max", value)
        elif controller == "cpu" and mount.version == 1:
            _put(folder / "cpu.shares", value)
        elif controller == "cpu":
            _put(folder / "cpu.weight", min(10000, max(1, value // 10)))
        elif mount.version == 1:
            _put(folder / "memory.limit_in_bytes", value)
            with suppress(OSError):  # only where swapping is counted
                _put(folder / "memory.memsw.limit_in_bytes", value)
        else:
            _put(folder / "memory.max", value)
            for file, bound in (("memory.swap.max", 0), ("memory.oom.group", 1)):
                with suppress(OSError):
                    _put(folder / file, bound)


def _put(file: Path, bound: int) -> None:
    """Writes a bound. A file object would ask the kernel for five more things, each time: this is done for each worker,
    and all others in this process wait meanwhile."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, str(bound).encode())
    finally:
        os.close(descriptor)


def _delegate(folder: Path) -> None:
    offered = _read(folder / "cgroup.controllers").split()
    wanted = [f"+{name}" for name in CONTROLLERS if name in offered]
    (folder / "cgroup.subtree_control").write_text(" ".join(wanted))


def _remove_stale(folder: Path) -> None:
    """Removes what gateways left behind that are gone: nobody holds the lock."""
    for name in os.listdir(folder):
        if not name.startswith((f"{OURS}.", f"{GATEWAYS}.")):
            continue
        with suppress(OSError):
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                groups.remove(folder / name, patience=0)
            finally:
                os.close(descriptor)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
