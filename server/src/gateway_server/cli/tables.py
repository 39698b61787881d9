"""Rows as lines of text, as wide as they are or fitted to a terminal. Pure."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

GAP, INDENT = "  ", "    "
LEAST = 20
"""Columns that a text gets before others make room for it, if it is as long."""
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?( s)?")


@dataclass(frozen=True)
class _Column:
    name: str
    cells: Sequence[str]
    is_number: bool
    flows: bool
    """Whether it may be wrapped, between words."""

    @property
    def natural(self) -> int:
        return max(width_of(line) for cell in (self.name, *self.cells) for line in cell.split("\n"))

    @property
    def least(self) -> int:
        return min(self.natural, LEAST) if self.flows else self.natural


def lines(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    optional: Sequence[str] = (),
    flowing: Sequence[str] = (),
) -> Iterator[str]:
    """The heads, then the rows, numbers to the right.

    Where they are wider than `width`, the `optional` columns go, first those that are empty, and the `flowing` ones
    are wrapped between words, the last one below the others if it has no room beside them. Nothing else is ever cut or
    wrapped: ids and URLs are there to be copied.
    """
    flowing = flowing or names[-1:]
    if width is None:
        rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
    columns = [
        _Column(name.upper(), cells := [row[index] for row in rows], index > 0 and _are_numbers(cells), name in flowing)
        for index, name in enumerate(names)
    ]
    if width is None:
        yield from chain.from_iterable(_grid(columns, None))
        return
    columns = _without_optional(columns, [name.upper() for name in optional], width)
    if _least(columns) <= width or not columns[-1].flows:
        yield from chain.from_iterable(_grid(columns, width))
        return
    *others, last = columns
    for row, text in zip(_grid(others, width), (last.name, *last.cells), strict=True):
        yield from row
        yield from (f"{INDENT}{line}" for line in wrapped_text(text, width - len(INDENT)) if line)


def _grid(columns: Sequence[_Column], width: int | None) -> Iterator[list[str]]:
    """The lines of each row."""
    widths = [column.natural for column in columns] if width is None else _widths(columns, width)
    for row in zip(*((column.name, *column.cells) for column in columns), strict=True):
        wrapped = [
            wrapped_text(cell, room) if column.flows and width is not None else cell.split("\n")
            for column, cell, room in zip(columns, row, widths, strict=True)
        ]
        are_numbers = [column.is_number for column in columns]
        padded = (map(_padded, parts, widths, are_numbers) for parts in zip_longest(*wrapped, fillvalue=""))
        yield [GAP.join(parts).rstrip() for parts in padded]


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else int(unicodedata.category(char) not in ("Mn", "Me", "Cf"))
        for char in text
    )


def wrapped_text(text: str, width: int) -> list[str]:
    """Its lines; a word that is longer than a line stays whole."""
    told = []
    for line in text.split("\n"):
        told.append("")
        for word in line.split():
            longer = f"{told[-1]} {word}" if told[-1] else word
            if told[-1] and width_of(longer) > width:
                told.append(word)
            else:
                told[-1] = longer
    return told


def _are_numbers(cells: Sequence[str]) -> bool:
    return any(cells) and all(not cell or _NUMBER.fullmatch(cell) for cell in cells)


def _padded(text: str, width: int, is_number: bool) -> str:
    padding = " " * (width - width_of(text))
    return padding + text if is_number else text + padding


def _least(columns: Sequence[_Column]) -> int:
    return sum(column.least for column in columns) + len(GAP) * (len(columns) - 1)


def _without_optional(columns: list[_Column], optional: Sequence[str], width: int) -> list[_Column]:
    is_empty = {column.name: not any(column.cells) for column in columns}
    for name in sorted(optional, key=lambda name: not is_empty[name]):
        if _least(columns) <= width:
            break
        columns = [column for column in columns if column.name != name]
    return columns


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """Those that flow share what the others leave; what one does not need is the next one's."""
    left = width - len(GAP) * (len(columns) - 1) - sum(column.natural for column in columns if not column.flows)
    widths = [column.natural for column in columns]
    flowing = sorted((index for index, column in enumerate(columns) if column.flows), key=lambda index: widths[index])
    for count, index in zip(range(len(flowing), 0, -1), flowing, strict=True):
        widths[index] = max(columns[index].least, min(widths[index], left // count))
        left -= widths[index]
    return widths
