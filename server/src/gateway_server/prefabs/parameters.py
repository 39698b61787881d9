"""The parameters of a function, read from a manifest that may hold mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway_server.prefabs.problems import Report, is_plain, show, step

TYPES = ("string", "number", "integer", "boolean", "object", "array")
ALIASES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "any": "any",
}
#: As the type of a parameter or of a return value they belong to an older package format.
OLDER_TYPES = frozenset({"InputFile", "OutputFile"})


class Unreadable(Exception):
    """A part of a function that cannot be understood: that function is disabled, the others are not."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(reason)
        self.pointer = pointer
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One argument of a function."""

    name: str
    #: One of TYPES, or `any`.
    type: str
    #: As the manifest says; where it says nothing, a parameter is required unless it has a default.
    required: bool = True
    #: Documents what the function itself does without an argument; it is never passed in its place.
    default: Any = None
    has_default: bool = False
    enum: tuple[Any, ...] | None = None
    #: Schema of the elements of an array: `type`, `enum` and `items` only.
    items: Mapping[str, Any] | None = None
    description: str = ""


def read_parameters(raw: object, pointer: str, report: Report) -> tuple[Parameter, ...]:
    """The parameters of one function; Unreadable if one cannot be understood."""
    if raw is None or raw == {}:
        return ()
    if not isinstance(raw, list):
        raise Unreadable(pointer, "`parameters` must be an array")
    parameters: dict[str, Parameter] = {}
    for index, item in enumerate(raw):
        parameter = _read_parameter(item, step(pointer, index), report)
        if parameter.name in parameters:
            report.warn(step(pointer, index), f"the parameter {parameter.name!r} stands twice; the first one counts")
        parameters.setdefault(parameter.name, parameter)
    return tuple(parameters.values())


def _read_parameter(raw: object, pointer: str, report: Report) -> Parameter:
    if not isinstance(raw, dict):
        raise Unreadable(pointer, f"a parameter must be an object, not {show(raw)}")
    name = raw.get("name")
    if not isinstance(name, str) or not name or not is_plain(name) or len(name) > 200:
        raise Unreadable(step(pointer, "name"), f"a parameter must have a name, not {show(name)}")
    if not name.isidentifier():
        report.warn(step(pointer, "name"), f"only a function with **kwargs can take a parameter called {show(name)}")
    kind = _read_type(raw.get("type"), step(pointer, "type"), report)
    has_default = "default" in raw
    default = raw.get("default")
    if has_default and default is not None and not matches(default, kind):
        report.warn(step(pointer, "default"), f"the default {show(default)} is not of type {kind}")
    enum = _read_enum(raw.get("enum"), kind, step(pointer, "enum"), report)
    if enum is not None and has_default and default is not None and default not in enum:
        report.warn(step(pointer, "default"), f"the default {show(default)} is not among the enum's values")
    return Parameter(
        name=name,
        type=kind,
        required=read_flag(raw, "required", not has_default, pointer, report),
        default=default,
        has_default=has_default,
        enum=enum,
        items=_read_items(raw.get("items"), step(pointer, "items"), report) if kind == "array" else None,
        description=read_text(raw, "description", pointer, report),
    )


def _read_type(raw: object, pointer: str, report: Report) -> str:
    if isinstance(raw, str):
        if raw in TYPES:
            return raw
        meant = raw.lower() if raw.lower() in TYPES else ALIASES.get(raw.lower())
        if meant is not None:
            report.warn(pointer, f"the type {raw!r} is read as {meant!r}")
            return meant
    known = ", ".join(TYPES)
    raise Unreadable(pointer, f"the type must be one of {known}, not {show(raw)}")


def _read_enum(raw: object, kind: str, pointer: str, report: Report) -> tuple[Any, ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or not raw:
        report.warn(pointer, "an enum must be an array of at least one value; it is ignored")
        return None
    fitting = tuple(value for value in raw if value is None or matches(value, kind))
    if len(fitting) < len(raw):
        report.warn(pointer, f"not every value of the enum is of type {kind}")
    if not fitting:
        report.warn(pointer, f"no value of the enum is of type {kind}; the enum is ignored")
        return None
    return fitting


def _read_items(raw: object, pointer: str, report: Report) -> Mapping[str, Any] | None:
    """Only `type`, `enum` and `items` of an element schema count: patterns and references of strangers do not."""
    if raw is None or raw == {}:
        return None
    described = raw if isinstance(raw, dict) else {"type": raw}
    if "type" not in described:
        return None
    try:
        kind = _read_type(described["type"], step(pointer, "type") if described is raw else pointer, report)
    except Unreadable as error:
        report.warn(error.pointer, f"{error.reason}; the elements are not checked")
        return None
    schema: dict[str, Any] = {} if kind == "any" else {"type": kind}
    enum = _read_enum(described.get("enum"), kind, step(pointer, "enum"), report)
    if enum is not None:
        schema["enum"] = list(enum)
    nested = _read_items(described.get("items"), step(pointer, "items"), report) if kind == "array" else None
    if nested is not None:
        schema["items"] = nested
    return schema


def matches(value: object, kind: str) -> bool:
    """Whether a value is of a manifest type, as JSON Schema sees it: 1.0 is an integer, true is not."""
    if kind == "any":
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and value == int(value))
    python: dict[str, type] = {"string": str, "object": dict, "array": list}
    return kind in python and isinstance(value, python[kind])


def read_flag(raw: Mapping[str, Any], key: str, default: bool, pointer: str, report: Report) -> bool:
    """A true or false of the manifest; anything else is read as what was meant, with a warning."""
    value = raw.get(key)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    meant = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
    answer = default if meant is None else meant
    report.warn(step(pointer, key), f"must be true or false, not {show(value)}; read as {str(answer).lower()}")
    return answer


def read_text(raw: Mapping[str, Any], key: str, pointer: str, report: Report) -> str:
    """A text of the manifest; anything else is ignored, with a warning."""
    value = raw.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    report.warn(step(pointer, key), f"must be text, not {show(value)}; it is ignored")
    return ""
