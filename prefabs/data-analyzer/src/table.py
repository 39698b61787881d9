"""A file as a lazy table, whatever it was before."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

MOST_COLUMNS = 1000


@dataclass
class Table:
    """The frame's columns are named c0, c1, ...: to polars, a name out of a file may be a pattern."""

    format: str
    columns: list[str]
    frame: pl.LazyFrame
    encoding: str | None = None
    rows: int | None = None  # where they were counted already
    kinds: dict[int, str] = field(default_factory=dict)  # columns whose type the frame cannot tell
    dates_in_text: bool = False  # text may be dates
    numbers_in_text: bool = False  # and anything else
    sample: list[dict[str, Any]] | None = None  # first rows that show more than the frame's
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[tuple[str, str]] = field(default_factory=list)  # English, Chinese


def column(index: int) -> str:
    return f"c{index}"
