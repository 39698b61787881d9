"""What is wrong with a package, found by reading it."""

from pathlib import Path

from gateway_server.cli import terminal
from gateway_server.cli.failures import Code, Failure
from gateway_server.prefabs.code import check_code
from gateway_server.prefabs.package import PackageError, open_package
from gateway_server.prefabs.problems import Problem


def show(path: Path, *, is_json: bool) -> None:
    """To standard output.

    Raises:
        Failure: it cannot be published.
    """
    named, errors, warnings = _check(path)
    if is_json:
        told = {"errors": [e._asdict() for e in errors], "warnings": [w._asdict() for w in warnings]}
        terminal.document({"ok": not errors, "prefab": named, **told})
    else:
        for kind, problems in (("error", errors), ("warning", warnings)):
            for problem in problems:
                terminal.data(
                    f"{kind}: {problem.pointer}: {problem.message}" if problem.pointer else f"{kind}: {problem.message}"
                )
        if not errors:
            terminal.data(f"{named} is valid.")
    if errors:
        raise Failure(f"The package at {path} cannot be published.", Code.FAILED)


def _check(path: Path) -> tuple[str | None, tuple[Problem, ...], tuple[Problem, ...]]:
    try:
        package = open_package(path)
    except PackageError as error:
        return None, error.problems, ()
    with package:
        named = f"{package.manifest.id}@{package.manifest.version}"
        try:
            return named, (), (*package.warnings, *check_code(package.files, package.manifest))
        except PackageError as error:
            return named, error.problems, package.warnings
