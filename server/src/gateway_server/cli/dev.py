"""`gateway dev`: a gateway for the prefabs and agents that somebody is writing."""

from pathlib import Path

import click

from gateway_server.cli import terminal
from gateway_server.cli.agent_folder import PYPROJECT, TABLE, is_agent
from gateway_server.cli.failures import DEV_DATA, Failure
from gateway_server.cli.package import USER
from gateway_server.prefabs.archives import is_archive
from gateway_server.prefabs.folders import MANIFEST
from gateway_server.settings import Settings


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[PATH]…")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEV_DATA,
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
    with terminal.busy(terminal.STARTING):
        from gateway_server.cli import developing

    developing.develop(settings, projects, data)


def _is_project(path: Path) -> bool:
    return path.is_file() or (path / MANIFEST).exists() or is_agent(path)


def _projects(path: Path) -> list[Path]:
    """The prefab or agent at a path, or all those in a folder of them."""
    if path.is_file() and not is_archive(path):
        raise click.BadParameter(f"{path} is no folder, and no archive of one", param_hint="[PATH]…")
    if _is_project(path):
        return [path]
    found = sorted(inner for inner in path.iterdir() if inner.is_dir() and _is_project(inner))
    if not found:
        raise Failure(
            f"There is no {MANIFEST} in {path}, and no {PYPROJECT} with [{TABLE}]. "
            "Write a prefab to begin with: gateway init NAME, or an agent: gateway init --agent NAME"
        )
    return found
