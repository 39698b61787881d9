"""What is wrong with a package, found by reading it."""

from pathlib import Path

from gateway_server.cli import terminal
from gateway_server.cli.failures import Code, Failure
from gateway_server.cli.package import hint
from gateway_server.prefabs.code import check_code
from gateway_server.prefabs.manifest import Manifest
from gateway_server.prefabs.package import PackageError, open_package
from gateway_server.prefabs.problems import Problem


def show(path: Path, *, is_json: bool) -> None:
    """To standard output.

    Raises:
        Failure: it cannot be published.
    """
    manifest, errors, warnings = _check(path)
    named = manifest and f"{manifest.id}@{manifest.version}"
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
        raise Failure(f"The package at {path} cannot be published.{hint(path)}", Code.FAILED)


def require(path: Path, function: str) -> None:
    """Looks for what would keep a function from running before anything is started for it.

    Raises:
        Failure: the package cannot be published, or has no such function.
    """
    manifest, errors, _ = _check(path)
    if errors or manifest is None:
        shown = "; ".join(f"{error.pointer}: {error.message}" if error.pointer else error.message for error in errors)
        told = {"error_code": "VALIDATION_ERROR", "errors": [error._asdict() for error in errors]}
        raise Failure(f"The package was refused: {shown}{hint(path)}", detail=told)
    if manifest.function(function) is None:
        names = ", ".join(known.name for known in manifest.functions)
        message = f"{manifest.id}@{manifest.version} has no function {function}; it has: {names}."
        raise Failure(message, detail={"error_code": "NOT_FOUND"})


def _check(path: Path) -> tuple[Manifest | None, tuple[Problem, ...], tuple[Problem, ...]]:
    try:
        package = open_package(path)
    except PackageError as error:
        return None, error.problems, ()
    with package:
        manifest = package.manifest
        try:
            return manifest, (), (*package.warnings, *check_code(package.files, package.manifest))
        except PackageError as error:
            return manifest, error.problems, package.warnings
