"""One prefab version on this machine, and what it has there."""

import asyncio
import time
from collections import deque

from gateway_server.engine.local.spares import Spares
from gateway_server.engine.local.turns import LONG, Turns
from gateway_server.engine.local.worker import Worker
from gateway_server.engine.local.zygotes import ImportFailed, Zygote
from gateway_server.models import Deployment


class Host:
    """One prefab version on this machine: its zygote and its idle workers."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.zygote: Zygote | None = None
        self.starting: asyncio.Task[Zygote] | None = None
        self.preload = True
        self.failed: tuple[float, ImportFailed] | None = None
        self.idle: dict[str, deque[Worker]] = {}
        self.turns: dict[str, Turns] = {}
        """By user."""
        self.mean = LONG
        """Seconds that calls ran, of whoever called last: what is expected of those of a new user."""
        self.busy = 0
        self.spares = Spares()
        self.retired = False
        """Whether the version is gone: what runs may end, and nothing else begins."""
        self.used_at = time.monotonic()

    def has_idle(self, user: str) -> bool:
        """Whether a worker of `user` waits for a call."""
        return user in self.idle
