"""A package that attacks: its gateway, other users, other packages, this machine.

Each function is one attack. It gives what it got hold of, as text, and raises what it was refused with. Where an attack
succeeds it does no lasting harm: what it writes it removes, what it stops it starts again, nothing is without bound.
The same package serves as the victim, for another user: `holds` and `answers`.
"""

import ctypes
import json
import mmap
import os
import platform
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)
_X86 = platform.machine() == "x86_64"
_PTRACE, _KEYCTL, _SYSLOG = (101, 250, 103) if _X86 else (117, 219, 116)
_PIDFD_OPEN, _PIDFD_GETFD, _READ_MEMORY = 434, 438, 310 if _X86 else 270
_NEWNS, _NEWUSER, _CLONE_PARENT = 0x20000, 0x10000000, 0x8000
_PIECE = b"x" * (1 << 20)
_kept: list = []


# What the victim does.


def holds(text: str, seconds: float):
    """Has a secret in its memory, its environment, a file, and the environment of a child."""
    _kept.append(os.environ["HELD_SECRET"].encode() + text.encode())
    with open("data/held.txt", "wb") as file:
        file.write(_kept[-1])
    os.chmod("data/held.txt", 0o644)
    child = subprocess.Popen(["sleep", str(seconds)])
    with suppress(OSError):
        _beacon = socket.socket(socket.AF_UNIX)
        _beacon.bind(b"\0held-by-another")
        _beacon.listen()
        _kept.append(_beacon)
    child.wait()
    return "held"


def answers():
    return "honest"


# Helpers.


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(number: int, *arguments: object) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *words), f"system call {number}")


def _in_child(work) -> str:
    """What `work` gives, done by a child, so that nothing of it stays."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = "1" + str(work())
        except BaseException as error:
            told = "0" + repr(error)
        os.write(write, told.encode()[:60000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = file.read()
    os.waitpid(child, 0)
    if told[:1] != "1":
        raise PermissionError(told[1:])
    return told[1:]


def _processes() -> list:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _strangers(pids: list) -> list:
    """Other people's processes: those that were named, and the first hundred that are to be seen."""
    own = {os.getpid(), *_family(os.getpid())}
    return [*pids, *(pid for pid in _processes()[:100] if pid not in pids and pid not in own)]


def _family(pid: int) -> list:
    parents = {}
    for one in _processes():
        with suppress(OSError), open(f"/proc/{one}/stat") as file:
            parents[one] = int(file.read().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _first(attempts) -> str:
    """What the first attempt that succeeds gives; else the last refusal."""
    last: Exception = FileNotFoundError("nothing to try")
    for attempt in attempts:
        try:
            return attempt()
        except (OSError, ValueError) as error:
            last = error
    raise last


# Reading.


def reads(path: str):
    """A file of the gateway's, by its own path and by way of other processes."""

    def read(name: str) -> str:
        with open(name, "rb") as file:
            return file.read(1 << 20).decode("latin-1")

    ways = [path, *(f"/proc/{pid}/root{path}" for pid in (1, os.getppid()))]
    return _first([lambda way=way: read(way) for way in ways])


def lists(path: str):
    return " ".join(os.listdir(path))


def reads_environments(pids: list):
    """Environments that processes were started with."""
    found = []
    for pid in _strangers(pids):
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            found.append(file.read().decode("latin-1"))
    return "".join(found)[:500_000]


def reads_memory(pids: list, pattern: str):
    """What matches a pattern in the memory of other processes, read as a debugger does."""
    found = set()
    for pid in _strangers(pids)[:40]:
        with suppress(OSError), open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                place, rights = line.split()[:2]
                begin, end = (int(word, 16) for word in place.split("-"))
                if "w" not in rights or end - begin > 64 << 20:
                    continue
                with suppress(OSError, ValueError, OverflowError):
                    memory.seek(begin)
                    found |= set(re.findall(pattern.encode(), memory.read(end - begin)))
    return b" ".join(found).decode("latin-1")


def reads_memory_by_call(pids: list):
    """The same by the system call that is made for it: a few bytes from where the program's name stands."""

    class Piece(ctypes.Structure):
        _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]

    def read(pid: int) -> str:
        with open(f"/proc/{pid}/maps") as maps:
            begin = int(next(line for line in maps if "[stack]" in line).split("-")[1].split()[0], 16) - 64
        into = ctypes.create_string_buffer(64)
        here, there = Piece(ctypes.addressof(into), 64), Piece(begin, 64)
        _call(_READ_MEMORY, pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        return "read " + into.raw.hex()

    return _first([lambda pid=pid: read(pid) for pid in _strangers(pids)])


def traces(pids: list):
    """Stops another process as a debugger does, and lets it go."""

    def trace(pid: int) -> str:
        _call(_PTRACE, 16, pid, 0, 0)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0x40000000)
        _call(_PTRACE, 17, pid, 0, 0)
        return f"traced {pid}"

    return _in_child(lambda: _first([lambda pid=pid: trace(pid) for pid in _strangers(pids)]))


def takes_descriptors(pids: list):
    """Open files of other processes."""

    def take(pid: int) -> str:
        handle = _call(_PIDFD_OPEN, pid, 0)
        taken = [_call(_PIDFD_GETFD, handle, number, 0) for number in range(3)]
        return " ".join(os.readlink(f"/proc/self/fd/{one}") for one in taken)

    return "took " + _first([lambda pid=pid: take(pid) for pid in _strangers(pids)])


def opens_descriptors(pids: list, name: str):
    """Files that other processes have open, by way of /proc."""
    for pid in _strangers(pids):
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{number}").endswith(name):
                    with open(f"/proc/{pid}/fd/{number}", "rb") as file:
                        return "opened " + file.read(15).decode()
    raise FileNotFoundError(name)


def reads_workspaces(places: list):
    """Files of other calls, wherever they may lie."""
    ways = [f"/proc/{pid}/{way}" for pid in _strangers([])[:30] for way in ("cwd", "root/workspace")]
    numbers = [f"/work/{number}" for number in range(1, 30)]
    for place in [*places, *numbers, "/work", "/workspace", "/workspace/..", *ways]:
        for at, folders, names in os.walk(place):
            if os.path.realpath(at).startswith(os.getcwd()) or at.count("/") - place.count("/") > 4:
                folders.clear()
                continue
            with suppress(OSError):
                if "held.txt" in names:
                    with open(os.path.join(at, "held.txt")) as file:
                        return file.read()
    raise FileNotFoundError("held.txt")


def reads_disk():
    """The disk itself, by a device of one's own making."""
    os.mknod("disk", 0o600 | stat.S_IFBLK, os.stat("/usr").st_dev)
    try:
        with open("disk", "rb") as file:
            return f"read {len(file.read(4096))} bytes"
    finally:
        os.unlink("disk")


def reads_kernel():
    """The kernel's log."""
    into = ctypes.create_string_buffer(4096)
    return f"read {_call(_SYSLOG, 3, into, 4096)} bytes"


def reads_keys():
    """The kernel's keyring of the user."""
    return f"keyring {_call(_KEYCTL, 0, -4, 1)}"


# Writing.


def writes_into(folder: str):
    """A file of its own into a folder; it is removed again."""
    path = os.path.join(folder, f"hostile-{os.getpid()}.pth")
    try:
        with open(path, "x") as file:
            file.write("was here")
        return "wrote " + path
    finally:
        with suppress(OSError):
            os.unlink(path)


def rewrites(path: str):
    """Another version's code: from now on its function gives another answer."""
    with suppress(OSError):
        os.chmod(path, 0o644)
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace('"honest"', '"taken over"'))
    return "rewrote"


def writes_itself():
    """Its own code and the interpreter's, wherever these are seen."""
    import gateway_runtime

    folders = [os.path.dirname(__file__), os.path.dirname(gateway_runtime.__file__), os.path.dirname(os.__file__)]
    found = []
    for folder in [*folders, *(path for path in sys.path if os.path.isdir(path))]:
        with suppress(OSError):
            found.append(writes_into(folder))
    if not found:
        raise PermissionError("nowhere")
    return " ".join(found)


def sets_kernel():
    """Writes a setting of the kernel as it stands."""
    with open("/proc/sys/kernel/core_pattern", "r+") as file:
        text = file.read()
        file.seek(0)
        file.write(text)
    return "wrote " + text


def mounts():
    """A file system over another, in a user namespace where it would be root."""

    def mount() -> str:
        if os.geteuid() != 0:
            _check(_libc.unshare(_NEWUSER), "unshare")
        _check(_libc.unshare(_NEWNS), "unshare")
        _check(_libc.mount(None, b"/", None, ctypes.c_ulong(0x44000), None), "mount")
        _check(_libc.mount(b"none", b"/usr", b"tmpfs", 0, None), "mount")
        return f"mounted; /usr has {len(os.listdir('/usr'))} entries"

    return _in_child(mount)


def makes_namespaces():
    def make() -> str:
        _check(_libc.unshare(_NEWUSER), "unshare")
        return "in " + os.readlink("/proc/self/ns/user")

    return _in_child(make)


# Rights.


def becomes_root():
    """The rights that no function is to have: to override files' owners, and to be anybody."""

    def become() -> str:
        os.setresuid(0, 0, 0)
        with open("/proc/self/status") as file:
            rights = next(line for line in file if line.startswith("CapEff")).split()[1]
        if not int(rights, 16):
            raise PermissionError("no capabilities")
        return "root " + rights

    return _in_child(become)


def becomes_another(uids: list):
    """The user id of somebody else's worker, or of its own parent."""

    def become(uid: int) -> str:
        return _in_child(lambda: (os.setresuid(uid, uid, uid), f"became {uid}")[1])

    return _first([lambda uid=uid: become(uid) for uid in uids if uid != os.getuid()])


def takes_precedence():
    """A priority before everybody else's."""

    def take() -> str:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        return "before all others"

    return _in_child(take)


def signals(pids: list):
    """Stops other processes for a moment: those that were named, or whatever there is."""

    def stop(pid: int) -> str:
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        return f"stopped {pid}"

    own = set(_family(os.getpid()))
    return _first([lambda pid=pid: stop(pid) for pid in (*pids, 1, *range(2, 300)) if pid not in own])


# Network.


def connects(host: str, port: int):
    with socket.create_connection((host, port), 2) as connection:
        connection.sendall(b"hello")
        return "heard " + connection.recv(100).decode()


def sends(host: str):
    """A datagram; that nobody answers says nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as talk:
        talk.sendto(b"hello", (host, 80))
    return "sent"


def connects_to_name(name: str):
    """A socket of the machine's that has no file but a name."""
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(2)
        talk.connect(b"\0" + name.encode())
    return "connected"


def listens(host: str, port: int, seconds: float):
    """Answers in the gateway's place whoever comes to another address of this machine, as `localhost` has two."""
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.settimeout(seconds)
        visitor, _ = server.accept()
        with visitor:
            return "was told " + visitor.recv(1000).decode()


def sniffs():
    """Everybody's packets."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
        return f"tapped {tap.getsockname()}"


# Its own token.


def uses_token(routes: list):
    """Every route with the token of this call: the statuses by route."""
    base, found = os.environ["GATEWAY_BASE_URL"], {}
    for method, path, body in routes:
        for header, value in (
            ("X-Internal-Token", os.environ["X_INTERNAL_TOKEN"]),
            ("Authorization", "Bearer " + os.environ["X_INTERNAL_TOKEN"]),
        ):
            data = json.dumps(body).encode() if body is not None else None
            headers = {header: value, "Content-Type": "application/json"}
            request = urllib.request.Request(base + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
            found[f"{method} {path} {header}"] = status
    return found


# Taking more than its share.


def fills_memory(megabytes: int):
    block = bytearray(megabytes << 20)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(1)
    return f"has {len(block) >> 20} MB"


def fills_shared_memory(megabytes: int):
    """Memory of no process: files that lie in memory."""
    file = os.memfd_create("hostile")
    for _ in range(megabytes):
        os.write(file, _PIECE)
    time.sleep(1)
    return f"has {os.fstat(file).st_size >> 20} MB"


def fills_disk(place: str, megabytes: int):
    """Written and unlinked, so that no folder shows it."""
    path = os.path.join(place, f"hostile-{os.getpid()}")
    with open(path, "wb") as file:
        os.unlink(path)
        for _ in range(megabytes):
            file.write(_PIECE)
        file.flush()
        time.sleep(1)
        return f"has {os.fstat(file.fileno()).st_blocks >> 11} MB"


def fills_descriptors(count: int):
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    _kept.extend(os.dup(0) for _ in range(count))
    return f"has {count}"


def fills_process_table(count: int):
    read, write = os.pipe()
    children = []
    try:
        while len(children) < count:
            child = os.fork()
            if child == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(child)
    finally:
        os.close(write)
        for child in children:
            os.waitpid(child, 0)
    return f"had {len(children)}"


# Living on.


def lives_on(way: str, mark: str, seconds: float):
    """Stops those who are to end it, and goes on past its time; `seconds` at most. All that lives bears the mark."""
    keepers = _stop_keepers(seconds)
    end = time.monotonic() + seconds
    _call_name(mark)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    {"hang": _wait, "daemon": _daemon, "threads": _threads, "forks": _forks, "stops": _stops, "clone": _clone}[way](end)
    _wait(end)
    return f"lived on; {keepers} keepers"


def _stop_keepers(seconds: float) -> int:
    """Its parents up to the gateway are stopped; a child starts them again."""
    keepers, pid = [], os.getppid()
    while pid > 1:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            told = file.read()
        if b"launcher.py" not in told and b"gateway_runtime" not in told:
            break
        keepers.append(pid)
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    stopped = []
    for keeper in keepers or [1]:
        with suppress(OSError):
            os.kill(keeper, signal.SIGSTOP)
            stopped.append(keeper)
    if stopped and os.fork() == 0:
        time.sleep(seconds)
        for keeper in reversed(stopped):  # one that goes on ends this process, too, and those before it would never do
            os.kill(keeper, signal.SIGCONT)
        os._exit(0)
    return len(stopped)


def _call_name(mark: str) -> None:
    _libc.prctl(15, mark.encode(), 0, 0, 0)


def _wait(end: float) -> None:
    while time.monotonic() < end:
        time.sleep(0.02)


def _daemon(end: float) -> None:
    """Away from its parents, in a session of its own."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _libc.prctl(36, 0, 0, 0, 0)
            os.setpgid(0, 0)
            _wait(end)
        os._exit(0)


def _threads(end: float) -> None:
    for _ in range(20):
        threading.Thread(target=_wait, args=(end,)).start()


def _forks(end: float) -> None:
    """A moving target: each process makes the next and leaves; a few at a time."""
    for _ in range(8):
        if os.fork() == 0:
            while time.monotonic() < end:
                if os.fork():
                    os._exit(0)
                time.sleep(0.001)
            os._exit(0)


def _stops(end: float) -> None:
    """Processes that stand still, their own keeper among them."""
    if os.fork() == 0:
        os.setsid()
        _wait(end)
        os._exit(0)
    if os.fork() == 0:
        time.sleep(max(0.0, end - time.monotonic()))
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSTOP)


def _clone(end: float) -> None:
    """A brother instead of a child."""
    flags = _CLONE_PARENT | signal.SIGCHLD
    if _libc.syscall(ctypes.c_long(56 if _X86 else 220), ctypes.c_long(flags), None, None, None, None) == 0:
        _wait(end)
        os._exit(0)


# Leaving things for the next call.


_PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/workspace", "/work", "/", "/dev", "/proc/self/cwd", "/home")


def leaves(name: str):
    """Files wherever they can be put, an environment, and things of the kernel's that have no file."""
    left = []
    for place in (
        *_PLACES,
        os.environ["HOME"],
        os.getcwd(),
        "data/inputs",
        "data/outputs",
        ".tmp",
        os.path.dirname(__file__),
    ):
        with suppress(OSError):
            with open(os.path.join(place, name), "w") as file:
                file.write("left")
            left.append(place)
    os.environ["LEFT_BEHIND"] = name
    os.umask(0o777)
    key = _key(name)
    if _libc.shmget(key, ctypes.c_size_t(4096), 0o1666) >= 0:
        left.append("shared memory")
    if _libc.semget(key, 1, 0o1666) >= 0:
        left.append("semaphore")
    if _libc.msgget(key, 0o1666) >= 0:
        left.append("message queue")
    rights = 0o666
    if (
        ctypes.CDLL("librt.so.1", use_errno=True).mq_open(f"/{name}".encode(), os.O_CREAT | os.O_RDWR, rights, None)
        >= 0
    ):
        left.append("posix queue")
    return " ".join(left)


def finds(name: str):
    """Whatever an earlier call has left."""
    found = []
    for place in (*_PLACES, os.environ["HOME"], os.getcwd(), "data/inputs", "data/outputs", ".tmp"):
        with suppress(OSError):
            os.stat(os.path.join(place, name))
            found.append(place)
    if "LEFT_BEHIND" in os.environ:
        found.append("environment")
    if os.umask(0o22) == 0o777:
        found.append("umask")
    key = _key(name)
    if _libc.shmget(key, ctypes.c_size_t(4096), 0) >= 0:
        found.append("shared memory")
    if _libc.semget(key, 1, 0) >= 0:
        found.append("semaphore")
    if _libc.msgget(key, 0) >= 0:
        found.append("message queue")
    if ctypes.CDLL("librt.so.1", use_errno=True).mq_open(f"/{name}".encode(), os.O_RDWR) >= 0:
        found.append("posix queue")
    if not found:
        raise FileNotFoundError("nothing")
    return " ".join(found)


def clears(name: str):
    """Removes what was left outside of the workspace."""
    for place in (*_PLACES, os.path.dirname(__file__)):
        with suppress(OSError):
            os.unlink(os.path.join(place, name))
    key = _key(name)
    _libc.shmctl(_libc.shmget(key, ctypes.c_size_t(4096), 0), 0, None)
    _libc.semctl(_libc.semget(key, 1, 0), 0, 0, None)
    _libc.msgctl(_libc.msgget(key, 0), 0, None)
    ctypes.CDLL("librt.so.1").mq_unlink(f"/{name}".encode())
    return "cleared"


def _key(name: str) -> int:
    return 0x40000000 + sum(name.encode()) * 7919


# The way back to the gateway.


def links_output(path: str):
    """Another's file among its outputs."""
    os.link(path, "data/outputs/taken.txt")
    return "linked"


def symlinks_output(path: str):
    os.symlink(path, "data/outputs/taken.txt")
    os.symlink(os.path.dirname(path), "data/outputs/folder")
    return "linked"


def odd_outputs(count: int):
    """What is no file, names that mean something, and many that look alike once they are made safe."""
    os.chdir("data/outputs")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    for name in ("..\\up", "line\nbreak", "a" * 255, "con", "‮gpj", "\udcff", "  "):
        with open(name, "w") as file:
            file.write(name.encode("utf-8", "replace").decode())
    for number in range(count):
        with open("".join("\x01\x02"[number >> bit & 1] for bit in range(14)), "w"):
            pass
    return "made"


def forges(payload: str, kind: int):
    """Speaks to the gateway in the worker's place: a frame of its own making, then the end."""
    data = payload.encode()
    for number in range(3, 20):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                for one, text in ((kind, data), (9, bytes(5))):
                    os.write(number, len(text).to_bytes(4, "big") + bytes([one]) + (1).to_bytes(4, "big") + text)
    time.sleep(30)
    return "forged"


def stays_busy(seconds: float):
    """Ends its call in the gateway's eyes, and goes on computing."""
    import gateway_runtime.worker as worker

    worker._State.has_changed = lambda self: False
    end = time.monotonic() + seconds

    def spin() -> None:
        while time.monotonic() < end:
            pass

    threading.Thread(target=spin, daemon=True).start()
    return "answered"


# For the neighbours' sake: these go on for a while.


def forks_for(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            if os.fork() == 0:
                with suppress(OSError):
                    os.fork()
                time.sleep(0.01)
                os._exit(0)
        with suppress(OSError):
            os.waitpid(-1, os.WNOHANG)
    return "forked"


def spins_for(seconds: float, processes: int):
    end = time.monotonic() + seconds
    for _ in range(processes - 1):
        if os.fork() == 0:
            break
    while time.monotonic() < end:
        pass
    return "spun"


def hogs_for(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _kept.append(mmap.mmap(-1, 8 << 20))
        _kept[-1].write(b"x" * (8 << 20))
    return "hogged"


def writes_for(seconds: float, megabytes: int):
    """Again and again, and every piece brought to the disk."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with open("data/large", "wb") as file:
            for _ in range(megabytes):
                file.write(_PIECE)
                if time.monotonic() > end:
                    break
            os.fsync(file.fileno())
    return "wrote"


def prints_for(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.write(1, _PIECE)
    return "printed"


def tells_for(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield {"type": "content", "data": "x"}


def returns_much(megabytes: int):
    return "x" * (megabytes << 20)
