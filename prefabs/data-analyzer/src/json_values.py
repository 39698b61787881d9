"""JSON of any shape as rows: a stream of values in bounded memory, and what counts as a row among them."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, TextIO

from .problem import Problem
from .table import MOST_COLUMNS

CHUNK = 1024 * 1024
LARGEST_VALUE = 64 * CHUNK  # of one element; a list or JSON Lines file may be far larger
SPACE = re.compile(r"[\s\x1e]*")
_decoder = json.JSONDecoder()


class Reader:
    """The values of a JSON text one by one: the elements of a top-level list, or values that follow each other."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ""
        self.position = 0
        self.line = 1
        self.ended = False

    def values(self) -> Iterator[Any]:
        if self.peek() == "[" and not self._first_line_is_a_list_of_many():
            yield from self._elements()
        while self.peek():
            yield self._value()

    def _elements(self) -> Iterator[Any]:
        self.position += 1
        if self.peek() == "]":
            self.position += 1
            return
        while True:
            yield self._value()
            separator = self.peek()
            if separator not in (",", "]"):
                raise self._invalid("expected , or ]" if separator else "the list does not end")
            self.position += 1
            if separator == "]":
                return
            self.peek()

    def _first_line_is_a_list_of_many(self) -> bool:
        """JSON Lines whose lines are lists."""
        first, end, rest = self.text[self.position :].partition("\n")
        if not end or not rest.lstrip().startswith("["):
            return False
        try:
            return isinstance(json.loads(first), list)
        except (ValueError, RecursionError):
            return False

    def peek(self) -> str:
        """The next character that is not white space, or nothing at the end."""
        while True:
            self.position = SPACE.match(self.text, self.position).end()
            if self.position < len(self.text):
                return self.text[self.position]
            if not self._more():
                return ""

    def _value(self) -> Any:
        while True:
            try:
                value, end = _decoder.raw_decode(self.text, self.position)
            except RecursionError:
                raise self._invalid("it is nested too deeply") from None
            except ValueError as error:
                reason, position = getattr(error, "msg", str(error)), getattr(error, "pos", self.position)
                # An error in the last bytes may only mean that the rest of the value was not read yet.
                if position > len(self.text) - 16 or reason.startswith("Unterminated"):
                    if len(self.text) - self.position > LARGEST_VALUE:
                        raise _too_large() from None
                    if self._more():
                        continue
                raise self._invalid(reason, position) from None
            # A number, or a word that begins another one, may go on behind the end of what was read so far.
            if end < len(self.text) or not self._more():
                self.position = end
                return value

    def _more(self) -> bool:
        """Read on, twice as much as is waiting, so that one long value is not scanned too often."""
        if self.ended:
            return False
        chunk = self.file.read(max(CHUNK, len(self.text) - self.position))
        if not chunk:
            self.ended = True
            return False
        self.line += self.text.count("\n", 0, self.position)
        self.text = self.text[self.position :] + chunk
        self.position = 0
        return True

    def _invalid(self, reason: str, position: int | None = None) -> Problem:
        line = self.line + self.text.count("\n", 0, self.position if position is None else position)
        return Problem(
            "INVALID_JSON",
            f"not valid JSON near line {line}: {reason}",
            f"第 {line} 行附近不是有效的 JSON：{reason}",
        )


def _too_large() -> Problem:
    return Problem(
        "FILE_TOO_LARGE",
        f"one JSON value is larger than {LARGEST_VALUE >> 20} MB; use a list of rows or JSON Lines",
        f"单个 JSON 值超过 {LARGEST_VALUE >> 20} MB；请改用行的列表或 JSON Lines",
    )


class Rows:
    """The rows of a JSON file. `path` and `attributes` are known once a row was taken."""

    def __init__(self, file: TextIO) -> None:
        self.reader = Reader(file)
        self.path: str | None = None  # where in the one object the rows were found
        self.attributes: dict[str, Any] = {}  # the rest of that object
        self.too_wide = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        values: Iterable[Any] = self.reader.values()
        if self.reader.peek() == "{":
            start = list(islice(values, 2))
            values = chain(self._inside(start[0]) if len(start) == 1 else start, values)
        for value in values:
            yield self._flat(value)

    def _inside(self, whole: dict[str, Any]) -> list[Any]:
        """A single object is one row, unless it plainly wraps a table."""
        tables = {
            key: v for key, v in whole.items() if isinstance(v, list) and v and all(isinstance(r, dict) for r in v)
        }
        if tables:
            self.path = max(tables, key=lambda key: len(tables[key]))
            self.attributes = {key: value for key, value in whole.items() if key != self.path}
            return tables[self.path]
        values = list(whole.values())
        if len(values) > 1 and all(isinstance(v, dict) and v.keys() & values[0].keys() for v in values):
            self.path = "*"
            return [{"key": key, **value} for key, value in whole.items()]
        if values and all(isinstance(v, list) and len(v) == len(values[0]) > 1 for v in values):
            return [dict(zip(whole, row, strict=True)) for row in zip(*values, strict=True)]
        return [whole] if whole else []

    def _flat(self, value: Any) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if isinstance(value, dict):
            self._flatten("", value, row)
        elif isinstance(value, list):
            row = {f"column_{number}": cell for number, cell in enumerate(value[:MOST_COLUMNS], 1)}
            self.too_wide |= len(value) > MOST_COLUMNS
        else:
            row = {"value": value}
        return row

    def _flatten(self, prefix: str, value: dict[str, Any], row: dict[str, Any]) -> None:
        for key, inner in value.items():
            if isinstance(inner, dict) and inner:
                self._flatten(f"{prefix}{key}.", inner, row)
            elif len(row) >= MOST_COLUMNS:
                self.too_wide = True
                return
            else:
                row[prefix + key] = inner
