"""Names of files, made safe for a path, a header and a screen, and otherwise left as they are. Pure."""

import re
import unicodedata
from functools import lru_cache
from os.path import splitext

LONGEST = 230
"""Bytes of UTF-8: with the timestamp before it, a name still fits a path component of 255."""
_EXTENSION = 32
_REPLACED = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, halves of surrogate pairs, separators of lines and paragraphs."""
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Invisible marks that turn the direction of what is read: `gpj.exe` must not look like `exe.jpg`."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)
"""Devices, wherever a user of Windows saves the file."""


def safe_name(name: str) -> str:
    """The last part of a path as one name: never empty, no folder, at most `LONGEST` bytes, the extension kept."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    text = "".join("_" if _is_unsafe(character) else character for character in last).strip()
    if not text.strip("."):
        return "file"
    if _RESERVED.match(text):
        text = f"_{text}"
    return _shortened(text, LONGEST)


@lru_cache(1024)
def _is_unsafe(character: str) -> bool:
    number = ord(character)
    if character in _DIRECTIONS or number & 0xFFFE == 0xFFFE or 0xFDD0 <= number <= 0xFDEF:
        return True
    return unicodedata.category(character) in _REPLACED


def _shortened(name: str, limit: int) -> str:
    if len(name.encode()) <= limit:
        return name
    stem, extension = splitext(name)
    if len(extension.encode()) > _EXTENSION:
        stem, extension = name, ""
    kept = stem.encode()[: limit - len(extension.encode())].decode("utf-8", "ignore")
    return kept.rstrip() + extension


class Names:
    """Gives each name once: what comes again becomes `name (2).ext`, `name (3).ext`, …"""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        """The last number of each name that came again: thousands may look alike once they are safe."""

    def take(self, name: str) -> str:
        """`name`, or the first of its kind that is not taken."""
        stem, extension = splitext(name)
        number, candidate = self._numbers.get(name, 1), name
        while candidate in self._taken:
            number += 1
            mark = f" ({number}){extension}"
            candidate = _shortened(stem, LONGEST - len(mark.encode())) + mark
        self._numbers[name] = number
        self._taken.add(candidate)
        return candidate
