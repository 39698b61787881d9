"""The folder in which one call runs: what lies where, and making it fresh.

    data/inputs/<key>/   the input files under their original names, and nothing else
    data/outputs/        what the function writes here is kept
    .home .tmp           HOME and TMPDIR of the call; .tmp is also /tmp where the machine allows
    .result              a result too long for a frame

The package may still have threads running while the gateway works in here, so no path is ever walked by name from the
outside: every step opens the next folder in the one before, and never through a link.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INPUTS = "data/inputs"
OUTPUTS = "data/outputs"
HOME = ".home"
TEMPORARY = ".tmp"
RESULT = ".result"
FOLDERS = ("data", INPUTS, OUTPUTS, HOME, TEMPORARY)


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
