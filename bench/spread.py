"""A figure as it was measured: the median of several values, and how far they lie apart."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some values between their lowest and their highest."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        if not values:
            raise ValueError("there is nothing to take a median of")
        return cls(statistics.median(values), min(values), max(values), len(values))

    @property
    def width(self) -> float:
        """How far the values lie apart, as a share of the median; 0 where the median is 0."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


def ratios(values: Sequence[float], references: Sequence[float]) -> Spread:
    """Of pairs that were measured one right after the other: the spread of value / reference.

    A ratio of medians would compare different minutes of a machine that is never the same for long.
    """
    return Spread.of(ratios_of(values, references))


def ratios_of(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Of pairs: value / reference of each."""
    return [value / reference for value, reference in zip(values, references, strict=True)]


def differences(values: Sequence[float], references: Sequence[float]) -> Spread:
    """Of pairs: the spread of value - reference."""
    return Spread.of([value - reference for value, reference in zip(values, references, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the others do not exceed: the nearest rank."""
    if not values:
        raise ValueError("there is nothing to take a percentile of")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]
