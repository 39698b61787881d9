"""A journal: what has been appended survives the process, before it is in the database.

One file, mapped into memory, so that to append is to copy some bytes: the kernel keeps them whatever becomes of the
process. (The power is another matter: nothing is synced.) The file has two halves, written in turn: while what stands
in one is taken over by the database, records go into the other. A half begins with its epoch, a number that only grows;
each record is a length, a checksum that holds for this epoch alone, and the bytes. What has been taken over is
overwritten.
"""

import mmap
import os
import secrets
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
_MOST = 1 << 62
"""What ids and epochs stay below, so that databases can hold them."""


class Position(NamedTuple):
    """A place in a journal: what lies before it, in its own half or in one of an earlier epoch, has been taken over."""

    epoch: int
    offset: int


class _Half:
    """One half: where it lies in the file, and how far it is written."""

    def __init__(self, data: mmap.mmap, start: int, size: int) -> None:
        self._data = data
        self._start, self._stop = start, start + size
        self.epoch: int = _EPOCH.unpack_from(data, start)[0]
        if self.epoch >= _MOST:  # nothing that we have written
            self.epoch = 0
        self.end: int = self._first

    @property
    def _first(self) -> int:
        return self._start + _EPOCH.size

    @property
    def is_empty(self) -> bool:
        return self.end == self._first

    @property
    def is_full(self) -> bool:
        return self._stop - self.end < (self._stop - self._start) // 16

    def recover(self, after: int) -> list[bytes]:
        """The records from an offset on; what comes next goes behind them."""
        records, at = [], max(after, self._first)
        while at + _HEAD.size <= self._stop:
            length, checksum = _HEAD.unpack_from(self._data, at)
            end = at + _HEAD.size + length
            record = self._data[at + _HEAD.size : end] if 0 < length <= LONGEST and end <= self._stop else b""
            if not record or self._checksum(record) != checksum:
                break
            records.append(record)
            at = end
        self.end = at
        return records

    def append(self, record: bytes) -> bool:
        end = self.end + _HEAD.size + len(record)
        if end > self._stop:
            return False
        self._data[self.end : end] = _HEAD.pack(len(record), self._checksum(record)) + record
        self.end = end
        return True

    def restart(self, epoch: int) -> None:
        """Overwrites what was written, and begins another epoch."""
        _EPOCH.pack_into(self._data, self._start, epoch)  # first: from here on none of it counts any more
        self._data[self._first : self.end] = bytes(self.end - self._first)
        self.epoch, self.end = epoch, self._first

    def _checksum(self, record: bytes) -> int:
        return zlib.crc32(record, self.epoch & 0xFFFFFFFF)


class Journal:
    """Use it from one thread. Recover it before anything is appended."""

    def __init__(self, file: Path, *, size: int = SIZE) -> None:
        """Opens or makes the file.

        Raises:
            OSError: there is no room for it, or it cannot be written.
        """
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = size
        try:
            self._map()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _map(self) -> None:
        _reserve(self._descriptor, self._size)
        self._data = mmap.mmap(self._descriptor, self._size)
        self.id: int = _EPOCH.unpack_from(self._data)[0]
        """What it is known by, where several use one database."""
        if not 0 < self.id < _MOST:
            self._name(secrets.randbits(61) + 1)
        length = (self._size - _EPOCH.size) // 2
        self._halves = [_Half(self._data, at, length) for at in (_EPOCH.size, _EPOCH.size + length)]
        self._current = self._halves[0]

    def _name(self, number: int) -> None:
        self.id = number
        _EPOCH.pack_into(self._data, 0, number)

    def recover(self, taken: Position | None) -> list[bytes]:
        """The records that `taken` does not say are in the database, in their order. They stay until `take`."""
        records: list[bytes] = []
        for half in sorted(self._halves, key=lambda half: half.epoch):
            is_later = taken is None or half.epoch > taken.epoch
            if is_later or (taken is not None and half.epoch == taken.epoch):
                records += half.recover(0 if is_later or taken is None else taken.offset)
            self._current = half
        return records

    @property
    def end(self) -> Position:
        """Where the next record goes."""
        return Position(self._current.epoch, self._current.end)

    @property
    def is_full(self) -> bool:
        """Whether there is little room left."""
        return self._current.is_full

    def append(self, record: bytes) -> bool:
        """Keeps a record; False where there is no room for it until the database has taken over what there is."""
        return 0 < len(record) <= LONGEST and self._current.append(record)

    def turn(self) -> Position:
        """Lets what comes next go into the other half, if that is free; the position that lies between."""
        position = self.end
        other = self._halves[self._current is self._halves[0]]
        if other.is_empty and not self._current.is_empty:
            other.restart(self._next_epoch())
            self._current = other
        return position

    def take(self, position: Position) -> None:
        """The database has everything before a position: it is overwritten, where nothing stands behind it."""
        for half in self._halves:
            is_past = half.epoch < position.epoch or (half.epoch, half.end) == position
            if is_past and not half.is_empty:
                half.restart(self._next_epoch() if half is self._current else 0)

    def wipe(self) -> None:
        """Makes the file anew: all of it has been taken over."""
        number, epoch = self.id, self._next_epoch()
        self._data.close()
        os.ftruncate(self._descriptor, 0)
        self._map()
        self._name(number)
        self._current.restart(epoch)

    def close(self) -> None:
        """Lets go of the file."""
        self._data.close()
        os.close(self._descriptor)

    def _next_epoch(self) -> int:
        return max(*(half.epoch + 1 for half in self._halves), time.time_ns())


def _reserve(descriptor: int, size: int) -> None:
    """Takes the room on the disk at once: where a page of a mapped file finds none, the process is killed. What stands
    in the file stays."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    while (there := os.lseek(descriptor, 0, os.SEEK_END)) < size:
        os.write(descriptor, bytes(min(size - there, 1 << 20)))
