"""Which workers have the kernel tell of changes in their folders: a machine has few descriptors for that (inotify(7)),
all workers together are charged for them as one user, and others need them, too. The rest look for themselves."""

from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from gateway_server.engine.local.worker import Worker

SHARE = 4
"""The part of what the user may have that is taken: a quarter."""
MOST = 256
_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


class Ears:
    """The descriptors of one engine."""

    def __init__(self, limit: Path = _LIMIT) -> None:
        self._listening = WeakSet[Worker]()
        self._most = 0
        with suppress(OSError, ValueError):  # a system that has no such thing
            self._most = min(MOST, int(limit.read_text()) // SHARE)

    def grant(self, worker: Worker) -> bool:
        """Whether a worker may have one, for all its life."""
        if sum(one.alive for one in self._listening) >= self._most:
            return False
        self._listening.add(worker)
        return True
