"""The JSON texts that workers send, held against what they may be. Pure.

They become parts of larger texts and of streams, and the package could have written any bytes itself: what is not
exactly one value could forge the results, or the events, beside it. This looks at the bytes and builds nothing.
"""

import json
from typing import Any, Literal

import msgspec

from gateway_server.errors import RuntimeCrashed

_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_TOO_MANY_DIGITS = b"0" * 4301
"""No Python reads a number of so many, and one that cannot be read would take the results beside it along."""


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


def _check(decoder: "msgspec.json.Decoder[Any]", text: bytes, what: str) -> None:
    try:
        decoder.decode(text)
        if not text.isascii():
            text.decode()  # the decoder passes over what it has no use for
        if len(text) >= len(_TOO_MANY_DIGITS) and _TOO_MANY_DIGITS in text.translate(_DIGITS):
            json.loads(text)  # they may stand in a text
    except (ValueError, RecursionError) as error:  # those of the decoder and of texts that are no UTF-8 are ValueErrors
        reason = "is nested too deep" if isinstance(error, RecursionError) else "is no JSON, or not what it may be"
        raise RuntimeCrashed(f"The process that ran the function sent {what} that {reason}.") from error
