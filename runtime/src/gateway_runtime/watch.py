"""Whether a call has left its workspace as fresh as it found it."""

import fcntl
import os
import stat
import termios
import time
from contextlib import suppress

from gateway_runtime import linux
from gateway_runtime.workspace import FOLDERS, HOME, TEMPORARY

STEP = 50_000_000
"""Nanoseconds after which a change certainly has another time of modification; kernels count in 1 to 10 ms."""
OUT_OF_REACH = 1010
"""Functions have files of lower numbers, as these are given first, and may leave a thousand open."""
_WATCHED = (".", *FOLDERS)
_MODE = stat.S_IFDIR | 0o700


class Watch:
    """Tells whether the workspace under the current directory is as fresh as every call finds it.

    The kernel says whether anything was made, removed or renamed in a folder since we looked into it. Where it does
    not, or is not asked to, as a machine has few descriptors of that kind, the folder's time of change does; as that
    moves in steps, one that was young when we looked may hide a later change: then we look into the folders instead.
    """

    def __init__(self, *, listens: bool) -> None:
        self._can_listen = listens
        self._ear: int | None = None
        """Has something to read as soon as anything has changed."""
        self._times: list[int] | None = None

    def has_changed(self) -> bool:
        """Whether it is not, or may not be."""
        if self._ear is not None:
            if not _has_news(self._ear):
                return False
            self._stop()
        if self._can_listen:
            self._listen()
        has_changed = self._looks_changed()
        if has_changed:
            self._stop()
        return has_changed

    def _listen(self) -> None:
        try:
            ear = linux.listen(_WATCHED)
        except FileNotFoundError:
            return
        except OSError:
            self._can_listen = False
            return
        try:  # a function that closes a number twice must not close this one, and put another file in its place
            self._ear = fcntl.fcntl(ear, fcntl.F_DUPFD_CLOEXEC, OUT_OF_REACH)
        except OSError:
            self._can_listen = False
        finally:
            os.close(ear)

    def _stop(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            with suppress(OSError):  # the function has closed it
                os.close(ear)

    def _looks_changed(self) -> bool:
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


def _has_news(ear: int) -> bool:
    try:
        return fcntl.ioctl(ear, termios.FIONREAD, b"1234") != b"\0\0\0\0"
    except OSError:  # the function has closed it
        return True


def _is_fresh() -> bool:
    """Whether the folders are those that every call finds, with nothing in them."""
    try:
        found = [sorted(os.listdir(folder)) for folder in _WATCHED]
    except OSError:
        return False
    return found == [[HOME, TEMPORARY, "data"], ["inputs", "outputs"], [], [], [], []]
