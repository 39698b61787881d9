"""Functions that reach for what is not theirs: the gateway's descriptors, other folders, the next call."""

import os
import shutil
import signal
import sys
import threading
import time


def descriptors():
    """What this process holds open, but for the listing itself."""
    names = os.listdir("/proc/self/fd")
    found = []
    for name in sorted(names, key=int):
        try:
            found.append([name, os.readlink(f"/proc/self/fd/{name}")])
        except OSError:
            continue
    return found


def links_temporary(target: str):
    os.rename(".tmp", "x")
    os.symlink(target, ".tmp")


def links_data(target: str):
    shutil.rmtree("data")
    os.symlink(target, "data")


def links_inside(target: str):
    os.symlink(target, "data/inputs/link")
    os.symlink(target, "data/outputs/link")
    os.symlink(target, ".tmp/link")


def removes_data(target: str):
    shutil.rmtree("data")


def links_result(target: str):
    os.symlink(target, ".result")
    return "x" * (2 << 20)


def is_fresh():
    return (
        sorted(os.listdir(".")) == [".home", ".tmp", "data"]
        and sorted(os.listdir("data")) == ["inputs", "outputs"]
        and not any(os.listdir(name) for name in (".home", ".tmp", "data/inputs", "data/outputs"))
        and not any(os.path.islink(name) for name in (".home", ".tmp", "data"))
    )


def fills_process_table(count: int):
    """Starts children that wait, until it may not any more; how many there were."""
    children = []
    read, write = os.pipe()
    try:
        while len(children) < count:
            pid = os.fork()
            if pid == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    os.close(write)
    for pid in children:
        os.waitpid(pid, 0)
    return len(children)


def limits():
    import resource

    return [resource.getrlimit(resource.RLIMIT_CORE)[0], resource.getrlimit(resource.RLIMIT_NOFILE)[0]]


def prints(text: str):
    print(text)
    return text


def closes_output():
    sys.stdout.close()
    return "closes_output"


def detaches_output():
    sys.stdout.detach()
    return "detaches_output"


def removes_folder():
    shutil.rmtree(os.getcwd(), ignore_errors=True)
    return "removes_folder"


def closes_descriptor():
    os.close(1)
    return "closes_descriptor"


def sets_alarm():
    signal.alarm(1)
    return "sets_alarm"


def prints_later():
    def later():
        time.sleep(0.2)
        print("too late")

    threading.Thread(target=later, daemon=True).start()
    return "prints_later"


def odd_output():
    class Odd:
        closed = False

        def write(self, _text):
            return 0

        def flush(self):
            raise RuntimeError("no")

    sys.stdout = Odd()
    return "odd_output"


def forks_both():
    os.fork()
    return "forks_both"


def floods_socket():
    """A thread that goes on writing to the worker's socket after the call."""

    def flood():
        while True:
            for number in range(3, 10):
                try:
                    os.write(number, b"\xff" * 65536)
                except OSError:
                    continue

    def later():
        time.sleep(0.05)
        flood()

    threading.Thread(target=later, daemon=True).start()
    return "floods_socket"
