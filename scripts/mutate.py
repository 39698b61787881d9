"""Changes a module in every small way that could matter, and says which changes its unit tests let pass.

    .venv/bin/python scripts/mutate.py [MODULE TEST_FILE]

The tests of the file are called one by one, without fixtures, so that a mutant takes milliseconds. It ends with 1 if
a mutant has survived. Texts of refusals are for people, and are left as they are.
"""

import ast
import copy
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
DEFAULT = ("gateway_server.identity.access", "tests/server/identity/test_access.py")
OPPOSITES: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
}
Change = Callable[[ast.AST], ast.AST]


class Mutant(NamedTuple):
    """A changed module, and in words what was changed."""

    tree: ast.Module
    what: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, with one change each."""
    tree = ast.parse(source)
    annotations = [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.returns]
    people = [node for node in ast.walk(tree) if _is_for_people(node)]
    skipped = {id(inner) for node in [*annotations, *people] for inner in ast.walk(node)}
    for index, node in enumerate(ast.walk(tree)):
        for change in () if id(node) in skipped and not isinstance(node, ast.Raise) else _changes(node):
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[index]
            before = _first_line(target)
            new = change(target)
            _replace(changed, target, new)
            what = f"line {node.lineno}: {before} -> {_first_line(new)}"  # type: ignore[attr-defined]
            yield Mutant(ast.fix_missing_locations(changed), what)


def survivors(module: str, test_file: Path) -> Iterator[str]:
    """What was changed in the mutants that every test lets pass.

    Raises:
        Exception: a test fails without any change.
    """
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    _run_tests(test_file)
    for mutant in mutants(source):
        if _passes(module, mutant.tree, test_file):
            yield mutant.what


def _is_for_people(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, ast.Raise | ast.JoinedStr | ast.AnnAssign | ast.arguments | ast.Import)


def _changes(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        for opposite in OPPOSITES[type(node.ops[0])]:
            yield lambda n, o=opposite: _set(n, ops=[o()])  # type: ignore[misc]
    elif isinstance(node, ast.BoolOp):
        yield lambda n: _set(n, op=ast.Or() if isinstance(n.op, ast.And) else ast.And())  # type: ignore[attr-defined]
        for at in range(len(node.values)):
            yield lambda n, at=at: _set(n, values=n.values[:at] + n.values[at + 1 :])  # type: ignore[attr-defined,misc]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield lambda n: n.operand  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant):
        yield from (lambda n, v=value: _set(n, value=v) for value in _other_values(node.value))  # type: ignore[misc]
    elif isinstance(node, ast.Raise | ast.Expr):
        yield lambda n: ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None:
        yield lambda n: _set(n, value=ast.Constant(None))
        yield lambda n: _set(n, value=ast.UnaryOp(ast.Not(), n.value))  # type: ignore[attr-defined]
    elif isinstance(node, ast.If | ast.IfExp):
        yield lambda n: _set(n, test=ast.Constant(True))
        yield lambda n: _set(n, test=ast.Constant(False))
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Scope":
        for other in {"CALL", "PUBLISH", "ADMIN"} - {node.attr}:
            yield lambda n, o=other: _set(n, attr=o)  # type: ignore[misc]


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0]


def _other_values(value: object) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value - 1, value + 1)
    if isinstance(value, str):
        return ("mutated",)
    return (True,) if value is None else ()


def _set(node: ast.AST, **fields: Any) -> ast.AST:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(item is old for item in value):
                setattr(parent, name, [new if item is old else item for item in value])


def _passes(name: str, tree: ast.Module, test_file: Path) -> bool:
    """Whether every test passes with a module in another's place."""
    package, _, last = name.rpartition(".")
    original = sys.modules[name]
    mutated = types.ModuleType(name)
    try:
        exec(compile(tree, original.__file__ or name, "exec"), mutated.__dict__)
        sys.modules[name] = mutated
        setattr(sys.modules[package], last, mutated)
        _run_tests(test_file)
    except (Exception, pytest.fail.Exception):  # the latter is none
        return False
    finally:
        sys.modules[name] = original
        setattr(sys.modules[package], last, original)
    return True


def _run_tests(test_file: Path) -> None:
    namespace: dict[str, Any] = {"__name__": test_file.stem}
    exec(compile(test_file.read_text(), test_file, "exec"), namespace)
    for name, test in namespace.items():
        if name.startswith("test_"):
            test()


def main(arguments: list[str]) -> int:
    """Lists the survivors."""
    module, test_file = arguments or DEFAULT
    found = list(survivors(module, ROOT / test_file))
    count = sum(1 for _ in mutants(Path(sys.modules[module].__file__ or "").read_text()))
    for what in found:
        print(f"survived: {what}")
    print(f"{count} mutants of {module}, {len(found)} survived")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
