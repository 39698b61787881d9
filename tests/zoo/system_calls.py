"""Reaches for the kernel: namespaces, mounts, other processes. What import could do is remembered for the functions.

Without a sandbox all of this reaches the machine itself, so nothing of it may change anything there: namespaces are
made in a child that ends at once, and the mount names a place that does not exist, which the kernel finds out only
after a filter would have refused.
"""

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_NUMBERS = {
    "x86_64": {"unshare": 272, "mount": 165, "ptrace": 101, "keyctl": 250, "perf_event_open": 298},
    "aarch64": {"unshare": 97, "mount": 40, "ptrace": 117, "keyctl": 219, "perf_event_open": 241},
}[platform.machine()] | {"open_tree_attr": 467}


def _try(name: str, *arguments: object) -> str:
    """What the kernel says to a system call, in a child, so that nothing of it stays."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.set_errno(0)
        result = _libc.syscall(_NUMBERS[name], *arguments)
        os.write(write, str(ctypes.get_errno() if result < 0 else 0).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return os.strerror(int(answer)) if answer != "0" else "done"


def _attempts() -> dict[str, str]:
    return {
        "user namespace": _try("unshare", _NEWUSER),
        "network namespace": _try("unshare", _NEWUSER | _NEWNET),
        "mount": _try("mount", b"none", b"/no/such/place", b"tmpfs", 0, None),
        "detached mount": _try("open_tree_attr", -1, b"/no/such/place", 0, None, 0),
        "trace me": _try("ptrace", 0, 0, 0, 0),
        "kernel keys": _try("keyctl", 0, -3, 1),
    }


_AT_IMPORT = _attempts()


def in_function():
    return _attempts()


def at_import():
    return _AT_IMPORT


def still_works():
    """What honest packages need: threads, processes, other programs."""
    import concurrent.futures
    import multiprocessing
    import subprocess
    import threading

    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=int)
    child.start()
    child.join()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        total = sum(threads.map(int, ["1", "2", "3"]))
    said = subprocess.run(["sh", "-c", "echo $((20 + 3))"], capture_output=True, text=True, check=True).stdout
    return [child.exitcode, total, said.strip()]
