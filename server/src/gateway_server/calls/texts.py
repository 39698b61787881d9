"""The JSON texts that workers send, held against what they may be. Pure.

They become parts of larger texts and of streams, and the package could have written any bytes itself: what is not
exactly one value could forge the results, or the events, beside it. This looks at the bytes and builds nothing.
"""

import json
from typing import Any, Literal

import msgspec

from gateway_server.errors import RuntimeCrashed

_DIGITS = b"0123456789"
_MOST_DIGITS = 4300
"""No Python reads a number of more, and one that cannot be read would take the results beside it along."""


class _Event(msgspec.Struct):
    type: Literal["start", "content", "progress"]


_value: msgspec.json.Decoder[Any] = msgspec.json.Decoder(msgspec.Raw)
_event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Event)


def check_result(text: bytes) -> None:
    """Refuses what is not one JSON value.

    Raises:
        RuntimeCrashed: a process that sends it is not to be trusted.
    """
    _check(_value, text, "a result")


def check_event(text: bytes) -> None:
    """Refuses what is not an event on the way: a function says by its result how its stream ends.

    Raises:
        RuntimeCrashed: the same.
    """
    _check(_event, text, "an event")


def _has_many_digits(text: bytes) -> bool:
    """Whether more digits than may be stand in a row. So many reach over one of the places that are looked at."""
    for at in range(_MOST_DIGITS, len(text), _MOST_DIGITS):
        if text[at] in _DIGITS:
            before, behind = text[max(0, at - _MOST_DIGITS) : at], text[at : at + _MOST_DIGITS + 1]
            row = len(before) - len(before.rstrip(_DIGITS)) + len(behind) - len(behind.lstrip(_DIGITS))
            if row > _MOST_DIGITS:
                return True
    return False


def _check(decoder: "msgspec.json.Decoder[Any]", text: bytes, what: str) -> None:
    try:
        decoder.decode(text)
        if not text.isascii():
            text.decode()  # the decoder passes over what it has no use for
        if len(text) > _MOST_DIGITS and _has_many_digits(text):
            json.loads(text)  # they may stand in a text
    except (ValueError, RecursionError) as error:  # those of the decoder and of texts that are no UTF-8 are ValueErrors
        reason = "is nested too deep" if isinstance(error, RecursionError) else "is no JSON, or not what it may be"
        raise RuntimeCrashed(f"The process that ran the function sent {what} that {reason}.") from error
