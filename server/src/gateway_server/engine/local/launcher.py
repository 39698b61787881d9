"""The launcher: a small process that stays privileged, starts zygotes in namespaces of their own and buries them.

The gateway itself must not do this: it has threads, and a fork of it would carry its secrets. The gateway runs this
file with ``python -I -S launcher.py SUPPORT [GROUP]...``, where SUPPORT is the folder that holds ``gateway_runtime``
and each GROUP one of control groups to remove at the end, and talks to it in packets over descriptor 3, one JSON object
each:

    gateway -> launcher   {"start": id, "isolation", "interpreter", "arguments", "environment", "root", "mounts",
                           "uids", "groups", "network", "door"}
                          + [control socket of the zygote, its output, the socket over which the door comes if any]
                          {"kill": id}
    launcher -> gateway   {"started": id, "pid"} | {"failed": id, "message"}      {"ended": id, "code", "signal"}

When the gateway dies its end of the socket closes; the launcher then kills every zygote and leaves. When the launcher
dies, the kernel kills every zygote: one that is importing does not look at its socket.
"""

import array
import json
import os
import select
import signal
import socket
import sys

sys.path.insert(0, sys.argv[1])
from gateway_runtime import door, groups, linux
from gateway_runtime.family import adopt_orphans, end_with_parent, kill_descendants

CONTROL = 3
PACKET = 1 << 18
_DEVICES = ("null", "zero", "full", "random", "urandom")
_ETC = ("ssl", "ca-certificates", "resolv.conf", "hosts", "nsswitch.conf", "localtime", "ld.so.cache", "alternatives",
        "mime.types", "services", "protocols", "fonts", "magic")  # fmt: skip


def main() -> None:
    """Serves the gateway until it hangs up."""
    os.closerange(CONTROL + 1, 1 << 20)  # what the gateway let slip must not reach those who are started here
    os.setsid()  # a Ctrl-C at the terminal is for the gateway; ours is the end of the socket
    adopt_orphans()
    Launcher(socket.socket(fileno=CONTROL)).run()
    for folder in sys.argv[2:]:
        groups.remove(folder)


class Launcher:
    """Knows every zygote by the id that the gateway gave it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        control.set_inheritable(False)
        self._zygotes: dict[int, int] = {}  # pid -> id
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self) -> None:
        """One order or burial after the other."""
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wake], [], [])
            if self._wake in readable:
                self._drain()
            self._bury()
            if self._control.fileno() in readable and not self._obey():
                break
        for pid in self._zygotes:
            os.kill(pid, signal.SIGKILL)
        kill_descendants(None, spare=set())  # without a pid namespace, a zygote's end is not the end of its workers

    def _obey(self) -> bool:
        try:
            data, ancillary, _, _ = self._control.recvmsg(PACKET, socket.CMSG_SPACE(12), socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it has hung up without having read all that it was told
            return False
        if not data:
            return False
        received = array.array("i")
        for _, _, payload in ancillary:
            received.frombytes(payload)
        order = json.loads(data)
        if "kill" in order:
            for pid, number in self._zygotes.items():
                if number == order["kill"]:
                    os.kill(pid, signal.SIGKILL)
            return True
        try:
            pid = _start(order, list(received))
            self._zygotes[pid] = order["start"]
            self._tell({"started": order["start"], "pid": pid})
        except OSError as error:
            self._tell({"failed": order["start"], "message": str(error)})
        finally:
            for descriptor in received:
                os.close(descriptor)
        return True

    def _tell(self, message: dict[str, object]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            return  # the gateway is gone; the main loop will see it

    def _drain(self) -> None:
        try:
            while os.read(self._wake, 512):
                pass
        except BlockingIOError:
            return

    def _bury(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._zygotes.pop(pid, None)
            if number is not None:
                code = os.waitstatus_to_exitcode(status)
                self._tell({"ended": number, "code": max(code, 0), "signal": max(-code, 0)})
                kill_descendants(None, spare=set(self._zygotes))  # as above: they have come to us


def _start(order: dict, descriptors: list[int]) -> int:  # type: ignore[type-arg]
    """Starts one zygote; returns its pid as this process sees it."""
    up, up_end = os.pipe()
    down_end, down = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(up)  # so that it hears of our end
        os.close(down)
        _child(order, descriptors, up_end, down_end)
    os.close(up_end)
    os.close(down_end)
    try:
        return _accompany(order, child, up, down)
    finally:
        os.close(up)
        os.close(down)


def _accompany(order: dict, child: int, up: int, down: int) -> int:  # type: ignore[type-arg]
    """What the parent does for a child that is setting itself up: learn its pid, become its parent, map its uids, hear
    of failure."""
    pid, wants_map = None, None
    with os.fdopen(os.dup(up), "rb") as told:
        for line in told:
            message = json.loads(line)
            if "error" in message:
                raise OSError(message["error"])
            if "pid" in message:
                pid = message["pid"]
                os.waitpid(child, 0)  # the middle process has done its work
            wants_map = message.get("map", wants_map)
            if wants_map is not None and pid is not None:  # the two come from different processes, in either order
                for name in ("uid_map", "gid_map") if wants_map else ():
                    with open(f"/proc/{pid}/{name}", "w") as file:
                        file.write(f"0 {order['uids'][0]} {order['uids'][1]}")
                os.write(down, b"x")
                wants_map = None
    return child if pid is None else int(pid)  # the pipe closed: the zygote has been executed


def _child(order: dict, descriptors: list[int], up: int, down: int) -> None:  # type: ignore[type-arg]
    control, output, *ways_out = descriptors

    def tell(message: dict[str, object]) -> None:
        os.write(up, json.dumps(message).encode() + b"\n")

    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for path in order["groups"]:
            entry = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            groups.enter(entry)
            os.close(entry)
        apart = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | (0 if order.get("network", True) else linux.CLONE_NEWNET)
        if order["isolation"] == "uids":
            linux.unshare(apart | linux.CLONE_NEWPID)
            _furnish_network(order, ways_out)
            _fork_as_init(tell)
            _enter_root(order["root"], order["mounts"])
            _mount_proc()
            linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
            _wait_for_launcher(tell, down, wants_map=True)
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        elif order["isolation"] == "pids":
            _enter_user_namespace(apart)
            _furnish_network(order, ways_out)
            _enter_root(order["root"], [*order["mounts"], ["/proc", "/proc", False]])
            # A second one, so that the mounts above are locked; it owns the pid namespace, in which the zygote is to
            # make others.
            _enter_user_namespace(linux.CLONE_NEWNS | linux.CLONE_NEWPID)
            _fork_as_init(tell)
            _mount_proc()
            _wait_for_launcher(tell, down, wants_map=False)
        end_with_parent()  # as late as this: other ids or capabilities would undo it
        tell({"bound": True})  # fails if the launcher has died before that
        _execute(order, control, output)
    except BaseException as error:
        tell({"error": str(error)})
    finally:
        os._exit(1)  # whatever happens, there is one launcher


def _furnish_network(order: dict, ways_out: list[int]) -> None:  # type: ignore[type-arg]
    """Gives the new network namespace, if it is one, all that it is to have."""
    if not order["network"]:
        door.bring_loopback_up()
        for way_out in ways_out:
            host, port = order["door"]
            door.hand_out(host, port, way_out)


def _fork_as_init(tell) -> None:  # type: ignore[no-untyped-def]
    """Goes on as process 1 of the new pid namespace, whose pid only the parent in the old one can see."""
    inner = os.fork()
    if inner:
        tell({"pid": inner})
        os._exit(0)


def _wait_for_launcher(tell, down: int, *, wants_map: bool) -> None:  # type: ignore[no-untyped-def]
    """Goes on once the process in the middle has gone, so that the launcher is the parent, and the uids are mapped if
    that is wanted."""
    tell({"map": wants_map})
    if not os.read(down, 1):
        raise OSError("the launcher has died")


def _enter_user_namespace(others: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER | others)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _enter_root(root: str, mounts: list[list[object]]) -> None:
    """Makes a root that holds only what a worker needs. Private homes are crossed here, before privileges go."""
    linux.mount(None, "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    for name in ("usr", "lib", "lib64", "lib32", "bin", "sbin"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            _show(f"/{name}", f"{root}/{name}", read_only=True)
    for name in _ETC:
        if os.path.exists(f"/etc/{name}"):
            _show(f"/etc/{name}", f"{root}/etc/{name}", read_only=True)
    for name in _DEVICES:
        _show(f"/dev/{name}", f"{root}/dev/{name}", read_only=False)
    for name in ("dev/shm", "tmp", "proc", "old"):
        os.makedirs(f"{root}/{name}")
    for source, target, read_only in mounts:
        _show(str(source), f"{root}{target}", read_only=bool(read_only))
    os.chdir(root)
    linux.pivot_root(".", "old")
    linux.unmount("/old")
    os.rmdir("/old")
    linux.mount(None, "/", flags=linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV)


def _mount_proc() -> None:
    """Each uid sees its own processes only."""
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV, "hidepid=2")


def _show(source: str, target: str, *, read_only: bool) -> None:
    """Binds a file or folder of the host into the new root, at a place made for it."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w"):
            pass
    linux.bind(os.path.realpath(source), target, read_only=read_only)


def _execute(order: dict, control: int, output: int) -> None:  # type: ignore[type-arg]
    null = os.open("/dev/null", os.O_RDONLY)
    high = [os.dup(descriptor) for descriptor in (null, output, control)]  # clear of 0 to 3 before these are replaced
    while min(high) <= CONTROL:
        high = [os.dup(descriptor) for descriptor in high]
    for descriptor, place in ((high[0], 0), (high[1], 1), (high[1], 2), (high[2], CONTROL)):
        os.dup2(descriptor, place)
    for descriptor in high:
        os.close(descriptor)
    os.execve(order["interpreter"], [order["interpreter"], *order["arguments"]], order["environment"])  # noqa: S606


if __name__ == "__main__":
    main()
