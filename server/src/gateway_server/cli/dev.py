"""`gateway dev`: a gateway for the prefabs and agents that somebody is writing."""

import asyncio
import json
import shlex
import time
from pathlib import Path
from typing import Any

import click

from gateway_server.app import Gateway
from gateway_server.cli import dev_agent, server, terminal
from gateway_server.cli.agent_folder import PYPROJECT, TABLE, is_agent
from gateway_server.cli.failures import Failure, refused
from gateway_server.cli.package import PUBLISHER, USER
from gateway_server.cli.watching import DATA, watched
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import GatewayFault
from gateway_server.prefabs.catalogue import Version
from gateway_server.prefabs.folders import MANIFEST
from gateway_server.prefabs.functions import Function
from gateway_server.settings import Settings

GRACE = 2
"""Seconds that calls get to end."""
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
    """Run a gateway for the prefabs and agents at PATH… (or here), and follow their changes.

    Prefabs are published again, agents started again. Programs on this machine need no key: they are the user dev.
    """
    if not paths and _is_project(Path()):
        paths = (Path(),)
    projects = [path for given in paths for path in _projects(given)]
    settings = Settings(
        data=data.absolute(),
        port=port,
        sandbox=sandbox,
        default_user=USER,
        trust_same_host=True,
        allow_loopback=True,
        reload=True,
    )
    server.run(_dev(settings, projects))


def _is_project(path: Path) -> bool:
    return path.is_file() or (path / MANIFEST).exists() or is_agent(path)


def _projects(path: Path) -> list[Path]:
    """The prefab or agent at a path, or all those in a folder of them."""
    if _is_project(path):
        return [path]
    found = sorted(inner for inner in path.iterdir() if inner.is_dir() and _is_project(inner))
    if not found:
        raise Failure(
            f"There is no {MANIFEST} in {path}, and no {PYPROJECT} with [{TABLE}]. "
            "Write a prefab to begin with: gateway init NAME, or an agent: gateway init --agent NAME"
        )
    return found


async def _dev(settings: Settings, projects: list[Path]) -> None:
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (settings.data / ".gitignore").write_text("*\n")
    async with server.running(settings, grace=GRACE) as gateway:
        terminal.data(f"gateway: listening on {gateway.base_url}")
        if not projects:
            terminal.say(
                "There is nothing here. Write a prefab to begin with: gateway init NAME, then gateway dev NAME"
            )
        tasks = [asyncio.create_task(_follow(gateway, project)) for project in projects]
        try:
            await server.until_told()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(gateway: Gateway, project: Path) -> None:
    if (project / MANIFEST).exists() or not is_agent(project):
        await _follow_prefab(gateway, project)
    else:
        await dev_agent.follow(gateway, project, _prefix(gateway))


async def _follow_prefab(gateway: Gateway, package: Path) -> None:
    """Publishes a package, and again after every change; also after those that come while it is being published."""
    shown: Version | None = None
    served: Version | None = None
    async with watched(package) as changed:
        while True:
            changed.clear()
            shown = await _publish(gateway, package, shown)
            if shown is None and served is not None:
                terminal.say(f"{served.prefab_id}@{served.version} is still served as it was before.")
            served = shown or served
            importing = asyncio.create_task(_import(gateway, shown)) if shown is not None else None
            try:
                await changed.wait()
            finally:
                if importing is not None:
                    importing.cancel()


async def _import(gateway: Gateway, version: Version) -> None:
    """Has a worker made ready, so that an import that fails is told now, and the first call finds it warm."""
    assert version.deployment is not None
    try:
        async with gateway.engine.worker(version.deployment, USER):
            pass
    except ImportFailed as error:
        told = error.told
        terminal.say(f"{told['traceback'].rstrip()}\n{version.prefab_id}@{version.version} cannot be imported: {error}")
    except GatewayFault as fault:  # a call would say the same
        terminal.say(f"{version.prefab_id}@{version.version}: {fault.message}")


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


def _prefix(gateway: Gateway) -> str:
    """What has to stand before a command, so that it finds this gateway."""
    return "" if gateway.base_url == "http://127.0.0.1:8000" else f"GATEWAY_BASE_URL={gateway.base_url} "


def _show_commands(gateway: Gateway, version: Version) -> None:
    assert version.manifest is not None
    for function in version.manifest.functions:
        if function.disabled is None:
            terminal.say(f"  {_prefix(gateway)}gateway run {version.prefab_id}@{version.version} {_sample(function)}")


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
