"""Packages made for one test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway_server.prefabs.environments import Environments, sdk_wheel

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "hello-world"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["Six >= 1.10", "humanize<5,>=4; python_version > '3.0'"]

[project.optional-dependencies]
dev = ["pytest"]

[tool.hatch.build.targets.wheel]
packages = ["src"]

[tool.hatch.build.targets.wheel.force-include]
"prefab-manifest.json" = "prefab-manifest.json"
"""


def manifest(**changes: Any) -> dict[str, Any]:
    """A small valid manifest, with some of its members changed."""
    function = {"name": "greet", "description": "Says hello.", "parameters": [{"name": "name", "type": "string"}]}
    return {"schema_version": "1.0", "id": "hello-world", "version": "1.0.0", "functions": [function]} | changes


def function(**changes: Any) -> dict[str, Any]:
    return {"name": "greet"} | changes


WriteFiles = Callable[[Mapping[str, str | bytes]], Path]


@pytest.fixture
def write_files(tmp_path: Path) -> WriteFiles:
    """Writes files below a folder of the test and returns the folder."""

    def write(files: Mapping[str, str | bytes]) -> Path:
        root = tmp_path / "package"
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write


@pytest.fixture
def package_folder(write_files: WriteFiles) -> Path:
    return write_files(
        {
            "prefab-manifest.json": json.dumps(manifest()),
            "pyproject.toml": PYPROJECT,
            "README.md": "# Hello\n",
            "src/__init__.py": "",
            "src/main.py": "def greet(name):\n    return {'text': f'Hello, {name}'}\n",
            "src/data/词典.txt": "你好\n",
            "src/__pycache__/main.cpython-311.pyc": b"\0",
            "tests/test_main.py": "",
        }
    )


@pytest.fixture
def environments(tmp_path: Path) -> Environments:
    wheel = sdk_wheel(tmp_path / "sdk")
    return Environments(tmp_path / "environments", lambda: wheel)


@pytest.fixture
def offline_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that refuses the connection, and a uv that does not try again."""
    for name in [name for name in os.environ if name.startswith("UV_") and "INDEX" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
