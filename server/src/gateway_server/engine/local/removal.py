"""Removing what a package has made, however deep it dug and however much it is.

A thread that removes thousands of files asks for the interpreter after each of them, and everybody else waits for it.
So this process removes few, and has rm remove many, at the lowest priority.
"""

import os
import shutil
import subprocess
from pathlib import Path

from gateway_server.engine.local import measuring

FEW = 100
"""Entries that are removed here: starting another process takes as long."""
_RM = ("nice", "-n", "19", "rm", "-rf", "--")
_OPEN = ("nice", "-n", "19", "chmod", "-R", "u+rwx", "--")


def remove(folder: Path) -> None:
    """Removes a folder with everything below it, as far as that is possible; no link is followed. Blocking."""
    if is_large(folder):
        _run(_RM, folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir() and not folder.is_symlink() and os.geteuid() != 0:  # folders that nobody may write to
        _run(_OPEN, folder)
        _run(_RM, folder)


def _run(command: tuple[str, ...], folder: Path) -> None:
    subprocess.run([*command, str(folder)], check=False, stderr=subprocess.DEVNULL)


def is_large(folder: Path) -> bool:
    """Whether there is more in a folder than is removed here. The folder that it lies in must be the gateway's own."""
    try:
        return measuring.disk(folder.parent, folder.name, FEW).entries > FEW
    except measuring.TooDeep:
        return True
    except OSError:
        return False


def empty(folder: int, *, spare: str | None = None) -> None:
    """Removes everything in an open folder, but for the folder called `spare`; no link is followed. Blocking.

    Raises:
        OSError: something could not be removed.
    """
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if is_folder and name == spare:
            continue
        if is_folder:
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
