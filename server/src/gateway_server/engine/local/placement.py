"""Keeps what one worker does to the disk out of the way of what others do there.

ext4 puts a folder near its parent, and does not give an inode away again in the seconds after it was freed; it looks
through all of those that lie before a free one, without letting anybody else have the processor. So one worker after
another that leaves thousands of files behind makes each new file of all others take a thousand times as long.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_TOP = 0x00020000
"""FS_TOPDIR_FL: folders in there have nothing to do with each other. See chattr(1), attribute T."""


def spread(folder: Path) -> None:
    """Has the file system put what is made in `folder` far from each other, where it can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
            fcntl.ioctl(descriptor, _SET_FLAGS, (int.from_bytes(flags, "little") | _TOP).to_bytes(8, "little"))
        finally:
            os.close(descriptor)
