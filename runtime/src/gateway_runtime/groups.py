"""Control groups as plain folders: entering one, and removing a tree of them once its processes are gone."""

import os
import time
from contextlib import suppress

MEMBERS = "cgroup.procs"
"""The file that lists a group's processes, and that takes new ones."""
THREADS = "tasks"
"""In version 1, the file that takes single threads. A thread that moves itself need not wait for all that fork on the
machine, as whole processes must: for 5 to 20 ms, during which nobody else forks."""
_PATIENCE = 1.0
_PAUSE = 0.005


def enter(entry: int) -> None:
    """Moves this process, which has no other threads, into the group of an open MEMBERS or THREADS file; what it starts
    from now on is inside, too.

    The kernel asks for the rights of whoever opened the file, so that this works after they are gone.

    Raises:
        OSError: the kernel refused.
    """
    os.write(entry, b"0")


def remove(folder: str | os.PathLike[str], patience: float = _PATIENCE) -> bool:
    """Removes a group with the groups below it; False if processes were still in there after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            with os.scandir(folder) as entries:
                inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for path in inner:
                with suppress(OSError):
                    os.rmdir(path)
            os.rmdir(folder)
            return True
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(_PAUSE)  # killed processes take a moment to leave
