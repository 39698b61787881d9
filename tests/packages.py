"""Prefab packages for tests, written from a module's source: the manifest is derived from its functions."""

import ast
import json
import textwrap
from pathlib import Path
from typing import Any

ZOO = Path(__file__).parent / "zoo"
TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}


def write_package(
    folder: Path,
    source: str,
    *,
    prefab_id: str = "sample",
    version: str = "1.0.0",
    dependencies: tuple[str, ...] = (),
    functions: dict[str, dict[str, Any]] | None = None,
    manifest: dict[str, Any] | None = None,
) -> Path:
    """Writes a complete package; `functions` and `manifest` add to what the source says."""
    source = textwrap.dedent(source)
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "__init__.py").write_text("")
    (folder / "src" / "main.py").write_text(source)
    whole = {
        "schema_version": "1.0",
        "id": prefab_id,
        "version": version,
        "name": prefab_id.title(),
        "description": f"{prefab_id} for tests",
        "author": "tests",
        "github_url": "",
        "tags": [],
        "entry_point": "src/main.py",
        "dependencies_file": "pyproject.toml",
        "functions": [{**function, **(functions or {}).get(function["name"], {})} for function in _functions(source)],
        "execution_environment": {"cpu": "500m", "memory": "256Mi"},
        **(manifest or {}),
    }
    (folder / "prefab-manifest.json").write_text(json.dumps(whole, ensure_ascii=False, indent=2))
    (folder / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
        f"[project]\nname = '{prefab_id}'\nversion = '{version}'\ndependencies = {json.dumps(list(dependencies))}\n"
        "[tool.hatch.build.targets.wheel]\npackages = ['src']\n"
        "[tool.hatch.build.targets.wheel.force-include]\n'prefab-manifest.json' = 'prefab-manifest.json'\n"
    )
    return folder


def zoo(folder: Path, name: str, **options: Any) -> Path:
    """One of the misbehaving packages of tests/zoo."""
    source = (ZOO / f"{name}.py").read_text()
    return write_package(folder, source, prefab_id=options.pop("prefab_id", name.replace("_", "-")), **options)


def _functions(source: str) -> list[dict[str, Any]]:
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found.append(
                {
                    "name": node.name,
                    "description": ast.get_docstring(node) or node.name,
                    "parameters": list(_parameters(node)),
                    "returns": {"type": "object", "properties": {}},
                }
            )
    return found


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Any:
    arguments = node.args.args
    without_default = len(arguments) - len(node.args.defaults)
    for at, argument in enumerate(arguments):
        kind = argument.annotation.id if isinstance(argument.annotation, ast.Name) else "str"
        entry = {"name": argument.arg, "type": TYPES[kind], "description": "", "required": at < without_default}
        if at >= without_default:
            entry["default"] = ast.literal_eval(node.args.defaults[at - without_default])
        yield entry
