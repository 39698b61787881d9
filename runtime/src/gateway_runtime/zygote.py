"""The zygote of one prefab version: imports the package once, then forks a worker whenever the engine asks.

It runs as process 1 of the version's own namespaces (see the engine's launcher), so that its end is the end of every
process below it. What "locked down" means for a worker depends on the isolation that the machine offers:

    uids   a uid of its own out of a mapped range; its family is everything that runs under that uid
    pids   one uid for all (no root on the outside); its family is everything in a pid namespace of its own
    none   no kernel protection; its family is whatever descends from it
"""

import array
import gc
import importlib
import json
import os
import resource
import select
import signal
import site
import socket
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType

from gateway_runtime import coroutines, family, functions, groups, linux, seccomp, worker, workspace
from gateway_runtime.protocol import CONTROL_LIMIT, PROTOCOL

CONTROL = 3
"""The descriptor on which a zygote finds its control socket."""
FIRST_UID = 100
"""Worker n runs under uid FIRST_UID + n of the zygote's user namespace."""

LONGEST_TOLD = 1 << 10
"""Characters of each text of an import that failed, where it has said too much; each has up to 12 bytes."""
ROOM = 64
"""Bytes of a packet around what it tells."""
MOST_HANDED = 36
"""Bytes of descriptors that may come with one order."""
MOST_PROCESSES = 512
"""Processes and threads of one worker's family."""
MOST_DESCRIPTORS = 4096
"""Open files of one process."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the engine wants of a zygote; its members travel as JSON."""

    entry_point: str
    paths: tuple[str, ...]
    """Folders for sys.path, first come first; those after the first may hold .pth files."""
    work: str
    """The folder that holds one folder for each worker, named by its number."""
    workspace: str
    """Where a call finds its workspace: the same path for every worker, and at import."""
    isolation: str
    """uids, pids or none."""
    preload: bool
    """Whether to import here, once, or in each worker (packages that start threads at import)."""
    landlock: bool
    seccomp: bool
    largest_file: int
    """Bytes; not at isolation none."""
    readable: tuple[str, ...]
    """What workers may read besides their workspace, where Landlock is on."""


def main() -> None:
    """Serves the control socket until the engine hangs up."""
    os.closerange(CONTROL + 1, 1 << 20)  # nothing but what this module opens may reach a function
    control = socket.socket(fileno=CONTROL)
    control.set_inheritable(False)
    told = json.loads(control.recv(CONTROL_LIMIT))["plan"]
    told["paths"], told["readable"] = tuple(told["paths"]), tuple(told["readable"])
    _Zygote(control, Plan(**told)).run()


class _Zygote:
    def __init__(self, control: socket.socket, plan: Plan) -> None:
        self._control = control
        self._plan = plan
        self._module: ModuleType | None = None
        self._landlock: linux.Landlock | None = None
        self._filter: seccomp.Program | None = None
        self._workers: dict[int, int] = {}  # pid -> number
        self._killed: set[int] = set()
        """Those of them that have been killed with everything that has their uid."""
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def run(self) -> None:
        self._prepare()
        try:
            if self._plan.preload:
                self._import()
        except BaseException as error:  # whatever a package does at import is told, never lost
            self._tell({"failed": _fitting(functions.describe(error))})
            os._exit(1)
        if self._plan.isolation == "none":
            family.end_with_parent(yes=False)  # the engine hangs up then, and the workers are to be ended first
        self._make_narrow()
        gc.collect()
        gc.freeze()
        self._tell({"ready": PROTOCOL, "threads": self._plan.preload and _count_threads() > 1})
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wake], [], [])
            if self._wake in readable:
                self._drain_wakeups()
            self._reap()
            if self._control.fileno() in readable:
                self._obey()

    def _prepare(self) -> None:
        if self._plan.isolation == "uids":
            kept = (linux.CAP_SETGID, linux.CAP_SETUID, linux.CAP_KILL, linux.CAP_SETPCAP, linux.CAP_SYS_ADMIN)
            linux.keep_capabilities(kept)
        elif self._plan.isolation == "pids":
            linux.keep_capabilities((linux.CAP_SETPCAP, linux.CAP_SYS_ADMIN))
        else:
            family.adopt_orphans()
        if self._plan.landlock:
            linux.landlock_scopes()  # the machine's abstract sockets belong to its network, which is ours, too
        if self._plan.seccomp:
            seccomp.confine_zygote()
        if self._plan.isolation != "none":
            _limit(resource.RLIMIT_FSIZE, self._plan.largest_file)
            _limit_resources(is_alone=False)
        site.setquit()
        if functions.mentions_async(os.path.join(self._plan.paths[0], self._plan.entry_point)):
            coroutines.load_asyncio()  # before the package's own names can stand for those of the standard library
        sys.path[:0] = self._plan.paths[:1]
        top, _, _ = self._plan.entry_point.partition("/")
        found = PathFinder.find_spec(top, self._plan.paths[:1])
        if found is not None and found.loader is None:
            importlib.import_module(top)  # else that of a library, which has an `__init__`, would be taken for it
        for path in self._plan.paths[1:]:
            site.addsitedir(path)

    def _make_narrow(self) -> None:
        """Makes what workers narrow themselves with: in each of them it took half of the time until they were there,
        most of it for pages that nothing else of them writes to."""
        plan = self._plan
        if plan.landlock:
            self._landlock = linux.Landlock(plan.readable, (plan.workspace, "/tmp", "/dev/shm", "/dev/null"))  # noqa: S108
        if plan.seccomp:
            self._filter = seccomp.for_workers()

    def _import(self) -> None:
        """Imports the package where every call will stand, so that a path made absolute now is right then."""
        os.makedirs(self._plan.workspace, exist_ok=True)
        os.chdir(self._plan.workspace)
        workspace.lay_out(".")
        self._module = functions.load(self._plan.entry_point)
        os.chdir("/")
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the package may have taken these, as event loops do
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        if self._plan.isolation == "none":
            importlib.import_module("shutil").rmtree(self._plan.workspace)  # nobody else needs it
            os.symlink("/proc/self/cwd", self._plan.workspace)

    def _tell(self, message: dict[str, object]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            self._end()

    def _obey(self) -> None:
        data, ancillary, _, _ = self._control.recvmsg(
            CONTROL_LIMIT, socket.CMSG_SPACE(MOST_HANDED), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            self._end()
        received = array.array("i")
        for _, _, payload in ancillary:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
        order = json.loads(data)
        if "fork" in order:
            self._fork(order["fork"], bool(order["listens"]), *received)
        elif "kill" in order:
            self._kill(order["kill"])
            self._tell({"killed": order["kill"]})

    def _fork(self, number: int, listens: bool, connection: int, orders: int, output: int, *entries: int) -> None:
        try:
            pid: int | None = linux.fork_in_new_pid_namespace() if self._plan.isolation == "pids" else os.fork()
        except OSError as error:
            pid = None
            self._tell({"refused": number, "message": str(error)})
        if pid == 0:
            self._become(number, connection, orders, output, entries, listens=listens)
        for descriptor in (connection, orders, output, *entries):
            os.close(descriptor)
        if pid is None:
            return
        self._workers[pid] = number
        self._tell({"forked": number, "pid": pid})

    def _become(
        self, number: int, connection: int, orders: int, output: int, entries: tuple[int, ...], *, listens: bool
    ) -> None:
        """The child: locks itself down, serves, and never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake)
            os.close(self._waker)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            for entry in entries:  # first of all: whatever the worker does from here on is charged to it
                groups.enter(entry)
                os.close(entry)
            if self._plan.isolation == "pids":
                family.fork_below_init(connection, orders)
            self._lock_down(number)
            _reseed()
            with socket.socket(fileno=connection) as talk, socket.socket(fileno=orders) as todo:
                load = lambda: self._module or functions.load(self._plan.entry_point)  # noqa: E731
                worker.serve(talk, todo, load, listens=listens)
            code = 0
        except ConnectionError:
            code = 0
        except BaseException as error:  # told on the job's log; the engine sees the exit code
            os.write(2, functions.describe(error)["traceback"].encode("utf-8", "replace"))
        finally:
            os._exit(code)

    def _lock_down(self, number: int) -> None:
        plan, own, uid = self._plan, f"{self._plan.work}/{number}", FIRST_UID + number
        os.setsid()
        if plan.isolation == "none":
            family.adopt_orphans()
            os.chdir(own)
        else:
            linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC)  # of its own, or users would meet in shared memory
            if plan.isolation == "uids":
                linux.look_up_files_as(uid)
            for source, target in ((own, plan.workspace), (f"{own}/{workspace.TEMPORARY}", "/tmp")):  # noqa: S108
                linux.bind(source, target, read_only=False)
            linux.bind(f"{own}/{workspace.TEMPORARY}", "/dev/shm", read_only=False)  # noqa: S108
            _limit_resources(is_alone=plan.isolation == "uids")  # the zygote is not: its uid is that of root inside
            if plan.isolation == "uids":
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            linux.keep_capabilities(())
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
            family.adopt_orphans()
            os.chdir(plan.workspace)
            if self._landlock is not None:
                self._landlock.restrict()
            if self._filter is not None:
                self._filter.install()
        os.environ["HOME"] = os.path.join(os.getcwd(), workspace.HOME)
        os.environ["TMPDIR"] = os.path.join(os.getcwd(), workspace.TEMPORARY)

    def _drain_wakeups(self) -> None:
        try:
            while os.read(self._wake, 512):
                pass
        except BlockingIOError:
            return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._workers.pop(pid, None)
            if number is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            if number in self._killed:  # in one step, of which nothing is left
                self._killed.discard(number)
            else:
                self._kill(number)  # what it left behind goes with it
            self._tell({"exited": number, "code": max(code, 0), "signal": max(-code, 0)})

    def _kill(self, number: int) -> None:
        pid = next((pid for pid, n in self._workers.items() if n == number), None)
        if self._plan.isolation == "none":
            family.kill_descendants(pid, spare=set(self._workers))
            return
        if pid is not None:
            os.kill(pid, signal.SIGKILL)  # it may not have taken its uid yet
        if self._plan.isolation == "uids":
            family.kill_uid(FIRST_UID + number)
            if pid is not None:
                self._killed.add(number)

    def _end(self) -> None:
        """The engine is gone. As process 1 our end is everybody's; elsewhere each family is ended by hand."""
        if self._plan.isolation == "none":
            for number in list(self._workers.values()):
                self._kill(number)
        os._exit(0)


def _fitting(told: dict[str, str]) -> dict[str, str]:
    """What an import has said, cut where it is too long for a packet."""
    if len(json.dumps(told)) + ROOM < CONTROL_LIMIT:
        return told
    return {name: text[:LONGEST_TOLD] for name, text in told.items()}


def _limit_resources(*, is_alone: bool) -> None:
    """What one worker's family may take of the machine's tables.

    Processes are counted by uid, so only a worker that has one for itself can be limited in them. A core file would
    hold the secrets of the call.
    """
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: MOST_DESCRIPTORS}
    if is_alone:
        limits[resource.RLIMIT_NPROC] = MOST_PROCESSES
    for name, limit in limits.items():
        _limit(name, limit)


def _limit(name: int, limit: int) -> None:
    _, hard = resource.getrlimit(name)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(name, (limit, limit))


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _reseed() -> None:
    """Siblings must not draw the same random numbers; `random` sees to that itself."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
