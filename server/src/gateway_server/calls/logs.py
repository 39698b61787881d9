"""What a function prints: kept up to a limit, with the values of its secrets masked."""

import json
import re
from collections.abc import Iterable
from functools import cached_property
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 8
"""Shorter values are not masked: they would mangle text that has nothing to do with them."""
_MARGIN = 40
"""Characters that may stand before each line of a value: the traceback of a group of exceptions indents them."""
_LINES = 1000
"""Lines of a value that may have one: a pattern of more takes long to make."""
_OF_PATHS = "/:@!$&'()*+,;=~"
"""What may stand in the path of a URL as it is."""
_ESCAPE = re.compile("%[0-9A-F]{2}")


class Masker:
    """Replaces the values of one call's secrets wherever they appear, quoted or in a URL, too.

    Most calls print nothing and do not fail: what it takes to find the values is made when there is something to mask.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self._values = [value for value in values if len(value) >= SHORTEST]

    @cached_property
    def longest(self) -> int:
        """Length in bytes of the longest value: at a cut, a part of it may stand that no pattern finds."""
        return max((len(told.encode()) + _MARGIN * (len(told.splitlines()) - 1) for told in self._told), default=0)

    @cached_property
    def _told(self) -> list[str]:
        """Every spelling of every value, those first that may hold others."""
        return sorted({spelling for value in self._values for spelling in _spellings(value)}, key=len, reverse=True)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(_wherever_indented(value) for value in self._told))

    @cached_property
    def _bytes(self) -> re.Pattern[bytes]:
        return re.compile(self._pattern.pattern.encode())

    def text(self, text: str) -> str:
        """The text without secrets."""
        return self._pattern.sub(MASK, text) if self._values else text

    def bytes(self, data: bytes) -> bytes:
        """The same for bytes."""
        return self._bytes.sub(MASK.encode(), data) if self._values else data


def _spellings(value: str) -> set[str]:
    """How a value is written: as it is, and as Python, JSON and URLs write it."""
    texts = {json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), ascii(value)}
    texts.add(repr(value.encode())[1:])
    urls = {quote(value), quote(value, safe=""), quote(value, safe=_OF_PATHS), quote_plus(value)}
    urls |= {_ESCAPE.sub(lambda escape: escape[0].lower(), url) for url in urls}
    return {value} | urls | {text[1:-1] for text in texts}


def _wherever_indented(value: str) -> str:
    """A pattern of a value that takes a margin before each of its lines, unless they are too many."""
    lines = value.splitlines(keepends=True)
    margin = f"[ |]{{0,{_MARGIN}}}" if len(lines) <= _LINES else ""
    return margin.join(re.escape(line) for line in lines)


NOTHING_TO_MASK = Masker(())


class Log:
    """Collects output; beyond the limit the beginning and the end are kept and the middle is left out."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self.is_empty = True

    def write(self, data: bytes) -> None:
        """Adds output."""
        self.is_empty = False
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, 0) :]
        surplus = len(self._tail) - self._half
        if surplus > self._half:  # not at every write: cutting moves all that stays
            del self._tail[:surplus]
            self._dropped += surplus

    def read(self, masker: Masker) -> bytes:
        """What is kept, masked."""
        if self.is_empty:
            return b""
        surplus = max(0, len(self._tail) - self._half)
        tail, dropped = self._tail[surplus:], self._dropped + surplus
        if not dropped:
            return masker.bytes(bytes(self._head + tail))
        # Masked first, so that only a value that the cut went through is left in pieces; these are at the very ends.
        head = masker.bytes(bytes(self._head))
        note = f"\n--- {dropped} bytes left out ---\n".encode()
        return head[: max(0, len(head) - masker.longest)] + note + masker.bytes(bytes(tail))[masker.longest :]
