"""What a manifest promises, the code keeps: names, versions, parameters and defaults."""

import ast
import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(
    path.parent for area in ("prefabs", "examples") for path in ROOT.glob(f"{area}/*/prefab-manifest.json")
)
LEFT_OUT = object()


def described(parameter):
    required = parameter.get("required", True)
    return parameter["name"], required, None if required else parameter.get("default")


def written(function):
    arguments = function.args.args
    defaults = [LEFT_OUT] * (len(arguments) - len(function.args.defaults))
    defaults += [ast.literal_eval(default) for default in function.args.defaults]
    pairs = zip(arguments, defaults, strict=True)
    return [(argument.arg, value is LEFT_OUT, None if value is LEFT_OUT else value) for argument, value in pairs]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_manifest(folder):
    manifest = json.loads((folder / "prefab-manifest.json").read_text("utf-8"))
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert manifest["schema_version"] == "1.0"
    assert manifest["id"] == project["name"] == folder.name
    assert manifest["version"] == project["version"]
    module = ast.parse((folder / manifest["entry_point"]).read_text("utf-8"))
    code = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    assert [function["name"] for function in manifest["functions"]] == [n for n in code if not n.startswith("_")]
    for function in manifest["functions"]:
        assert [described(p) for p in function["parameters"]] == written(code[function["name"]])
        for group in function.get("files", {}).values():
            assert group["items"]["type"] in ("InputFile", "OutputFile")
