"""The gateway's own time, shared between users.

Events, output and large results cost time on the one event loop that serves everybody. Whoever has more of it than a
share waits a little before the next piece, as long as calls of others run; the function waits with them, once its
socket or pipe is full.
"""

import time
from collections.abc import Callable

SHARE = 0.3
"""Of the event loop, that one user may take while others call."""
BURST = 0.02
"""Seconds of it that cost nobody a wait."""
EACH, BYTE = 8e-6, 5e-9
"""Seconds that a piece takes, and each of its bytes, on a machine of today."""
SHORTEST, LONGEST = 0.002, 1.0
"""Seconds of a wait that is worth it, and of one after which all is paid."""
MOST = 1000
"""Users that are remembered."""


class Pace:
    """Counts what users take. Lives on the event loop."""

    def __init__(self, has_others: Callable[[str], bool]) -> None:
        self._has_others = has_others
        self._paid: dict[str, float] = {}
        """Until when each user has used up their share, on the monotonic clock."""

    def wait(self, user: str, pieces: int, size: int) -> float:
        """How many seconds a user has to wait who has just taken so many pieces and bytes."""
        if not self._has_others(user):
            self._paid.pop(user, None)
            return 0.0
        moment = time.monotonic()
        paid = max(self._paid.get(user, 0.0), moment) + (pieces * EACH + size * BYTE) / SHARE
        self._paid[user] = min(paid, moment + LONGEST)
        if len(self._paid) > MOST:
            self._paid = {user: paid for user, paid in self._paid.items() if paid > moment}
        wait = self._paid[user] - moment - BURST / SHARE
        return wait if wait >= SHORTEST else 0.0
