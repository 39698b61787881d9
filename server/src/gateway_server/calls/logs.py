"""What a function prints: kept up to a limit, with the values of its secrets masked."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from urllib.parse import quote, quote_plus

MASK = b"***"
SHORTEST = 8
"""Shorter values are not masked: they would mangle text that has nothing to do with them."""
_WIDEST = 40
_MARGIN = re.compile(b"(?m)^[ |]{1,%d}" % _WIDEST)
"""What may stand before each line of a value: the traceback of a group of exceptions indents them."""
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
        return max((len(told) + _WIDEST * told.count(b"\n") for told in self._told), default=0)

    @cached_property
    def _told(self) -> list[bytes]:
        """Every spelling of every value, those first that may hold others."""
        spellings = {_encoded(spelling) for value in self._values for spelling in _spellings(value)}
        return sorted(spellings, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        return self.bytes(_encoded(text)).decode("utf-8", "surrogatepass") if self._values else text

    def bytes(self, data: bytes) -> bytes:
        """The same for bytes."""
        for told in self._told:
            data = data.replace(told, MASK)
            if b"\n" in told:
                data = _without_indented(data, told)
        return data


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _spellings(value: str) -> set[str]:
    """How a value is written: as it is, and as Python, JSON and URLs write it; without what is at its ends, as a file
    has an end of a line there that programs strip."""
    value = value.strip() if len(value.strip()) >= SHORTEST else value
    texts = {json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), ascii(value)}
    texts.add(repr(_encoded(value))[1:])
    safe = [quote(_encoded(value), safe) for safe in ("/", "", _OF_PATHS)]
    urls = {*safe, quote_plus(_encoded(value))}
    urls |= {_ESCAPE.sub(lambda escape: escape[0].lower(), url) for url in urls}
    return {value} | urls | {text[1:-1] for text in texts}


def _without_indented(data: bytes, value: bytes) -> bytes:
    """Masks a value of several lines where they have margins: both are compared without any."""
    wanted, bare = _MARGIN.sub(b"", value), _MARGIN.sub(b"", data)
    end, at = 0, bare.find(wanted) if len(wanted) >= SHORTEST else -1
    if at < 0:
        return data
    places, widths = [], [0]
    for margin in _MARGIN.finditer(data):
        places.append(margin.start() - widths[-1])
        widths.append(widths[-1] + len(margin[0]))

    def with_margins(place: int) -> int:
        return place + widths[bisect_right(places, place)]

    pieces = []
    while at >= 0:
        pieces += [data[end : with_margins(at)], MASK]
        end = with_margins(at + len(wanted) - 1) + 1
        at = bare.find(wanted, at + len(wanted))
    return b"".join([*pieces, data[end:]])


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
