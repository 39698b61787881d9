"""JSON Schemas (2020-12) of what a function may be called with."""

from __future__ import annotations

from typing import Any

from gateway_server.prefabs.functions import FileGroup, Function
from gateway_server.prefabs.parameters import Parameter

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def parameters_schema(function: Function) -> dict[str, Any]:
    """Schema of the `parameters` object of a call."""
    return _closed_object(
        {parameter.name: _parameter_schema(parameter) for parameter in function.parameters},
        [parameter.name for parameter in function.parameters if parameter.required],
    )


def files_schema(function: Function) -> dict[str, Any]:
    """Schema of the `files` object of a call: lists of addresses for the input groups."""
    return _closed_object(
        {key: _group_schema(group) for key, group in function.inputs.items()},
        [key for key, group in function.inputs.items() if group.required],
    )


def _closed_object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _parameter_schema(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    nullable = (parameter.has_default and parameter.default is None) or None in (parameter.enum or ())
    if parameter.type != "any":
        schema["type"] = [parameter.type, "null"] if nullable else parameter.type
    if parameter.enum is not None:
        schema["enum"] = [*(v for v in parameter.enum if v is not None), *([None] if nullable else [])]
    if parameter.items is not None:
        schema["items"] = parameter.items
    if parameter.description:
        schema["description"] = parameter.description
    if parameter.has_default:
        schema["default"] = parameter.default
    return schema


def _group_schema(group: FileGroup) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}}
    if group.min_items:
        schema["minItems"] = group.min_items
    if group.max_items is not None:
        schema["maxItems"] = group.max_items
    if group.description:
        schema["description"] = group.description
    return schema
