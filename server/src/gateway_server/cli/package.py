"""`gateway prefab validate|run`: a package on this machine, without a gateway that runs already."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from gateway_sdk import GatewayClient
from gateway_server.cli import arguments, server, terminal
from gateway_server.cli.failures import Code, Failure
from gateway_server.cli.run import call, call_options
from gateway_server.models import Principal, Scope
from gateway_server.prefabs.catalogue import Version
from gateway_server.prefabs.code import check_code
from gateway_server.prefabs.package import PackageError, open_package
from gateway_server.prefabs.problems import Problem
from gateway_server.settings import Settings

USER = "dev"
PUBLISHER = Principal(user=USER, scopes=frozenset({Scope.CALL, Scope.PUBLISH}))


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@arguments.as_json
def validate(path: Path, is_json: bool) -> None:
    """Check the package at PATH: its manifest, its files, and its code, which is read and not run."""
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


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("function")
@call_options
def run(
    path: Path,
    function: str,
    parameters: tuple[str, ...],
    files: tuple[str, ...],
    is_stream: bool,
    is_json: bool,
    timeout: float,
) -> None:
    """Run a function of the package at PATH, exactly as a gateway would, without publishing it.

    Secrets that the function declares are taken from the environment.

    \b
    gateway prefab run . greet -p name=you
    """
    given, places = arguments.parameters(parameters), arguments.files(files)
    shown = {"is_stream": is_stream, "is_json": is_json}
    with tempfile.TemporaryDirectory(prefix="gateway-") as data:
        settings = Settings(
            data=Path(data), port=0, default_user=USER, trust_same_host=True, allow_loopback=True, reload=True
        )
        server.run(_run(settings, path, function, given, places, timeout, shown))


async def _run(
    settings: Settings,
    path: Path,
    function: str,
    parameters: dict[str, Any],
    places: list[tuple[str, str | Path]],
    seconds: float,
    shown: dict[str, bool],
) -> None:
    async with server.running(settings, grace=0) as gateway:
        version = await gateway.catalogue.publish(path, PUBLISHER)
        for name in _declared(version, function) & os.environ.keys():
            await gateway.vault.put(USER, version.prefab_id, name, os.environ[name], PUBLISHER)
        client = GatewayClient(base_url=gateway.base_url, timeout=seconds)
        prefab = (version.prefab_id, version.version)
        await asyncio.to_thread(call, client, prefab, function, parameters, places, **shown)


def _declared(version: Version, function: str) -> set[str]:
    found = version.manifest.function(function) if version.manifest else None
    return {secret.name for secret in found.secrets} if found else set()
