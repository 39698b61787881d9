"""One run of the suite: how long it may measure, where it works, and what it has found so far."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from bench import load
from bench.endpoint import Endpoint
from bench.environments import Missing
from bench.load import Slice
from bench.peers import BARE
from bench.product import Product, prepared
from bench.results import Results
from bench.server import Server

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How thorough a run is."""

    slice: float
    """Seconds of load at a time."""
    rounds: int
    """Pairs of slices."""
    repeats: int
    """Of what is over in no time: calls, starts, imports."""
    megabytes: int = 256
    """Size of the file that is moved."""
    many: int = 10_000
    """Prefabs in the large catalogue."""
    growth: tuple[int, ...] = (10, 1_000)
    """Sizes that the cost of a call is compared at; the first is the small one."""
    versions: int = 1_000
    """In the catalogue of a gateway at rest."""
    streams: int = 1_000
    """Open and idle."""
    users: int = 50
    """Who call at the same time; and as many prefabs, each of which all of them call."""


FULL = Pace(slice=2, rounds=4, repeats=20)
LONG = Pace(slice=2, rounds=4, repeats=20, megabytes=1024, growth=(10, 1_000, 100_000), streams=10_000)
QUICK = Pace(slice=1, rounds=2, repeats=8)
SMOKE = Pace(slice=0.2, rounds=2, repeats=2, megabytes=1, many=20, growth=(2, 4), versions=5, streams=20, users=3)


class Show(Protocol):
    """Tells people how far it is."""

    def part(self, name: str) -> None:
        """A part begins."""

    def step(self, text: str) -> None:
        """Something else is being done now."""


@dataclass
class Session:
    """Handed to every part."""

    pace: Pace
    work: Path
    """A folder that is gone afterwards."""
    results: Results
    show: Show
    with_peers: bool = True

    def product(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> Product:
        """A gateway with a fresh data folder, not started."""
        return prepared(self.work / name / "data", *arguments, env=env)

    def bare(self) -> tuple[Server, Endpoint]:
        """The baseline, not started; of the gateway's own packages if there are to be no others, or cannot be."""
        if self.with_peers:
            try:
                return BARE.server(self.work)
            except Missing as error:
                self.results.missing["Starlette of its own versions"] = f"the gateway's are in its place: {error}"
        return BARE.server(self.work, Path(sys.executable).parent)

    def alternate(self, sides: Sequence[Callable[[], T]], rounds: int | None = None) -> list[list[T]]:
        """What each side gives, round after round; every second round begins at the other end, so that what drifts
        over time meets all of them alike."""
        found: list[list[T]] = [[] for _ in sides]
        for number in range(rounds or self.pace.rounds):
            order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
            for at in order:
                found[at].append(sides[at]())
        return found

    def slices(
        self,
        server: Server,
        endpoint: Endpoint,
        connections: int,
        *,
        fresh_keys: bool = False,
        users: Sequence[str] = (),
    ) -> Callable[[], Slice]:
        """A side for `alternate`: load on one server."""
        return lambda: load.press(
            endpoint,
            server.cpu_seconds,
            connections=connections,
            seconds=self.pace.slice,
            fresh_keys=fresh_keys,
            users=users,
        )
