"""What a function prints: kept up to a limit, with the values of its secrets masked."""

import json
import re
from collections.abc import Iterable, Set
from functools import cached_property
from urllib.parse import quote, quote_plus

MASK = b"***"
SHORTEST = 8
"""Shorter values are not masked: they would mangle text that has nothing to do with them."""
_MARGINS = [b"\t", *(b" " * width for width in (2, 4, 6, 8)), *(b" " * 2 * depth + b"| " for depth in range(1, 12))]
"""What may stand before each line of a value but its first: people indent text, and the traceback of a group of
exceptions does so at each depth (`traceback.TracebackException.format`, which goes down ten of them)."""
_LINES = 1000
"""Lines of a value that may have margins."""
_AROUND = b" \t\r|"
"""What may stand around one line of a value that is printed alone."""
_OF_PATHS = "/:@!$&'()*+,;=~"
"""What may stand in the path of a URL as it is."""
_ESCAPE = re.compile("%[0-9A-F]{2}")


class Masker:
    """Replaces the values of one call's secrets wherever they appear, quoted or in a URL, too.

    Most calls print nothing and do not fail: what it takes to find the values is made when there is something to mask.
    The text and the values are strangers', so looking for them takes a time that grows with both and no faster.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self._values = [value for value in values if len(value) >= SHORTEST]

    @cached_property
    def longest(self) -> int:
        """Length in bytes of the longest value: at a cut, a part of it may stand that nothing finds."""
        widest = max(map(len, _MARGINS))
        indented = (sum(map(len, lines)) + widest * len(lines) for lines in self._indentable)
        return max([*map(len, self._told), *indented], default=0)

    @cached_property
    def _told(self) -> list[bytes]:
        """Every spelling of every value, those first that may hold others."""
        spellings = {_encoded(spelling) for value in self._values for spelling in _spellings(value)}
        return sorted(spellings, key=len, reverse=True)

    @cached_property
    def _lines(self) -> list[list[bytes]]:
        """The lines of values of several."""
        found = [[_encoded(line) for line in _bare(value).splitlines(keepends=True)] for value in self._values]
        return [lines for lines in found if len(lines) > 1]

    @cached_property
    def _indentable(self) -> list[list[bytes]]:
        return [lines for lines in self._lines if len(lines) <= _LINES]

    @cached_property
    def _pieces(self) -> frozenset[bytes]:
        """The lines of those values, as far as they are long enough to tell something."""
        lines = (line.strip(_AROUND + b"\n") for lines in self._lines for line in lines)
        return frozenset(line for line in lines if len(line) >= SHORTEST)

    def text(self, text: str) -> str:
        """The text without secrets."""
        return self.bytes(_encoded(text)).decode("utf-8", "surrogatepass") if self._values else text

    def bytes(self, data: bytes) -> bytes:
        """The same for bytes."""
        for told in self._told:
            data = data.replace(told, MASK)
        for lines in self._indentable:
            if max(lines, key=len) in data:
                for margin in _MARGINS:
                    data = data.replace(margin.join(lines), MASK)
        if self._pieces:
            data = b"\n".join(_unless_in(self._pieces, line) for line in data.split(b"\n"))
        return data


def _unless_in(pieces: Set[bytes], line: bytes) -> bytes:
    """A line, masked where all that it says is one of the pieces."""
    said = line.strip(_AROUND)
    return line.replace(said, MASK) if said in pieces else line


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _bare(value: str) -> str:
    """A value without what is at its ends: a file has an end of a line there, which programs strip."""
    return value.strip() if len(value.strip()) >= SHORTEST else value


def _spellings(value: str) -> set[str]:
    """How a value is written: as it is, and as Python, JSON and URLs write it."""
    value = _bare(value)
    texts = {json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), ascii(value)}
    texts.add(repr(_encoded(value))[1:])
    safe = [quote(_encoded(value), safe) for safe in ("/", "", _OF_PATHS)]
    urls = {*safe, quote_plus(_encoded(value))}
    urls |= {_ESCAPE.sub(lambda escape: escape[0].lower(), url) for url in urls}
    return {value} | urls | {text[1:-1] for text in texts}


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
