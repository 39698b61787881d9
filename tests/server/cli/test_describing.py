"""What is told of a function, so that it can be called."""

from typing import Any

from gateway_server.cli.describing import head, parts
from gateway_server.prefabs.functions import Function, read_function
from gateway_server.prefabs.problems import Report


def function(**members: Any) -> Function:
    found = read_function({"name": "analyze", **members}, "", Report())
    assert found is not None
    return found


def test_parameters():
    told = function(
        parameters=[
            {"name": "text", "type": "string", "description": "Any text."},
            {"name": "columns", "type": "array", "items": {"type": "string"}, "required": False},
            {"name": "language", "type": "string", "enum": ["en", "zh"], "required": False, "default": "en"},
            {"name": "limit", "type": "integer", "required": False, "default": None},
        ]
    )
    assert head(told) == "analyze(text, columns?, language?, limit?)"
    assert list(parts(told)) == [
        "text: string - Any text.",
        "columns?: array of string",
        'language?: "en" | "zh" = "en"',
        "limit?: integer = null",
    ]


def test_files():
    group = {"type": "array", "items": {"type": "InputFile"}}
    files = {
        "docs": {**group, "maxItems": 1, "description": "A report."},
        "more": {**group, "required": False},
        "out": {"type": "array", "items": {"type": "OutputFile"}},
    }
    assert list(parts(function(files=files))) == [
        "file docs: -f docs=PATH - A report.",
        "file more?: -f more=PATH (may be given several times)",
        "writes files out",
    ]
