"""Numbers of JSON bodies."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def _no_other_type(value: object) -> object:
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


Whole = Annotated[int, BeforeValidator(_no_other_type)]
"""A whole number of a JSON body, where `true` and `"3"` are none and `3.0` is one, as JSON Schema has it."""
