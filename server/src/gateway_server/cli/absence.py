"""A gateway that is away while a command looks at it again and again, as one that is started anew is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway_server.cli import terminal
from gateway_server.cli.failures import Failure

PAUSE = 0.5
"""Seconds between two looks."""
LONGEST = 60.0
"""Seconds after which it is taken for gone, where nothing else bounds them; those of the SDK."""
_SIGNS = ("CONNECTION_FAILED", "SERVICE_UNAVAILABLE")


class Absence:
    """How long the gateway has been away, which is borne for so many seconds."""

    def __init__(self, longest: float = LONGEST) -> None:
        self._longest = longest
        self._since: float | None = None

    @contextmanager
    def borne(self) -> Iterator[None]:
        """Lets a look fail for want of a gateway, and waits a moment before the next one.

        Raises:
            Failure: it has been away for too long, or something else is wrong.
        """
        try:
            yield
            self._since = None
        except Failure as failure:
            if failure.detail["error_code"] not in _SIGNS:
                raise
            if self._since is None:
                self._since = time.monotonic()
                terminal.say(f"{failure.message.splitlines()[0]} Trying again.")
            if time.monotonic() + PAUSE > self._since + self._longest:
                raise
            time.sleep(PAUSE)
