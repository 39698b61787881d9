"""Ends families of processes that take more than they may, where the kernel does not see to it.

It sees to memory where there are control groups; the watchdog then only tells why somebody was killed, and rations
processor time. Disk is always
the watchdog's: what lies in the workspace, what is held without a name, and that the disk never gets full.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway_server.engine.local import measuring
from gateway_server.engine.local.bounds import memory_exceeded, size
from gateway_server.engine.local.cgroups import Group
from gateway_server.engine.local.rations import Rations, Spent

BUSY, IDLE, NEARLY_FULL = 0.25, 2.0, 0.05
"""Seconds between two looks: while something runs, while nothing does, and while the disk is nearly full."""
SHARE = 0.05
"""Of one core, that looking may take in the mean."""
IDLE_SHARE = 0.25
"""Of one core, that a family may take which has nothing to do."""
SMALLEST = 16 << 20
"""Bytes below which ending a family does not help a disk that is full."""
RESERVE_SHARE = 0.05
"""Of a file system, that is kept free at most."""
logger = logging.getLogger("gateway")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family, and what it may take."""

    folder: Path
    memory: int
    disk: int
    """Bytes that its folder may hold."""
    is_busy: bool
    """Whether code of the package is known to run. What a zygote's import left running is not known."""
    calls: int
    """How often it has been given something to do."""
    group: Group | None
    zygote: int
    """The pid of its zygote, on the host."""
    pid: int | None
    """The pid of its first process, as the zygote sees it; None for the zygote's own family."""
    end: Callable[[str], Awaitable[None]]
    """Ends it; takes the reason, which follows a colon."""
    user: str = ""
    """Whose call it serves."""

    @property
    def writes(self) -> bool:
        """Whether its folder may be anything but fresh."""
        return self.is_busy or self.pid is None


class Watchdog:
    """Looks at every family again and again. Lives on the event loop, looks in a thread."""

    def __init__(
        self,
        families: Callable[[], list[Family]],
        folder: Path,
        *,
        most_files: int,
        reserve: int,
        has_others: Callable[[str], bool] = lambda _user: False,
    ) -> None:
        self.cost = 0.0
        """Seconds of processor time that the last look took."""
        self._families = families
        self._folder = folder
        self._most_files = most_files
        self._reserve = reserve
        self._rations = Rations(has_others)
        self._pause = BUSY
        self._idle_seen = 0.0
        self._idlers: dict[Path, tuple[int, float]] = {}
        """What those had done and taken of the processors that were idle at the last look at them."""
        self._begun = asyncio.Event()
        self._ending: set[asyncio.Future[None]] = set()
        self._in_memory = measuring.memory_devices() if hasattr(os, "memfd_create") else set()

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            families = self._families()
            try:
                for family, reason in await asyncio.to_thread(self.look, families):
                    self._end(family, reason)
            except Exception:  # whatever a package made of its folder: the next look must come
                logger.exception("the watchdog could not look")
            if not any(family.is_busy for family in families):
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE):
                        await self._begun.wait()
            self._begun.clear()
            await asyncio.sleep(max(self._pause, self.cost / SHARE))

    def wake(self) -> None:
        """Something begins to run."""
        self._begun.set()

    def _end(self, family: Family, reason: str) -> None:
        """Without waiting for it: a package may see to it that it takes long, and the others go on taking."""
        task = asyncio.ensure_future(family.end(reason))
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a family of processes could not be ended", exc_info=error)

    def look(self, families: list[Family]) -> list[tuple[Family, str]]:
        """Whoever takes too much, and why that is too much. Blocking."""
        begun, begun_at = time.thread_time(), time.monotonic()
        is_idles_turn = begun_at - self._idle_seen >= IDLE
        pause, self._idle_seen = begun_at - self._idle_seen, begun_at if is_idles_turn else self._idle_seen
        members = self._members(families, idle_too=is_idles_turn)
        self._ration(families, members, begun_at)
        doomed = self._restless(families, members, pause) if is_idles_turn else []
        taken: dict[int, int] = {}
        for number, family in enumerate(families):
            if not (family.writes or is_idles_turn):
                continue
            with _by_itself(family):
                held = measuring.unlinked(members[number])
                reason = self._too_much_memory(family, members[number], held)
                if reason is None and family.writes:
                    taken[number], reason = self._too_much_disk(family, held)
                if reason is not None:
                    doomed.append((family, reason))
        if not doomed:
            doomed = self._make_space(families, taken)
        self.cost = time.thread_time() - begun
        return doomed

    def _ration(self, families: list[Family], members: list[list[int]], moment: float) -> None:
        busy = []
        for family, pids in zip(families, members, strict=True):
            if family.is_busy and family.user and family.group is not None:
                with _by_itself(family):
                    spent = measuring.processor_time(pids)
                    busy.append(Spent(family.user, family.folder, family.group, spent, is_new=family.calls <= 1))
        self._rations.look(busy, {family.folder for family in families}, moment)

    def _members(self, families: list[Family], *, idle_too: bool) -> list[list[int]]:
        """The pids of each family on the host."""
        if all(family.group is not None for family in families):
            return [
                family.group.processes() if family.group and (family.writes or idle_too) else [] for family in families
            ]
        processes = measuring.Processes()
        of_zygote = {zygote: processes.children(zygote) for zygote in {family.zygote for family in families}}
        found: list[list[int]] = []
        for family in families:
            found.append([])
            with _by_itself(family):
                first = of_zygote[family.zygote].get(family.pid) if family.pid is not None else None
                found[-1] = processes.below(first) if first is not None else []
        for number, family in enumerate(families):
            if family.pid is None:
                theirs = {pid for at, pids in enumerate(found) if families[at].zygote == family.zygote for pid in pids}
                found[number] = [pid for pid in processes.below(family.zygote) if pid not in theirs]
        return found

    def _restless(self, families: list[Family], members: list[list[int]], pause: float) -> list[tuple[Family, str]]:
        """Who has nothing to do and computes all the same, `pause` seconds after the last look: a function that has
        answered and goes on, for which nobody is charged."""
        before, self._idlers = self._idlers, {}
        doomed = []
        for family, pids in zip(families, members, strict=True):
            if family.is_busy:
                continue
            with _by_itself(family):
                spent = measuring.processor_time(pids)
                self._idlers[family.folder] = family.calls, spent
                calls, spent_before = before.get(family.folder, (-1, 0.0))
                if calls == family.calls and spent - spent_before > IDLE_SHARE * pause:
                    doomed.append((family, "it went on computing after it had answered"))
        return doomed

    def _too_much_memory(self, family: Family, pids: list[int], held: dict[tuple[int, int], int]) -> str | None:
        if family.group is not None:
            used_up = family.pid is not None and family.is_busy and family.group.ran_out_of_memory()
            return memory_exceeded(family.memory) if used_up else None
        files = sum(taken for (device, _), taken in held.items() if device in self._in_memory)
        if measuring.memory(pids, files, family.memory) > family.memory:
            return memory_exceeded(family.memory)
        return None

    def _too_much_disk(self, family: Family, held: dict[tuple[int, int], int]) -> tuple[int, str | None]:
        try:
            found = measuring.disk(family.folder.parent, family.folder.name, self._most_files)
            device = os.stat(family.folder).st_dev
        except measuring.TooDeep:
            return 0, f"its workspace has more than {measuring.DEEPEST} folders inside each other"
        except OSError:
            return 0, None  # it has just gone
        taken = found.size + sum(size for (place, _), size in held.items() if place == device)
        if found.entries > self._most_files:
            return taken, f"its workspace exceeded the limit of {self._most_files} files"
        if taken > family.disk:
            return taken, f"its workspace exceeded the limit of {size(family.disk)}"
        return taken, None

    def room(self) -> int:
        """Bytes of the disk that may still be taken: a part of it stays free.

        Raises:
            OSError: it cannot be told.
        """
        free, reserve = self._free()
        return max(0, free - reserve)

    def _free(self) -> tuple[int, int]:
        """Bytes that are free, and those that are to stay so."""
        told = os.statvfs(self._folder)
        reserve = min(self._reserve, int(told.f_blocks * told.f_frsize * RESERVE_SHARE))
        return told.f_bavail * told.f_frsize, reserve

    def _make_space(self, families: list[Family], taken: dict[int, int]) -> list[tuple[Family, str]]:
        """Ends the one that takes most of a disk that is about to be full."""
        try:
            free, reserve = self._free()
        except OSError:
            return []
        self._pause = BUSY if free > 4 * reserve else NEARLY_FULL
        if free >= reserve or not taken:
            return []
        largest = max(taken, key=taken.__getitem__)
        if taken[largest] < SMALLEST:
            return []
        reason = (
            f"the disk of the gateway has less than {size(reserve)} left, and this call took the most of it "
            f"({size(taken[largest])})"
        )
        return [(families[largest], reason)]


@contextmanager
def _by_itself(family: Family) -> Iterator[None]:
    """Passes over a family that cannot be looked at: the others must be, whatever one has done to hide."""
    try:
        yield
    except Exception:
        logger.exception("the watchdog could not look at %s", family.folder)
