"""How often a job is tried, and how long it rests in between."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway_server.errors import Problem

MOST_ATTEMPTS = 10
LONGEST_DELAY = 3600.0


@dataclass(frozen=True, kw_only=True)
class Retry:
    """A policy: of a manifest's function, or of a call, which comes first."""

    attempts: int = 1
    """How often the function may be tried."""
    delay: float = 1.0
    """Seconds before the second attempt; each further one waits twice as long, up to an hour."""

    def wait(self, failures: int) -> float | None:
        """Seconds until the next attempt after so many have failed; None if there is none."""
        if failures >= self.attempts:
            return None
        return min(self.delay * 2.0 ** (failures - 1), LONGEST_DELAY)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"attempts": self.attempts, "delay": self.delay}


ONCE = Retry()


def read_retry(raw: object, pointer: str) -> Retry | list[Problem]:
    """A policy such as ``{"attempts": 3, "delay": 2}``, or what is wrong with it."""
    if not isinstance(raw, Mapping):
        return [Problem(pointer, 'must be an object such as {"attempts": 3, "delay": 2}')]
    problems = [Problem(f"{pointer}/{name}", "is unknown") for name in raw if name not in ("attempts", "delay")]
    attempts, delay = raw.get("attempts", ONCE.attempts), raw.get("delay", ONCE.delay)
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 1 <= attempts <= MOST_ATTEMPTS:
        problems.append(Problem(f"{pointer}/attempts", f"must be a number from 1 to {MOST_ATTEMPTS}"))
    if not isinstance(delay, int | float) or isinstance(delay, bool) or not 0 <= delay <= LONGEST_DELAY:
        problems.append(Problem(f"{pointer}/delay", f"must be seconds, from 0 to {LONGEST_DELAY:g}"))
    return problems or Retry(attempts=attempts, delay=float(delay))
