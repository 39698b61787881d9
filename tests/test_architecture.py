"""The tree keeps its order: imports point downward and stand at the top, modules stay small, all is explained."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway_server.api.calls import PATHS
from gateway_server.api.paths import REST
from gateway_server.api.submitting import PATH as SUBMIT_PATH
from gateway_server.app import create_app
from gateway_server.settings import Settings

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "server/src/gateway_server"
SDK = ROOT / "sdk/src/gateway_sdk"
RUNTIME = ROOT / "runtime/src/gateway_runtime"
LONGEST = 500

EVERYBODY = {"models", "errors", "settings", "threads"}
"""May be imported from everywhere, and import nothing but each other."""
BELOW: dict[str, set[str]] = {
    "cli": {"app", "api", "calls", "engine", "prefabs", "files", "identity", "store"},
    "app": {"api", "calls", "engine", "prefabs", "files", "identity", "store"},
    "api": {"calls", "engine", "prefabs", "files", "identity", "store"},
    "calls": {"engine", "prefabs", "files", "identity", "store"},
    "engine": set(),
    "prefabs": {"identity", "store"},
    "files": {"identity", "store"},
    "identity": {"store"},
    "store": set(),
    **{name: set[str]() for name in EVERYBODY},
}
"""What each part of the server may import besides itself and EVERYBODY. Engine and store never meet."""

LATE = {
    "gateway_server/cli/__init__.py": {"gateway_server.cli.commands"},  # within what answers Ctrl-C
    "gateway_server/cli/terminal.py": {"rich.console", "rich.progress"},
    "gateway_server/cli/http.py": {
        "httpx",
        "gateway_sdk._connection",
        "gateway_sdk._request",
        "gateway_sdk.exceptions",
    },
    "gateway_server/cli/agent_call.py": {"httpx"},
    "gateway_server/cli/run.py": {"gateway_server.cli.calling"},
    "gateway_server/cli/file.py": {"gateway_server.cli.calling"},
    "gateway_server/cli/job.py": {"gateway_server.cli.calling"},
    "gateway_server/cli/serve.py": {"gateway_server.cli.serving"},
    "gateway_server/cli/dev.py": {"gateway_server.cli.developing"},
    "gateway_server/cli/package.py": {"gateway_server.cli.package_check", "gateway_server.cli.package_run"},
    "gateway_server/cli/doctor.py": {"gateway_server.cli.examining"},
    "gateway_server/cli/backup.py": {"gateway_server.store.backup"},
    "gateway_server/cli/secret.py": {"gateway_server.store.master_key"},
    "gateway_server/store/migrations/__init__.py": {"alembic", "alembic.config"},
    "gateway_sdk/__init__.py": {"importlib"},
    "gateway_sdk/_blocking.py": {"concurrent.futures"},
    "gateway_sdk/_digest.py": {"queue"},
    "gateway_sdk/_local_file.py": {"hashlib"},
    "gateway_sdk/_wire.py": {"base64", "datetime"},
    "gateway_sdk/_httpx.py": {"http.cookiejar", "httpx"},
    "gateway_sdk/_async_httpx.py": {"http.cookiejar", "httpx"},
}
"""Imports inside functions: what is heavy, optional, or slow to load where most callers never need it."""


class Import(NamedTuple):
    """One imported module, and whether it stands at the top of its file."""

    module: str
    line: int
    is_late: bool


def sources(package: Path) -> list[Path]:
    """The package's own modules."""
    return sorted(path for path in package.rglob("*.py") if "templates" not in path.relative_to(package).parts)


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, relative ones made absolute."""
    package = next(folder for folder in (SERVER, SDK, RUNTIME) if path.is_relative_to(folder))
    tree = ast.parse(path.read_text("utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    here = [package.name, *path.relative_to(package).with_suffix("").parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in late)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            if module in ("gateway_server", package.name) or _is_package(module):
                for alias in node.names:
                    yield Import(f"{module}.{alias.name}", node.lineno, id(node) in late)
            else:
                yield Import(module, node.lineno, id(node) in late)


def _is_package(module: str) -> bool:
    top, *rest = module.split(".")
    root = {"gateway_server": SERVER, "gateway_sdk": SDK, "gateway_runtime": RUNTIME}.get(top)
    return root is not None and root.joinpath(*rest).is_dir()


def part_of(path: Path) -> str:
    """The part of the server that a module belongs to."""
    return path.relative_to(SERVER).with_suffix("").parts[0]


def name(path: Path) -> str:
    """A short name for messages."""
    package = next(folder for folder in (SERVER, SDK, RUNTIME) if path.is_relative_to(folder))
    return f"{package.name}/{path.relative_to(package)}"


ALL = [path for package in (SERVER, SDK, RUNTIME) for path in sources(package)]


def test_the_server_imports_only_downward():
    wrong = []
    for path in sources(SERVER):
        part = part_of(path)
        if part == "__init__":
            continue
        allowed = BELOW[part] | EVERYBODY | {part, "__version__"}
        for found in imports(path):
            top, _, rest = found.module.partition(".")
            if top == "gateway_server" and rest.partition(".")[0] not in allowed:
                wrong.append(f"{name(path)}:{found.line} imports {found.module}")
    assert not wrong, "\n".join(wrong)


def test_every_part_of_the_server_has_its_place():
    parts = {part_of(path) for path in sources(SERVER)} - {"__init__"}
    assert parts <= set(BELOW)


def test_the_runtime_needs_the_standard_library_only():
    allowed = sys.stdlib_module_names | {"gateway_runtime"}
    wrong = [
        f"{name(path)}:{found.line} imports {found.module}"
        for path in sources(RUNTIME)
        for found in imports(path)
        if found.module.partition(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_the_sdk_knows_neither_server_nor_runtime():
    wrong = [
        f"{name(path)}:{found.line} imports {found.module}"
        for path in sources(SDK)
        for found in imports(path)
        if found.module.partition(".")[0] in {"gateway_server", "gateway_runtime"}
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_uses_the_sdk():
    wrong = [
        f"{name(path)}:{found.line} imports {found.module}"
        for path in sources(SERVER)
        for found in imports(path)
        if found.module.partition(".")[0] == "gateway_sdk" and part_of(path) != "cli"
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_stand_at_the_top():
    found = {(name(path), entry.module) for path in ALL for entry in imports(path) if entry.is_late}
    named = {(path, module) for path, modules in LATE.items() for module in modules}
    assert found - named == set(), "imported inside a function and not on the list"
    assert named - found == set(), "on the list and not imported inside a function any more"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_modules_stay_small(path):
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


def test_the_public_is_explained():
    missing = []
    for path in (*sources(SERVER), *sources(SDK)):
        tree = ast.parse(path.read_text("utf-8"))
        if not ast.get_docstring(tree) and path.name != "__init__.py":
            missing.append(f"{name(path)}: the module")
        missing += [f"{name(path)}:{node.lineno} {title}" for node, title in _public(tree) if not _explained(node)]
    assert not missing, "\n".join(missing)


def _public(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Public functions and classes, and the methods of public classes that no base class has explained."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node, node.name
            if isinstance(node, ast.ClassDef) and not node.bases:
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
                        yield inner, f"{node.name}.{inner.name}"


def _explained(node: ast.AST) -> bool:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    is_overload = any(isinstance(item, ast.Name) and item.id == "overload" for item in node.decorator_list)
    return is_overload or bool(ast.get_docstring(node))


def test_the_api_description_lists_what_is_served(tmp_path):
    """Framework routes describe themselves; those served before the framework are described by hand."""
    gateway = create_app(Settings(data=tmp_path))
    described = {
        (method.upper(), path)
        for path, operations in gateway.web.openapi()["paths"].items()
        for method in operations
        if method in {"get", "put", "post", "patch", "delete", "head", "options"}
    }
    by_hand = {("POST", path) for path in (*PATHS, SUBMIT_PATH)} | {("GET", "/v1/jobs/{job_id}/events")}
    by_hand |= {("GET", "/objects/{key}"), ("PUT", "/objects/{key}")}
    served = {
        (method, route.path.replace(f"{REST}}}", "}"))
        for route in _routes(gateway.web)
        if route.include_in_schema
        for method in route.methods
    }
    assert described == by_hand | served


def _routes(router: Any) -> Iterator[Any]:
    for route in router.routes:
        if included := getattr(route, "original_router", None):
            yield from _routes(included)
        else:
            yield route
