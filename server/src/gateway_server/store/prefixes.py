"""The SHA-256 of files whose parts arrive past each other: of what stands at the beginning, while the rest is on its
way, so that at the end there is little left to be read."""

import hashlib
import os
import threading
from pathlib import Path

from gateway_server.store.objects import BLOCK


class Prefix:
    """The digest of the beginning of one file, as far as its parts have arrived without a gap. For threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._ends: dict[int, int] = {}
        """Of the parts that have arrived: where each ends, by its number."""
        self._is_asked = self._is_reading = False
        """Whether somebody was asked to go on, and whether a thread is at it."""
        self._is_over = False
        """Whether all that is left is read at the end: to read everything anew for each part that is sent again could
        take for ever."""
        self._start()

    def _start(self) -> None:
        self._digest = hashlib.sha256()
        self._at, self._next = 0, 1

    def begins(self, number: int) -> None:
        """A part is written from now on, perhaps once more: what was read of it does not count."""
        with self._changed:
            had_arrived = self._ends.pop(number, None) is not None
            if number < self._next or (number == self._next and had_arrived):  # a thread may just be at it
                self._give_up()

    def arrived(self, number: int, end: int) -> bool:
        """A part has arrived whole; says whether somebody has to `go_on`, now or later."""
        with self._changed:
            if self._is_over:
                return False
            self._ends[number] = end
            is_asked, self._is_asked = self._is_asked, self._is_asked or self._next in self._ends
            return self._is_asked and not is_asked

    def go_on(self) -> None:
        """Reads on to the first part that is missing."""
        with self._changed:
            self._is_reading = not self._is_over
            if self._is_over:
                return
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while self._read_part(descriptor):
                    pass
            finally:
                os.close(descriptor)
        except (OSError, MemoryError):  # the upload has been given up; or else whoever asks for the digest hears of it
            with self._changed:
                self._give_up()
                self._leave()

    def abandon(self) -> None:
        """Nobody wants to know any more."""
        with self._changed:
            self._give_up()

    def finish(self, descriptor: int) -> str:
        """The digest of the whole file, of which no part is written any more."""
        with self._changed:
            self._is_over = True  # a thread that reads ends with its part
            self._changed.wait_for(lambda: not self._is_reading)
            try:
                _update(self._digest, descriptor, self._at, None)
                return self._digest.hexdigest()
            finally:
                self._give_up()  # this may be refused, and parts come again

    def _read_part(self, descriptor: int) -> bool:
        with self._changed:
            end = None if self._is_over else self._ends.get(self._next)
            if end is None:
                self._leave()
                return False
            digest, at = self._digest, self._at
        _update(digest, descriptor, at, end)
        with self._changed:
            if digest is self._digest:  # else one of these parts has begun again
                self._at, self._next = end, self._next + 1
        return True

    def _leave(self) -> None:
        self._is_asked = self._is_reading = False
        self._changed.notify_all()

    def _give_up(self) -> None:
        self._is_over = True
        self._ends.clear()
        self._start()


def _update(digest: "hashlib._Hash", descriptor: int, at: int, end: int | None) -> None:
    """Reads from one place to another, or to the end of the file."""
    buffer = bytearray(BLOCK)
    while end is None or at < end:
        room = memoryview(buffer)[: BLOCK if end is None else min(BLOCK, end - at)]
        count = os.preadv(descriptor, [room], at)
        if not count:
            break
        digest.update(room[:count])
        at += count
