"""One prefab in a test as at run time: a fresh workspace, keyword arguments, files by key.

The code package of every prefab is named `src`, so each is imported from its folder under a private name.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


class Prefab:
    def __init__(self, folder: Path, workspace: Path) -> None:
        self.folder = folder
        self.workspace = workspace
        self.manifest: dict[str, Any] = json.loads((folder / "prefab-manifest.json").read_text("utf-8"))
        self.package = f"prefab_{folder.name.replace('-', '_')}"
        self.main = self.module("main")

    def module(self, name: str) -> ModuleType:
        """A module of the prefab's `src` package."""
        if self.package not in sys.modules:
            source = self.folder / "src"
            spec = importlib.util.spec_from_file_location(
                self.package, source / "__init__.py", submodule_search_locations=[str(source)]
            )
            sys.modules[self.package] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[self.package])
        return importlib.import_module(f"{self.package}.{name}")

    def put(self, key: str, name: str, content: bytes | str) -> Path:
        """An input file, as the caller uploaded it."""
        path = self.workspace / "data" / "inputs" / key / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def call(self, function: str, **arguments: Any) -> Any:
        """The function's result; it must be JSON, strictly."""
        result = getattr(self.main, function)(**arguments)
        if not isinstance(result, Iterator):
            json.dumps(result, allow_nan=False)
        return result

    def outputs(self) -> dict[str, bytes]:
        root = self.workspace / "data" / "outputs"
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def prefab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prefab:
    """The prefab in whose folder the test stands, in an empty workspace."""
    folder = next(p for p in request.path.parents if (p / "prefab-manifest.json").exists())
    (tmp_path / "data" / "outputs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return Prefab(folder, tmp_path)
