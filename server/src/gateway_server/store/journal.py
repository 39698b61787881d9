"""A journal: what has been appended survives the process, before it is in the database.

One file, mapped into memory, so that to append is to copy some bytes: the kernel keeps them whatever becomes of the
process. (The power is another matter: nothing is synced.) What the database has taken over is forgotten by beginning
the file anew, under another epoch. Each record is a length, a checksum that holds for this epoch only, and the bytes.
"""

import mmap
import os
import struct
import time
import zlib
from pathlib import Path
from typing import NamedTuple

SIZE = 16 << 20
"""Bytes of the file."""
LONGEST = SIZE // 64
"""Bytes of the longest record."""
_EPOCH = struct.Struct("=Q")
_HEAD = struct.Struct("=II")


class Position(NamedTuple):
    """A place in a journal: what lies before it has been taken over."""

    epoch: int
    offset: int


class Journal:
    """Append to it from one thread."""

    def __init__(self, file: Path, *, size: int = SIZE) -> None:
        """Opens or makes the file.

        Raises:
            OSError: there is no room for it, or it cannot be written.
        """
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, 0)
                _reserve(descriptor, size)
            self._bytes = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._size = size
        (self._epoch,) = _EPOCH.unpack_from(self._bytes)
        self._end = self._highest = _EPOCH.size

    def recover(self, taken: Position | None) -> list[bytes]:
        """The records behind `taken`, or all of them where it belongs to another epoch. Asked once, before anything is
        appended."""
        records: list[bytes] = []
        at = taken.offset if taken is not None and taken.epoch == self._epoch else _EPOCH.size
        while at + _HEAD.size <= self._size:
            length, checksum = _HEAD.unpack_from(self._bytes, at)
            record = self._bytes[at + _HEAD.size : at + _HEAD.size + length]
            if not length or len(record) < length or self._checksum(record) != checksum:
                break
            records.append(record)
            at += _HEAD.size + length
        self._end = at
        self._highest = self._size  # there may be anything behind
        return records

    @property
    def end(self) -> Position:
        """Where the next record goes."""
        return Position(self._epoch, self._end)

    def append(self, record: bytes) -> bool:
        """Keeps a record; False where there is no room for it until the database has taken over what there is."""
        end = self._end + _HEAD.size + len(record)
        if end > self._size or not 0 < len(record) <= LONGEST:
            return False
        self._bytes[self._end : end] = _HEAD.pack(len(record), self._checksum(record)) + record
        self._end = end
        return True

    def restart(self) -> None:
        """Begins anew: everything has been taken over."""
        self._highest = max(self._highest, self._end)
        self._epoch = max(self._epoch + 1, time.time_ns())
        _EPOCH.pack_into(self._bytes, 0, self._epoch)
        self._end = _EPOCH.size

    def scrub(self) -> None:
        """Overwrites what has been taken over, and begins anew."""
        self.restart()
        self._bytes[_EPOCH.size : self._highest] = bytes(self._highest - _EPOCH.size)
        self._highest = _EPOCH.size

    def close(self) -> None:
        """Lets go of the file."""
        self._bytes.close()

    def _checksum(self, record: bytes) -> int:
        return zlib.crc32(record, self._epoch & 0xFFFFFFFF)


def _reserve(descriptor: int, size: int) -> None:
    """Takes the room on the disk at once: where a page of a mapped file finds none, the process is killed."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    for _ in range(size >> 20):
        os.write(descriptor, bytes(1 << 20))
