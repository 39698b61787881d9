"""Processor time is rationed while there is none to spare and one user's functions take more than a share.

The kernel shares it by weight, which keeps those busy that always want more. Calls of others want a little of it often:
each of several processes in turn, and each waits for whoever computes at the moment, perhaps in a system call that
nobody can interrupt. So a user who has taken more than a share gets that share and no more, as long as others call and
the machine is full; what is left unused is given back step by step.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway_server.engine.local.cgroups import Group

SHARE = 0.2
"""Of all processors, that one user may take while there is none to spare and others call."""
SPARE = 0.1
"""Of all processors: less that is idle is none to spare."""
GROWTH = 1.5
"""By what a ration grows with each look while there is some to spare."""
NOTABLE = 0.1
"""A change of a family's part, relative to what it is, that is worth telling the kernel."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one family has taken since it began."""

    user: str
    folder: Path
    group: Group
    seconds: float
    is_new: bool
    """Whether it serves its first call."""


class Rations:
    """What each user may take, as of the last look. Blocking; lives in whatever thread looks."""

    def __init__(
        self, has_others: Callable[[str], bool], *, stat: Path = Path("/proc/stat"), cores: int = os.cpu_count() or 1
    ) -> None:
        self._has_others = has_others
        self._stat = stat
        self._cores = cores
        self._clock = (0.0, 0.0)
        self._spent: dict[Path, tuple[float, float]] = {}
        """What each family had taken when it was busy for the last time, and when that was."""
        self._looked_at = 0.0
        self._rations: dict[str, float] = {}
        """Cores, by user."""
        self._told: dict[Path, tuple[Group, float]] = {}
        """What the kernel was told: cores, by family."""

    def look(self, families: Iterable[Spent], living: Container[Path], moment: float) -> None:
        """Rations users anew. `families` are those that are busy, `living` the folders of all; `moment` is now."""
        by_user: dict[str, list[Spent]] = defaultdict(list)
        for family in families:
            by_user[family.user].append(family)
        rates = {user: sum(self._rate(family, moment) for family in theirs) for user, theirs in by_user.items()}
        self._looked_at = moment
        self._spent = {folder: known for folder, known in self._spent.items() if folder in living}
        is_full = self._idle_share() < SPARE
        for user in [user for user in self._rations if user not in by_user or not self._has_others(user)]:
            del self._rations[user]
        for user, rate in rates.items():
            self._ration(user, rate, is_full=is_full)
        self._tell(by_user)

    def _ration(self, user: str, rate: float, *, is_full: bool) -> None:
        share = SHARE * self._cores
        if is_full and rate > share and self._has_others(user):
            self._rations[user] = share
        elif user in self._rations and not is_full:
            self._rations[user] *= GROWTH
            if self._rations[user] > self._cores:
                del self._rations[user]

    def _tell(self, by_user: dict[str, list[Spent]]) -> None:
        """Sets what has changed, in control groups that are there."""
        parts = {
            family.folder: (family.group, self._rations[user] / len(theirs))
            for user, theirs in by_user.items()
            if user in self._rations
            for family in theirs
        }
        for folder, (group, _) in self._told.items():
            if folder not in parts:
                group.ration(None)
        for folder, (group, part) in parts.items():
            before = self._told.get(folder)
            if before is not None and before[0] is group and abs(part - before[1]) <= NOTABLE * before[1]:
                parts[folder] = before
            else:
                group.ration(part)
        self._told = parts

    def _rate(self, family: Spent, moment: float) -> float:
        """Cores that a family has taken since it was seen busy before, or since the last look where it is new."""
        known = self._spent.get(family.folder, (0.0, self._looked_at) if family.is_new else None)
        self._spent[family.folder] = family.seconds, moment
        return 0.0 if known is None else max(0.0, family.seconds - known[0]) / (moment - known[1])

    def _idle_share(self) -> float:
        """Of all processors since the last look; all of it where nobody knows."""
        try:
            ticks = [int(word) for word in self._stat.read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return 1.0
        idle, total = float(ticks[3] + ticks[4]), float(sum(ticks))
        (idle_before, total_before), self._clock = self._clock, (idle, total)
        return (idle - idle_before) / (total - total_before) if total > total_before else 1.0
