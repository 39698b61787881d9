"""What one has to know to call a function, as lines of text. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from gateway_server.prefabs.functions import Function, Secret
from gateway_server.prefabs.parameters import Parameter


def head(told: Function) -> str:
    """Its name with those of its parameters."""
    return f"{told.name}({', '.join(item.name + _mark(item.required) for item in told.parameters)})"


def parts(told: Function) -> Iterator[str]:
    """A line for each thing that it takes or writes."""
    for parameter in told.parameters:
        yield _with(_parameter(parameter), parameter.description)
    for key, group in told.inputs.items():
        repeated = "" if group.max_items == 1 else " (may be given several times)"
        yield _with(f"file {key}{_mark(group.min_items > 0)}: -f {key}=PATH{repeated}", group.description)
    for key, group in told.outputs.items():
        yield _with(f"writes files {key}", group.description)
    for secret in told.secrets:
        yield _secret(secret)


def _mark(is_required: bool) -> str:
    return "" if is_required else "?"


def _with(what: str, about: str) -> str:
    return f"{what} - {about}" if about else what


def _parameter(item: Parameter) -> str:
    kind = item.type
    if item.enum:
        kind = " | ".join(_json(choice) for choice in item.enum)
    elif item.items and isinstance(item.items.get("type"), str):
        kind = f"{item.type} of {item.items['type']}"
    default = f" = {_json(item.default)}" if item.has_default else ""
    return f"{item.name}{_mark(item.required)}: {kind}{default}"


def _secret(secret: Secret) -> str:
    optional = "" if secret.required else " (optional)"
    return f"secret {secret.name}{optional}" + (f": {secret.description}" if secret.description else "")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
