"""JSON to values, in fewer steps than `json.loads` takes."""

from __future__ import annotations

import json
from typing import Any

_decode = json.JSONDecoder().raw_decode


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
