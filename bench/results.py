"""What a run has found, as the parts of it tell one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.goals import Goal
from bench.spread import Spread


@dataclass(frozen=True)
class Table:
    """Figures beside those of the goals."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """One line of the picture that puts everybody beside the baseline."""

    name: str
    ratio: Spread
    is_product: bool = False


@dataclass
class Results:
    """Everything that the report is made of."""

    findings: dict[str, Spread] = field(default_factory=dict)
    """By the key of the goal."""
    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""
    noise: Spread | None = None
    """The baseline against itself."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part took."""

    def state(self, key: str, holds: bool) -> None:
        """Puts a fact among the findings."""
        self.findings[key] = Spread.of([float(holds)])


def text(value: float) -> str:
    """A figure as people read it: three digits that mean something."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if size >= 10 else 2 if size >= 0.1 else 3}f}"


def figure(goal: Goal, value: float) -> str:
    """The value of a goal with its unit; of a fact, whether it holds."""
    if goal.is_fact:
        return "yes" if value >= 1 else "no"
    return f"{text(value)} {goal.unit}"


def spread_text(spread: Spread) -> str:
    """The median with the lowest and the highest."""
    return f"{text(spread.median)} ({text(spread.low)}–{text(spread.high)})"
