"""What the modules of a package define, found by reading them: nothing of a package is ever imported here."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

#: Longer modules, and all after so much, are not read, but trusted to define what they should: to parse them may take
#: ten seconds and gigabytes, and all of the process waits meanwhile.
MAX_SOURCE = 256 * 1024
MAX_SOURCES = 2 * 1024**2

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

#: Calls that can define names which no reader sees.
_DYNAMIC_CALLS = frozenset({"globals", "locals", "vars", "exec", "setattr"})
#: `catch_warnings` changes the whole process, so one at a time.
_parsing = threading.Lock()


class SourceError(Exception):
    """A module that does not parse; the text says where and why."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """A name that comes from a module; without `name` it is the module itself."""

    module: str
    name: str | None


#: How a name comes to be: a function, another name of the same module, an import, or anything else.
Binding = FunctionNode | ast.Name | Import | None


@dataclass(kw_only=True)
class Module:
    """The names at the top level of one module, each with all the ways it may be bound."""

    name: str
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    #: Modules whose names are all taken over.
    stars: list[str] = field(default_factory=list)
    #: Whether names may exist that reading does not find.
    dynamic: bool = False

    def bind(self, name: str, binding: Binding) -> None:
        """Adds one of the meanings that a name has in the module."""
        self.bindings.setdefault(name, []).append(binding)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A name that exists, with the function that it names if that could be read."""

    function: FunctionNode | None = None


class Modules:
    """The modules of one package by dotted name (`src`, `src.main`), read when they are needed."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._folders = {parent.as_posix() for path in files for parent in PurePosixPath(path).parents}
        self._compiled = {path.partition(".")[0] for path in files if path.endswith((".so", ".pyd"))}
        self._modules: dict[str, Module] = {}
        self._left = MAX_SOURCES

    def exists(self, name: str) -> bool:
        """Whether the package holds this module, perhaps compiled, or a folder of that name."""
        stem = name.replace(".", "/")
        return self._path(name) is not None or stem in self._folders or stem in self._compiled

    def read(self, name: str) -> Module:
        """A module that exists; a folder without `__init__.py` is a module without names, a compiled one has any."""
        if name not in self._modules:
            path = self._path(name)
            if path is not None and self._has_room(self._files[path]):
                self._modules[name] = _read(name, path, self._files)
            else:
                is_compiled = name.replace(".", "/") in self._compiled
                self._modules[name] = Module(name=name, dynamic=path is not None or is_compiled)
        return self._modules[name]

    def _has_room(self, source: Path) -> bool:
        size = source.stat().st_size
        self._left -= min(size, MAX_SOURCE)
        return size <= MAX_SOURCE and self._left >= 0

    def find(self, module: str, name: str, seen: set[tuple[str, str]] | None = None) -> Found | None:
        """Where a name of a module comes from; None if it is certain that nothing defines it.

        `seen` is what has been looked at on the way, and needs no second look: there are as many ways through modules
        that import all of each other as they like.
        """
        seen = set() if seen is None else seen
        if (module, name) in seen:
            return None
        seen.add((module, name))
        try:
            content = self.read(module)
        except SourceError:
            return Found()  # says nothing about its names
        for binding in reversed(content.bindings.get(name, [])):
            found = self._follow(content, binding, seen)
            if found is not None:
                return found
        for star in content.stars:
            found = self.find(star, name, seen) if self.exists(star) else Found()
            if found is not None:
                return found
        if content.dynamic or self.exists(f"{module}.{name}"):
            return Found()
        return None

    def _follow(self, module: Module, binding: Binding, seen: set[tuple[str, str]]) -> Found | None:
        if isinstance(binding, FunctionNode):
            return Found(function=binding)
        if isinstance(binding, ast.Name):
            return self.find(module.name, binding.id, seen) or Found()
        if isinstance(binding, Import) and binding.name is not None:
            if self.exists(binding.module):
                return self.find(binding.module, binding.name, seen)
            return None if _is_own(binding.module) else Found()
        return Found()

    def _path(self, name: str) -> str | None:
        stem = name.replace(".", "/")
        return next((path for path in (f"{stem}/__init__.py", f"{stem}.py") if path in self._files), None)


def _is_own(module: str) -> bool:
    return module == "src" or module.startswith("src.")


def _read(name: str, path: str, files: Mapping[str, Path]) -> Module:
    tree = parse(files[path], path)
    module = Module(name=name)
    package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
    for statement in _statements(tree.body):
        _bind_statement(statement, module, package)
    module.dynamic = "__getattr__" in module.bindings or any(_is_dynamic(node) for node in ast.walk(tree))
    return module


def parse(source: Path, path: str) -> ast.Module:
    """The syntax tree of a file; SourceError, with file and line, if it has none."""
    try:
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the code is warned of is not our concern
            return ast.parse(source.read_bytes(), filename=path)
    except SyntaxError as error:
        raise SourceError(f"{path}, line {error.lineno or 1}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"{path} cannot be parsed: {error or type(error).__name__}") from error


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, without those inside functions and classes."""
    for statement in body:
        yield statement
        if isinstance(statement, FunctionNode | ast.ClassDef):
            continue
        for block in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, block, []))
        for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
            yield from _statements(part.body)


def _bind_statement(statement: ast.stmt, module: Module, package: str) -> None:
    if isinstance(statement, FunctionNode):
        module.bind(statement.name, statement)
    elif isinstance(statement, ast.ClassDef):
        module.bind(statement.name, None)
    elif isinstance(statement, ast.Import):
        for alias in statement.names:
            module.bind(alias.asname or alias.name.partition(".")[0], Import(module=alias.name, name=None))
    elif isinstance(statement, ast.ImportFrom):
        _bind_import(statement, module, package)
    else:
        _bind_targets(statement, module)


def _bind_import(statement: ast.ImportFrom, module: Module, package: str) -> None:
    origin = statement.module or ""
    if statement.level:
        steps = package.split(".")
        base = ".".join(steps[: len(steps) - statement.level + 1])
        origin = f"{base}.{origin}".rstrip(".") if origin else base
    for alias in statement.names:
        if alias.name == "*":
            module.stars.append(origin)
        else:
            module.bind(alias.asname or alias.name, Import(module=origin, name=alias.name))


def _bind_targets(statement: ast.stmt, module: Module) -> None:
    """Assignments, loops, `with … as`, `match` and `:=`: every name that is stored to outside functions and classes."""
    value = getattr(statement, "value", None)
    alias = value if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Name) else None
    for node in _expressions(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            if not (isinstance(statement, ast.AnnAssign) and statement.value is None):
                module.bind(node.id, alias)
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            module.bind(node.name, None)


def _expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of one statement, without the statements inside it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        # What a comprehension loops over has names of its own; only its `:=` reach outside.
        children = [node.iter, *node.ifs] if isinstance(node, ast.comprehension) else ast.iter_child_nodes(node)
        waiting += [child for child in children if not isinstance(child, ast.stmt | ast.Lambda)]


def _is_dynamic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in _DYNAMIC_CALLS
    if isinstance(node, ast.Attribute):
        return node.attr == "modules" and isinstance(node.value, ast.Name) and node.value.id == "sys"
    return isinstance(node, ast.Global)
