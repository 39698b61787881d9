"""Workers that wait for another call of their user."""

import time
from collections import deque

from gateway_server.engine.local.host import Host
from gateway_server.engine.local.worker import Worker
from gateway_server.engine.local.zygotes import Zygote


class IdleWorkers:
    """Those of all versions. Lives on the event loop."""

    def __init__(self) -> None:
        self._hosts: dict[Worker, Host] = {}
        """Whose each is, the one that waits longest first."""

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def oldest(self) -> Worker | None:
        """The one that waits longest."""
        return next(iter(self._hosts), None)

    def add(self, host: Host, worker: Worker) -> None:
        """A worker waits from now on."""
        worker.idle_since = time.monotonic()
        host.idle.setdefault(worker.user, deque()).append(worker)
        self._hosts[worker] = host

    def take(self, host: Host, user: str) -> Worker | None:
        """The idle worker of `user` that served last: its memory is warmest. It may have become unfit meanwhile."""
        if user not in host.idle:
            return None
        worker = host.idle[user][-1]
        self.remove(worker)
        return worker

    def remove(self, worker: Worker) -> Host:
        """A worker does not wait any more; gives whose it is."""
        host = self._hosts.pop(worker)
        waiting = host.idle[worker.user]
        waiting.remove(worker)
        if not waiting:
            del host.idle[worker.user]
        return host

    def remove_all(self, host: Host) -> None:
        """None of a version waits any more."""
        for workers in host.idle.values():
            for worker in workers:
                del self._hosts[worker]
        host.idle.clear()

    def remove_all_of(self, zygote: Zygote) -> None:
        """None of a zygote waits any more: it has ended, and its workers with it."""
        for worker in [worker for worker in self._hosts if worker.zygote is zygote]:
            self.remove(worker)
