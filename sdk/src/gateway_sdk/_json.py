"""JSON to bytes and back in fewer steps than `json.dumps` and `json.loads` take."""

from __future__ import annotations

import json
from json import encoder

from ._typing import Any

_decode = json.JSONDecoder().raw_decode
# A circle in a value is found by its depth, which costs those without one nothing.
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def _in_c() -> Any:
    """What the standard library makes anew for each value; None where it has no such thing."""
    make = getattr(encoder, "c_make_encoder", None)
    text = getattr(encoder, "c_encode_basestring", None)
    return make and text and make(None, _encoder.default, text, None, ":", ",", False, False, False)


_encode = _in_c()


def encode(value: Any) -> str:
    """JSON without needless white space.

    Raises:
        TypeError, ValueError, RecursionError: the value cannot be JSON.
    """
    return "".join(_encode(value, 0)) if _encode else _encoder.encode(value)


def loads(data: bytes) -> Any:
    """The same value as `json.loads(data)`, and the same errors.

    It guesses the encoding and looks for white space on either side; what a gateway sends is UTF-8 without any, and
    nothing has to be looked for. Whatever is otherwise, the standard library decides.
    """
    try:
        text = data.decode()
        value, end = _decode(text)
    except ValueError:
        return json.loads(data)
    return value if end == len(text) else json.loads(data)
