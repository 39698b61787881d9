"""`gateway dev`: a gateway for the prefabs that somebody is writing."""

import asyncio
import json
import shlex
import time
from pathlib import Path
from typing import Any

import click
from watchfiles import DefaultFilter, awatch

from gateway_server.app import Gateway
from gateway_server.cli import server, terminal
from gateway_server.cli.failures import Failure, refused
from gateway_server.cli.package import PUBLISHER, USER
from gateway_server.errors import GatewayFault
from gateway_server.prefabs.catalogue import Version
from gateway_server.prefabs.folders import MANIFEST
from gateway_server.prefabs.functions import Function
from gateway_server.settings import Settings

DATA = ".gateway"
GRACE = 2
"""Seconds that calls get to end."""
SETTLE = 100
"""Milliseconds without a further change, after which a prefab is published again."""
_SAMPLES: dict[str, Any] = {"number": 1.5, "integer": 1, "boolean": True, "object": {}, "array": []}


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[PATH]…")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA,
    show_default=True,
    help="The folder of everything that survives.",
)
@click.option(
    "--sandbox",
    type=click.Choice(["required", "auto", "off"]),
    default="auto",
    show_default=True,
    help="required refuses to start where the machine cannot lock prefabs in.",
)
def dev(paths: tuple[Path, ...], port: int, data: Path, sandbox: str) -> None:
    """Run a gateway for the prefabs at PATH… (or here), and publish each again whenever it changes.

    Programs on this machine need no key: they are the user dev.
    """
    if not paths and (Path() / MANIFEST).exists():
        paths = (Path(),)
    packages = [path for given in paths for path in _packages(given)]
    settings = Settings(
        data=data.absolute(),
        port=port,
        sandbox=sandbox,
        default_user=USER,
        trust_same_host=True,
        allow_loopback=True,
        reload=True,
    )
    server.run(_dev(settings, packages))


def _packages(path: Path) -> list[Path]:
    """The package at a path, or all those in a folder of packages."""
    if path.is_file() or (path / MANIFEST).exists():
        return [path]
    found = sorted(manifest.parent for manifest in path.glob(f"*/{MANIFEST}"))
    if not found:
        raise Failure(f"There is no {MANIFEST} in {path}. Write a prefab to begin with: gateway init NAME")
    return found


async def _dev(settings: Settings, packages: list[Path]) -> None:
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (settings.data / ".gitignore").write_text("*\n")
    async with server.running(settings, grace=GRACE) as gateway:
        terminal.data(f"gateway: listening on {gateway.base_url}")
        if not packages:
            terminal.say("There is no prefab here. Write one to begin with: gateway init NAME, then gateway dev NAME")
        tasks = [asyncio.create_task(_follow(gateway, package)) for package in packages]
        try:
            await server.until_told()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(gateway: Gateway, package: Path) -> None:
    """Publishes a package, and again after every change; also after those that come while it is being published."""
    changed = asyncio.Event()
    watch = asyncio.create_task(_watch(package, changed))
    shown: Version | None = None
    try:
        while True:
            changed.clear()
            shown = await _publish(gateway, package, shown)
            await changed.wait()
    finally:
        watch.cancel()


async def _watch(package: Path, changed: asyncio.Event) -> None:
    async for _ in awatch(package, watch_filter=_Sources(), step=SETTLE):
        changed.set()


class _Sources(DefaultFilter):
    """What tools and this gateway itself write is no change of a prefab."""

    ignore_dirs = (*DefaultFilter.ignore_dirs, DATA, ".ruff_cache")


async def _publish(gateway: Gateway, package: Path, shown: Version | None) -> Version | None:
    """The version that is there now; told, unless it is the one that was shown last."""
    began = time.monotonic()
    try:
        version = await gateway.catalogue.publish(package, PUBLISHER, replacing=True)
    except GatewayFault as fault:
        terminal.say(f"{package}: {refused(fault.status, fault.detail()).message}")
        return None
    except Exception as error:  # such as a file that vanished while it was read; the next change tries again
        terminal.say(f"{package}: {type(error).__name__}: {error}")
        return None
    if shown is not None and shown.digest == version.digest:
        return version
    for warning in version.warnings:
        terminal.say(f"{package}: warning: {warning.pointer}: {warning.message}")
    terminal.say(f"{version.prefab_id}@{version.version} published in {time.monotonic() - began:.1f} s")
    if shown is None or shown.manifest != version.manifest:
        _show_commands(gateway, version)
    return version


def _show_commands(gateway: Gateway, version: Version) -> None:
    assert version.manifest is not None
    where = "" if gateway.base_url == "http://127.0.0.1:8000" else f"GATEWAY_BASE_URL={gateway.base_url} "
    for function in version.manifest.functions:
        if function.disabled is None:
            terminal.say(f"  {where}gateway run {version.prefab_id}@{version.version} {_sample(function)}")


def _sample(function: Function) -> str:
    """The function with values for what it needs, ready for a shell."""
    words = [function.name]
    for parameter in function.parameters:
        if parameter.required:
            words += ["-p", _sample_value(parameter.name, parameter.type, parameter.enum)]
    for key, group in function.inputs.items():
        if group.min_items:
            words += ["-f", f"{key}=PATH"]
    if function.streaming:
        words.append("--stream")
    return shlex.join(words)


def _sample_value(name: str, kind: str, choices: Any) -> str:
    value = choices[0] if choices else _SAMPLES.get(kind, "text")
    return f"{name}={value}" if isinstance(value, str) else f"{name}:={json.dumps(value)}"
