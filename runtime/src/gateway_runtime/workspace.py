"""The folder in which one call runs: what lies where, and making it fresh.

    data/inputs/<key>/   the input files under their original names, and nothing else
    data/outputs/        what the function writes here is kept
    .home .tmp           HOME and TMPDIR of the call; .tmp is also /tmp where the machine allows
    .result              a result too long for a frame

The package may still have threads running while the gateway works in here, so no path is ever walked by name from the
outside: every step opens the next folder in the one before, and never through a link.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INPUTS = "data/inputs"
OUTPUTS = "data/outputs"
HOME = ".home"
TEMPORARY = ".tmp"
RESULT = ".result"
FOLDERS = ("data", INPUTS, OUTPUTS, HOME, TEMPORARY)
_WATCHED = (".", *FOLDERS)
_MODE = stat.S_IFDIR | 0o700
STEP = 50_000_000
"""Nanoseconds after which a change certainly has another time of modification; kernels count in 1 to 10 ms."""


@contextmanager
def opened(root: str | os.PathLike[str], folder: str = "") -> Iterator[int]:
    """A descriptor of `folder` below `root`, reached without following a link.

    Raises:
        OSError: a step is missing, or is no folder.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in filter(None, folder.split("/")):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(root: str | os.PathLike[str], folder: str, owner: int | None = None) -> None:
    """Makes `folder` below `root` unless it is there, its parents being there, and gives it to `owner`."""
    above, _, name = folder.rpartition("/")
    with opened(root, above) as parent:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        if owner is not None:
            os.chown(name, owner, owner, dir_fd=parent, follow_symlinks=False)


def lay_out(root: str | os.PathLike[str], owner: int | None = None) -> None:
    """Makes the folders that every call finds."""
    for name in FOLDERS:
        make_folder(root, name, owner)
    for name in ("", *FOLDERS):  # a function may have taken the right away to write there
        with opened(root, name) as folder:
            os.fchmod(folder, 0o700)


def make(root: str | os.PathLike[str], owner: int | None = None) -> None:
    """Makes a workspace where there is none. Nobody else can reach it before it is given to `owner`, last of all, so
    that names are as good as descriptors here, and take a third of the time.

    Raises:
        FileExistsError: there is something.
    """
    os.mkdir(root, 0o700)
    folders = [os.path.join(root, name) for name in FOLDERS]
    for folder in folders:
        os.mkdir(folder, 0o700)
    if owner is not None:
        for folder in folders:
            os.chown(folder, owner, owner)
        os.chown(root, owner, owner)


class Watch:
    """Tells whether the workspace under the current directory is as fresh as every call finds it.

    Whatever is made, removed or renamed in a folder moves the folder's time of change. That time moves in steps, so one
    that was young when we looked may hide a later change: then we look into the folders instead.
    """

    def __init__(self) -> None:
        self._times: list[int] | None = None

    def has_changed(self) -> bool:
        """Whether it is not, or may not be."""
        try:
            told = [os.stat(folder, follow_symlinks=False) for folder in _WATCHED]
        except OSError:
            return True
        if any(one.st_mode != _MODE for one in told):  # a link, or a folder that the next call cannot write to
            return True
        times = [one.st_ctime_ns for one in told]
        if times == self._times:
            return False
        is_fresh = _is_fresh()
        self._times = times if is_fresh and time.time_ns() - max(times) > STEP else None
        return not is_fresh


def _is_fresh() -> bool:
    """Whether the folders are those that every call finds, with nothing in them."""
    try:
        found = [sorted(os.listdir(folder)) for folder in _WATCHED]
    except OSError:
        return False
    return found == [[HOME, TEMPORARY, "data"], ["inputs", "outputs"], [], [], [], []]
