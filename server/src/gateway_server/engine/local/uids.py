"""Uids for functions that no other gateway of this machine gives to its own."""

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

FIRST = 1 << 20
"""First uid on the host that a gateway may use; far above those of people and services."""
COUNT = 1 << 24
"""Uids of one gateway."""
MOST_GATEWAYS = 250
LOCKS = Path("/run/agent-builder-gateway.uids")
"""An empty file of which every gateway has locked the byte that stands for its uids. Only root may open it."""


class Uids:
    """A range of uids, taken as long as this object is open; with the process the lock ends, too."""

    def __init__(self) -> None:
        self.first = FIRST
        self._file: int | None = None

    def take(self) -> None:
        """Takes a free range. Where there is nothing to lock, as in a container that cannot be written, the first."""
        with suppress(OSError):
            self._file = os.open(LOCKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        for number in range(MOST_GATEWAYS if self._file is not None else 0):
            if self._lock(number):
                self.first = FIRST + number * COUNT
                return

    def close(self) -> None:
        """Lets others have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, number: int) -> bool:
        """Of the open file, not of the process: two gateways in one process are two, as well."""
        assert self._file is not None
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, wanted)
        except OSError:
            return False
        return True
