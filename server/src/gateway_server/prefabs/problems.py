"""What can be wrong with a package, said so that its author can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong, and where."""

    #: JSON Pointer into the manifest; empty for the package as a whole.
    pointer: str
    message: str


class PackageError(Exception):
    """The package is refused; `problems` holds every reason that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.pointer}: {p.message}" if p.pointer else p.message for p in self.problems))

    @classmethod
    def of(cls, message: str, pointer: str = "") -> PackageError:
        return cls([Problem(pointer, message)])


#: More of either kind than this help nobody.
MAX_PROBLEMS = 1000


class Report:
    """Collects what a reader finds: errors refuse the package, warnings go along with it."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, pointer: str, message: str) -> None:
        """Something that refuses the package."""
        if len(self.errors) < MAX_PROBLEMS:
            self.errors.append(Problem(pointer, message))

    def warn(self, pointer: str, message: str) -> None:
        """Something that its author should mend."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(pointer, message))

    def check_keys(self, raw: Mapping[str, Any], known: Collection[str], pointer: str) -> None:
        """Warns of members that nobody will read: as a rule, misspelled ones. Notes begin with `$`, `_` or `x-`."""
        for key in raw:
            if len(self.warnings) >= MAX_PROBLEMS:  # a guess that nobody hears of takes as long as any
                return
            if key not in known and not key.startswith(("$", "_", "x-")):
                close = difflib.get_close_matches(key.lower(), known, n=1)
                guess = f"; did you mean {close[0]!r}?" if close else ""
                self.warn(step(pointer, key), f"{show(key)} is not known here and is ignored{guess}")

    def raise_errors(self) -> None:
        """PackageError with every error so far; nothing without any."""
        if self.errors:
            raise PackageError(self.errors)


def step(pointer: str, token: object) -> str:
    """The pointer to a member of what `pointer` points to; what is no text in it is shown as its escape."""
    text = str(token).encode("utf-8", "backslashreplace").decode()
    return f"{pointer}/{text.replace('~', '~0').replace('/', '~1')}"


def show(value: object, limit: int = 60) -> str:
    """A value for a message: short, on one line, printable."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def is_plain(text: str) -> bool:
    """Whether the text has no control characters and no halves of surrogate pairs."""
    return not any(char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" for char in text)
