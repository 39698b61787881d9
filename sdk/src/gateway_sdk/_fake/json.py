"""Values of functions as JSON: the rules by which the runtime encodes them, for `testing.FakeGateway`.

The SDK cannot import the runtime; a test holds the two against each other.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Mapping
from typing import Any


def as_json(value: object) -> Any:
    """What a client gets of a value. NaN and infinities become None; dates, paths, sets and number-like objects plain.

    Raises:
        TypeError: JSON cannot hold the value; the message names its type.
        ValueError: the value contains itself.
    """
    return json.loads(encode(value))


def encode(value: object) -> bytes:
    """The same as JSON text in UTF-8.

    Raises:
        TypeError, ValueError: the same.
    """
    try:
        text = _encoder.encode(value)
    except ValueError as error:
        if "Circular" in str(error):
            raise ValueError("the result contains itself, which JSON cannot hold") from None
        text = _lenient.encode(_finite(value))
    except TypeError as error:
        if "keys must be" not in str(error):
            raise
        text = _lenient.encode(_finite(value))
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates, as file names of unknown encoding hold them
        return text.encode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    for name in ("model_dump", "tolist", "item", "_asdict"):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method()
    if isinstance(value, Mapping):
        return dict(value)
    kind = type(value)
    raise TypeError(f"the function returned a {kind.__module__}.{kind.__qualname__}, which JSON cannot hold")


def _finite(value: object) -> object:
    """A copy without NaN and infinities, with every key one that JSON can hold."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {_key(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    return _finite(_plain(value))


def _key(key: object) -> object:
    return key if isinstance(key, str | int | float | None) else str(key)


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
_lenient = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain)
