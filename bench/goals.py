"""What the product is held to: for every figure a value that it must keep, and one that it is to reach.

Some are no figures, but facts that hold or do not; their values are 1 and 0.
"""

from dataclasses import dataclass
from enum import StrEnum

from bench.spread import Spread


class Verdict(StrEnum):
    """How a figure stands to its goal."""

    REACHED = "reached"
    MET = "met"
    MISSED = "missed"


@dataclass(frozen=True)
class Goal:
    """One figure's goal. `must` is what it may not fall short of, `reach` what it strives for."""

    key: str
    title: str
    must: float
    reach: float
    unit: str
    more_is_better: bool = False
    is_fact: bool = False
    """Whether people read yes or no."""

    def verdict(self, value: float) -> Verdict:
        """How a value stands to the goal."""
        if self._keeps(value, self.reach):
            return Verdict.REACHED
        return Verdict.MET if self._keeps(value, self.must) else Verdict.MISSED

    def is_sure(self, spread: Spread) -> bool:
        """Whether the verdict is that of every single pair, and not only that of their median."""
        return self.verdict(spread.low) == self.verdict(spread.high)

    def advance(self, value: float) -> float:
        """How many times better than `must` a value is; below 1 is worse. Zero or less is as good as it gets."""
        if self.more_is_better:
            return value / self.must if value > 0 else 0.0
        return self.must / value if value > 0 else float("inf")

    def _keeps(self, value: float, limit: float) -> bool:
        return value >= limit if self.more_is_better else value <= limit


def _more(key: str, title: str, must: float, reach: float, unit: str = "×") -> Goal:
    return Goal(key, title, must, reach, unit, more_is_better=True)


def _fact(key: str, title: str) -> Goal:
    return Goal(key, title, 1, 1, "", more_is_better=True, is_fact=True)


GOALS = {
    goal.key: goal
    for goal in (
        _more("unary.16", "echo, 16 connections: requests/s against Starlette", 0.8, 1.4),
        _more("unary.64", "echo, 64 connections: requests/s against Starlette", 0.8, 1.4),
        Goal("unary.1", "echo, 1 connection: p50 later than Starlette's by", 0.25, 0.12, "ms"),
        Goal("unary.cpu", "echo, 16 connections: processor time per call, all processes", 150, 70, "µs"),
        Goal("unary.tail", "echo, 16 connections: p99/p50 against Starlette's p99/p50", 1.3, 1.0, "×"),
        _more("honest.16", "honest load, 16 connections: requests/s against Starlette", 0.8, 1.4),
        _fact("honest.records", "honest load: as many records as requests"),
        _fact("honest.found", "honest load: 100 random jobs are found"),
        _fact("honest.kept", "honest load: all that, after kill -9, too"),
        Goal("batch.time", "batch of 100: time against 100 calls of 16 connections", 0.7, 0.5, "×"),
        _more("peers.best", "echo, 16 connections: requests/s against the best peer", 5, 15),
        Goal("stream.first", "stream: first event later than Starlette's by", 0.5, 0.2, "ms"),
        Goal("stream.paced", "paced stream: first event later than Starlette's by", 0.5, 0.2, "ms"),
        _more("stream.async", "stream, async generator: events/s against Starlette's", 0.8, 2),
        _more("stream.sync", "stream, generator: events/s against Starlette's async one", 0.8, 2),
        Goal("streams.each", "open streams that are idle: memory of each (PSS)", 40, 15, "KB"),
        Goal("client.together", "client.run(), on one core: p50 against a raw socket", 2.5, 1.5, "×"),
        Goal("client.apart", "client.run(), on two cores: p50 against a raw socket", 2.5, 1.5, "×"),
        Goal("client.make", "GatewayClient(…): time to make one", 20, 5, "µs"),
        Goal("client.import", "import gateway_sdk: over bare python", 40, 15, "ms"),
        Goal("files.up", "a large file up, SDK: time against curl's", 1.25, 1.0, "×"),
        Goal("files.down", "a large file down, SDK: time against curl's", 1.25, 1.0, "×"),
        Goal("workers.apart", "new worker, now and then: over a warm call", 5, 2.5, "ms"),
        Goal("workers.row", "new worker, one after the other: over a warm call", 5, 2.5, "ms"),
        Goal("workers.restart", "the very first call after a restart of the gateway", 250, 100, "ms"),
        Goal("workers.first", "first call of a further version after a restart", 250, 100, "ms"),
        _more("users.warm", "50 users, one prefab: requests/s against one user's", 0.8, 0.8),
        _more("users.cold", "50 users × 50 prefabs, cold: workers begun a second", 100, 100, "/s"),
        _fact("users.errors", "50 users × 50 prefabs, cold: every call succeeds"),
        Goal("memory.rest", "the gateway at rest: memory (PSS)", 120, 80, "MB"),
        Goal("memory.catalogue", "the gateway at rest, 1,000 versions: memory (PSS)", 160, 100, "MB"),
        Goal("memory.zygote", "idle version: memory (PSS) without its workers", 12, 8, "MB"),
        Goal("memory.worker", "idle worker: memory (PSS)", 4, 2, "MB"),
        Goal("catalogue.call", "10,000 prefabs: processor time per call against 10 prefabs", 1.15, 1.05, "×"),
        Goal("catalogue.publish", "10,000 prefabs: time to publish against 10 prefabs", 1.1, 1.1, "×"),
        Goal("catalogue.start", "10,000 prefabs: start of the gateway", 2, 0.5, "s"),
        Goal("growth.call", "many prefabs, users, jobs: processor time per call, the worst", 1.15, 1.05, "×"),
    )
}
"""In the order of the table."""
