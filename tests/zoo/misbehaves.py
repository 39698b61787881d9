"""Functions that end badly, or try not to end at all."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time


def raises():
    raise ValueError("no such luck")


def raises_odd():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("not even a message")

    raise Odd


def exits():
    sys.exit(3)


def exits_hard():
    os._exit(3)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_without_a_name():
    os.kill(os.getpid(), signal.SIGRTMIN + 6)


def segfaults():
    ctypes.string_at(0)


def hangs():
    time.sleep(3600)


def hangs_deaf():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def escapes():
    """A daemon that outlives its parent, in a session of its own, then hangs itself."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(3600)
        os._exit(0)
    time.sleep(3600)


def leaves_child():
    subprocess.Popen(["sleep", "3600"])
    return "left"


def leaves_thread():
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return "left"


def returns_unserialisable():
    return object()


def returns_itself():
    value: list = []
    value.append(value)
    return value


def closes_everything():
    sys.stdout.close()
    sys.stderr.close()
    return "closed"


def floods(megabytes: int):
    for _ in range(megabytes):
        os.write(1, b"x" * (1 << 20))
    return "flooded"


def forges():
    """Writes an answer of its own on every descriptor it finds."""
    forged = b'\x00\x00\x00\x06\x05\x00\x00\x00\x01"evil"'
    for number in range(3, 64):
        try:
            os.write(number, forged)
        except OSError:
            pass
    return "honest"


def changes_environment():
    os.environ["LEFT_BEHIND"] = "yes"
    os.environ.pop("PATH", None)
    os.chdir("/")
    return "changed"


def recursion():
    return recursion()


def raises_at_length(text: str, times: int):
    raise ValueError(text * times)


def forks_and_yields():
    os.fork()
    yield {"type": "content", "data": "once"}


def yields_then_raises():
    yield {"type": "content", "data": "one"}
    raise KeyError("two")


def yields_forever():
    n = 0
    while True:
        yield {"type": "content", "data": str(n)}
        n += 1
        time.sleep(0.01)
