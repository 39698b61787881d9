"""The schema that editors get agrees with what the gateway takes, warns about and refuses."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner

from gateway_server.cli.init import init
from gateway_server.prefabs.functions import RESERVED_NAMES
from gateway_server.prefabs.manifest import PackageError, parse_manifest
from gateway_server.prefabs.parameters import TYPES

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "docs/schemas/prefab-manifest.schema.json").read_text("utf-8"))
EDITOR = jsonschema_rs.Draft202012Validator(SCHEMA)
OURS = sorted([*ROOT.glob("prefabs/*/prefab-manifest.json"), *ROOT.glob("examples/*/prefab-manifest.json")])

GOOD: dict[str, Any] = {
    "$schema": "https://example.org/prefab-manifest.schema.json",
    "schema_version": "1.0",
    "id": "word-tools",
    "version": "1.0.0",
    "name": "Word tools",
    "tags": ["text"],
    "entry_point": "src/main.py",
    "dependencies_file": "pyproject.toml",
    "functions": [
        {
            "name": "count",
            "parameters": [
                {"name": "text", "type": "string", "enum": ["a", "b"], "default": "a"},
                {"name": "rows", "type": "array", "items": {"type": "array", "items": "integer"}},
            ],
            "returns": {"type": "object", "properties": {"count": {"type": "integer"}}},
            "files": {"input": {"type": "array", "items": {"type": "InputFile"}, "minItems": 1, "maxItems": 2}},
            "secrets": [{"name": "API_KEY", "required": False}],
            "streaming": True,
            "timeout": 30,
        },
        {"name": "other"},
    ],
    "execution_environment": {"cpu": "500m", "memory": "256Mi"},
    "network": False,
}
COUNT = ("functions", 0)
BAD = [
    (("id",), "Word_Tools"),
    (("id",), "ab"),
    (("id",), None),
    (("version",), "1.0"),
    (("version",), "1.0.0-beta"),
    (("version",), "01.0.0"),
    (("schema_version",), "2.0"),
    (("name",), 5),
    (("tags",), "text"),
    (("tags",), [1]),
    (("entry_point",), "main.py"),
    (("entry_point",), "src/../main.py"),
    (("dependencies_file",), "requirements.txt"),
    (("functions",), []),
    (("functions",), {}),
    (("network",), "no"),
    (("execution_environment",), "large"),
    (("execution_environment", "cpu"), "much"),
    (("execution_environment", "memory"), "512Xi"),
    ((*COUNT, "name"), "not a name"),
    ((*COUNT, "name"), "class"),
    ((*COUNT, "description"), []),
    ((*COUNT, "streaming"), "yes"),
    ((*COUNT, "timeout"), 0),
    ((*COUNT, "timeout"), 100_000),
    ((*COUNT, "parameters"), {"text": "string"}),
    ((*COUNT, "parameters", 0, "name"), ""),
    ((*COUNT, "parameters", 0, "name"), "two words"),
    ((*COUNT, "parameters", 0, "type"), "str"),
    ((*COUNT, "parameters", 0, "type"), "tuple"),
    ((*COUNT, "parameters", 0, "type"), "InputFile"),
    ((*COUNT, "parameters", 0, "required"), "false"),
    ((*COUNT, "parameters", 0, "default"), 5),
    ((*COUNT, "parameters", 0, "enum"), []),
    ((*COUNT, "parameters", 0, "enum"), ["a", 5]),
    ((*COUNT, "parameters", 1, "items", "items"), "list"),
    ((*COUNT, "returns", "type"), "OutputFile"),
    ((*COUNT, "returns", "properties", "count"), {"type": "OutputFile"}),
    ((*COUNT, "files"), ["input"]),
    ((*COUNT, "files", "../input"), {"type": "array", "items": {"type": "InputFile"}}),
    ((*COUNT, "files", "input"), {"type": "InputFile"}),
    ((*COUNT, "files", "input", "items"), {"type": "File"}),
    ((*COUNT, "files", "input", "minItems"), -1),
    ((*COUNT, "files", "input", "maxItems"), 0),
    ((*COUNT, "files", "input", "maxItems"), "2"),
    ((*COUNT, "secrets"), {"API_KEY": {}}),
    ((*COUNT, "secrets", 0, "name"), "api-key"),
    *(((*COUNT, "secrets", 0, "name"), name) for name in sorted(RESERVED_NAMES)),
]


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    manifest = copy.deepcopy(GOOD)
    place: Any = manifest
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return manifest


def complaints(manifest: dict[str, Any]) -> list[str]:
    """What the gateway says of a manifest, warnings included."""
    try:
        return [problem.pointer for problem in parse_manifest(manifest).warnings]
    except PackageError as error:
        return [str(error)]


def test_the_schema_is_one():
    jsonschema_rs.meta.validate(SCHEMA)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.parent.name)
def test_our_prefabs_keep_to_it(path):
    assert [error.message for error in EDITOR.iter_errors(json.loads(path.read_text("utf-8")))] == []


def test_what_init_writes_keeps_to_it(tmp_path):
    assert CliRunner().invoke(init, [str(tmp_path / "my-prefab")]).exit_code == 0
    EDITOR.validate(json.loads((tmp_path / "my-prefab" / "prefab-manifest.json").read_text("utf-8")))


def test_a_manifest_that_uses_everything_is_taken_by_both():
    assert complaints(GOOD) == []
    EDITOR.validate(GOOD)


@pytest.mark.parametrize(("path", "value"), BAD, ids=lambda part: json.dumps(part)[:60])
def test_what_the_gateway_refuses_or_warns_about_is_marked_by_the_editor(path, value):
    manifest = changed(path, value)
    assert complaints(manifest) != []
    assert not EDITOR.is_valid(manifest)


def test_the_types_are_those_of_the_gateway():
    assert tuple(SCHEMA["$defs"]["type"]["enum"]) == TYPES
