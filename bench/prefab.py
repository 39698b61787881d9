"""The prefab that the product is measured with, as the archive that publishing takes, under any id."""

import io
import json
import tarfile
from typing import Any

ID, VERSION = "bench", "1.0.0"
SECRET = "BENCH_TOKEN"
SOURCE = '''"""What is measured."""

import os
import time
from pathlib import Path


def echo(text: str):
    return {"success": True, "echo": text}


def reads_secret(text: str):
    return {"success": bool(os.environ["BENCH_TOKEN"]), "echo": text}


def reads_file(text: str):
    return {"success": True, "echo": text, "size": next(Path("data/inputs/input").iterdir()).stat().st_size}


def writes_files(text: str, n: int):
    for number in range(n):
        Path("data/outputs", f"{number}.txt").write_text(text)
    return {"success": True, "echo": text}


def waits(seconds: float):
    time.sleep(seconds)
    return {"success": True}


def events(n: int, delay: float = 0.0):
    for number in range(n):
        if number and delay:
            time.sleep(delay)
        yield {"type": "content", "data": f"token {number}"}


async def events_async(n: int):
    for number in range(n):
        yield {"type": "content", "data": f"token {number}"}
'''
_TEXT = {"name": "text", "type": "string", "description": "Any text", "required": True}
_FILES = {"input": {"type": "array", "items": {"type": "InputFile"}, "description": "One file", "required": True}}
_NUMBER = {"name": "n", "type": "integer", "description": "How many", "required": True}
_FUNCTIONS: dict[str, dict[str, Any]] = {
    "echo": {},
    "reads_secret": {"secrets": [{"name": SECRET, "description": "Any text", "required": True}]},
    "reads_file": {"files": _FILES},
    "writes_files": {"parameters": [_TEXT, _NUMBER]},
    "waits": {"parameters": [{"name": "seconds", "type": "number", "description": "How long", "required": True}]},
    "events": {
        "parameters": [
            _NUMBER,
            {"name": "delay", "type": "number", "description": "Between two", "required": False, "default": 0.0},
        ]
    },
    "events_async": {"parameters": [_NUMBER]},
}


def archive(prefab_id: str = ID, version: str = VERSION) -> bytes:
    """The package without dependencies under an id of its own."""
    manifest = {
        "schema_version": "1.0",
        "id": prefab_id,
        "version": version,
        "name": prefab_id,
        "description": "What is measured",
        "author": "bench",
        "github_url": "",
        "tags": [],
        "entry_point": "src/main.py",
        "dependencies_file": "pyproject.toml",
        "functions": [_function(name, more) for name, more in _FUNCTIONS.items()],
        "execution_environment": {"cpu": "1", "memory": "256Mi"},
    }
    files = {
        "prefab-manifest.json": json.dumps(manifest),
        "pyproject.toml": f"[project]\nname = '{prefab_id}'\nversion = '{version}'\ndependencies = []\n",
        "src/__init__.py": "",
        "src/main.py": SOURCE,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data := text.encode())
            packed.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def call(function: str, prefab_id: str = ID, *, stream: bool = False, files: Any = None, **parameters: Any) -> Any:
    """The body of a run."""
    inputs = {"parameters": parameters} if files is None else {"parameters": parameters, "files": files}
    one = {"prefab_id": prefab_id, "version": VERSION, "function_name": function, "inputs": inputs}
    return {"calls": [one], "stream": stream}


def _function(name: str, more: dict[str, Any]) -> dict[str, Any]:
    returns = {"type": "object", "properties": {}}
    return {"name": name, "description": name, "parameters": [_TEXT], "returns": returns, **more}
