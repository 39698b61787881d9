"""Heads of requests that have come before.

A program says the same in front of each of its requests, and to parse it takes longer than most of what follows. What
some bytes were found to mean they mean again, so the head of a usual run is parsed once. What changes from one run to
the next is an `Idempotency-Key`: its line is taken out before, and read by itself.
"""

import re
from typing import NamedTuple

from gateway_server.identity.tokens import OF_CALL

MOST = 1000
"""Heads that are remembered."""
LONGEST = 2048
"""Bytes of each."""
_END = b"\r\n\r\n"
_KEY, _TOKEN = "idempotency-key", "x-internal-token"
_KEY_LINE = re.compile(rb"\r\nidempotency-key: ([!-~](?:[ -~]*[!-~])?)(?=\r\n|\Z)", re.IGNORECASE)
"""As it is usually written. Whatever else may be a header of that name is left to the parser."""


class Known(NamedTuple):
    """A whole request behind a head that has come before."""

    headers: dict[str, str]
    """Those that are looked at, by their lower-case names. Others may have the same: nobody changes them."""
    body: bytes


class Heads:
    """Remembers what heads mean."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[dict[str, str], int]] = {}
        """By the head without the line of a key: its headers, and the length of the body."""

    def find(self, data: bytes) -> Known | None:
        """The request that some bytes are, exactly and as a whole; None: ask the parser."""
        end = data.find(_END)
        if not 0 < end <= LONGEST:
            return None
        head, key = data[:end], None
        known = self._known.get(head)
        if known is None:
            head, key = _without_key(head)
            known = None if key is None else self._known.get(head)
            if known is None:
                return None
        headers, length = known
        if len(data) - end - len(_END) != length:
            return None
        return Known(headers if key is None else {**headers, _KEY: key}, data[end + len(_END) :])

    def learn(self, data: bytes, headers: dict[str, str]) -> None:
        """Remembers what the parser made of the head with which some bytes begin, of a request whose body has the
        length that one of its headers says."""
        end = data.find(_END)
        if not 0 < end <= LONGEST or not data.startswith(b"POST /") or headers.get(_TOKEN, "").startswith(OF_CALL):
            return  # the last is another one for each call
        head, key = _without_key(data[:end])
        if key != headers.get(_KEY) or not _is_plain(head):
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        rest = {name: value for name, value in headers.items() if name != _KEY}
        self._known[head] = rest, int(headers["content-length"])


def _without_key(head: bytes) -> tuple[bytes, str | None]:
    """A head without the first line of an `Idempotency-Key`, and what that says."""
    found = _KEY_LINE.search(head)
    return (head, None) if found is None else (head[: found.start()] + head[found.end() :], found[1].decode())


def _is_plain(head: bytes) -> bool:
    """Whether each line of a head is a header, and says the same whichever lines stand around it."""
    lines = head.count(b"\r\n")
    return lines == head.count(b"\r") == head.count(b"\n") and b"\r\n " not in head and b"\r\n\t" not in head
