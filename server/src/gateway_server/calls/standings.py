"""How far callers are from their limits, remembered for a moment.

Whoever is far from every limit need not be looked up for each call: what has been charged since the last look cannot
have used up more than itself. At a limit, or where calls at once or run time are limited, too, the database decides.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from gateway_server.calls.quotas import Quota, Quotas
from gateway_server.models import Principal
from gateway_server.store.counters import Metric
from gateway_server.store.database import Database

T = TypeVar("T")
Place = tuple[str, str | None]
"""A user, and the key that a call came with."""
REMEMBERED_FOR = 1.0
"""Seconds; other gateways may change a limit."""
AHEAD = 0.5
"""Seconds before the end of that time from which on a call has it looked up anew, and does not wait for it."""
GATHER = 0.1
"""Seconds in which those are gathered that are looked up so, all at once."""
TOGETHER = 64
"""Of those, so many in one read, that others get their turn between."""
MOST = 10_000
"""Users that are remembered."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What was found at a look."""

    charged: int
    """Calls that had been charged here before it."""
    room: float
    """Calls that were left; none where the database has to decide each."""
    until: float
    """On the monotonic clock."""


class Standings:
    """Lives on the event loop."""

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas
        self._known: dict[str, dict[str | None, _Standing]] = {}  # by user, then by key
        self._looks: dict[Place, asyncio.Task[Mapping[Place, _Standing]]] = {}
        """Those that are under way."""
        self._due: set[Place] = set()
        """Whoever is looked up soon."""
        self._charged: Counter[str] = Counter()
        self._deciding: Counter[str] = Counter()
        """Users for whom the database decides at the moment."""
        self._decisions: Counter[str] = Counter()
        self._eras = 0

    async def has_room(self, principal: Principal) -> bool:
        """Whether it is certain that one more call is within every limit. False: ask the database."""
        if self._is_for_the_database(principal):
            return False
        standing = self._fresh(principal)
        if standing is None:
            place = principal.user, principal.key_id
            if self._database.looks_up and place not in self._looks and self._is_settled(principal.user):
                standing = self._glance(place)
            else:
                standing = (await asyncio.shield(self._looks.get(place) or self._begin_look([place])))[place]
        return self._charged[principal.user] - standing.charged < standing.room

    def has_room_now(self, principal: Principal) -> bool:
        """The same at once; False where somebody has to be asked, too."""
        standing = self._fresh(principal)
        if standing is None or self._is_for_the_database(principal):
            return False
        return self._charged[principal.user] - standing.charged < standing.room

    def _fresh(self, principal: Principal) -> _Standing | None:
        standing, moment = self._remembered(principal), time.monotonic()
        if standing is None or standing.until < moment:
            return None
        if standing.until < moment + AHEAD:
            self._look_soon((principal.user, principal.key_id))
        return standing

    def still_has_room(self, principal: Principal) -> bool:
        """The same without a look: False where there would have to be one."""
        standing = self._remembered(principal)
        if standing is None or self._is_for_the_database(principal):
            return False
        return self._charged[principal.user] - standing.charged < standing.room

    def _is_for_the_database(self, principal: Principal) -> bool:
        """Whether nothing that is remembered holds: calls below others are counted in their tree, somebody's standing
        is just being decided, or not all that was charged could be written."""
        is_below = principal.job_id is not None or principal.tree_id is not None
        return is_below or principal.user in self._deciding or self._database.lags()

    def _remembered(self, principal: Principal) -> _Standing | None:
        known = self._known.get(principal.user)
        return None if known is None else known.get(principal.key_id)

    def charge(self, user: str) -> None:
        """A call of the user's counts from now on, although the database does not know of it yet."""
        self._charged[user] += 1

    async def decided(self, user: str, writing: Awaitable[T]) -> T:
        """Waits for a write by which the database decides about calls of a user: until it is done, whether anybody
        still waits for it or not, nothing that is remembered holds."""
        self._deciding[user] += 1
        task = asyncio.ensure_future(writing)
        task.add_done_callback(lambda _: self._end_deciding(user))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_look_at)
            raise

    def _end_deciding(self, user: str) -> None:
        self._deciding[user] -= 1
        if not self._deciding[user]:
            del self._deciding[user]
        self.forget(user)

    def forget(self, user: str) -> None:
        """Something has changed for a user."""
        self._known.pop(user, None)
        self._decisions[user] += 1

    def _is_settled(self, user: str) -> bool:
        """Whether nothing of a user's can have been kept back from the database: they have not called since the start,
        as far as it is remembered who has."""
        return not self._charged[user] and not self._eras

    def _glance(self, place: Place) -> _Standing:
        """Looks up somebody new, who would wait longer for a reader than for the answer."""
        self._make_room()
        moment, began = time.time(), time.monotonic()
        caller = Principal(user=place[0], key_id=place[1])
        quotas = self._database.glance(lambda connection: self._quotas.standing(connection, caller, moment))
        room, lasts = _room(quotas, moment)
        standing = _Standing(self._charged[place[0]], room, began + lasts)
        self._known.setdefault(place[0], {})[place[1]] = standing
        return standing

    def _look_soon(self, place: Place) -> None:
        if place in self._looks:
            return
        if not self._due:
            asyncio.get_running_loop().call_later(GATHER, self._look_at_due)
        self._due.add(place)

    def _look_at_due(self) -> None:
        due, self._due = self._due, set()
        places = [place for place in due if place not in self._looks]
        for at in range(0, len(places), TOGETHER):
            self._begin_look(places[at : at + TOGETHER])

    def _begin_look(self, places: Sequence[Place]) -> asyncio.Task[Mapping[Place, _Standing]]:
        """Looks several up at once. Whoever needs one of them meanwhile waits for the same look."""
        task = asyncio.ensure_future(self._look(places))
        for place in places:
            self._looks[place] = task
        task.add_done_callback(lambda _: self._end_look(places))
        task.add_done_callback(_look_at)
        return task

    def _end_look(self, places: Sequence[Place]) -> None:
        for place in places:
            del self._looks[place]

    async def _look(self, places: Sequence[Place]) -> Mapping[Place, _Standing]:
        self._make_room()
        moment, began, era = time.time(), time.monotonic(), self._eras
        before = {user: (self._charged[user], self._decisions[user]) for user, _ in places}

        def work(connection: Connection) -> list[list[Quota]]:
            callers = (Principal(user=user, key_id=key_id) for user, key_id in places)
            return [self._quotas.standing(connection, caller, moment) for caller in callers]

        found = {}
        for place, quotas in zip(places, await self._database.read(work), strict=True):
            user, key_id = place
            charged, decisions = before[user]
            room, lasts = _room(quotas, moment)
            standing = _Standing(charged, room, began + lasts)
            if (era, decisions) == (self._eras, self._decisions[user]) and user not in self._deciding:
                self._known.setdefault(user, {})[key_id] = standing
            else:
                standing = _Standing(charged, 0, 0.0)
            found[place] = standing
        return found

    def _make_room(self) -> None:
        if len(self._known) >= MOST:
            for counts in (self._known, self._charged, self._decisions):
                counts.clear()
            self._eras += 1


def _room(quotas: Iterable[Quota], moment: float) -> tuple[float, float]:
    """How many calls are left, and for how many seconds that can be said."""
    room, lasts = math.inf, REMEMBERED_FOR
    for quota in quotas:
        if quota.counter.metric is not Metric.CALLS:
            room = 0
        elif quota.limit is not None:
            room = min(room, quota.limit - quota.used)
            lasts = min(lasts, (quota.resets_at or math.inf) - moment)
    return room, lasts


def _look_at(task: "asyncio.Future[Any]") -> None:
    """Nobody waits any more: whatever it raised has been seen."""
    if not task.cancelled():
        task.exception()
