"""`gateway prefab validate|run`: a package on this machine, without a gateway that runs already."""

from pathlib import Path
from typing import Any

import click

from gateway_server.cli import arguments, terminal
from gateway_server.cli.run import TAKES_MORE, call_options, refuse_more, timeout_option
from gateway_server.models import Principal, Scope
from gateway_server.prefabs.folders import MANIFEST

BEGINNING = "Write a prefab to begin with: gateway init NAME"
"""What to do where a folder is no package."""
USER = "dev"
PUBLISHER = Principal(user=USER, scopes=frozenset({Scope.CALL, Scope.PUBLISH}))


def hint(path: Path) -> str:
    """What follows the reason why a package is refused: nothing, unless the folder is none."""
    return f"\n{BEGINNING}" if path.is_dir() and not (path / MANIFEST).exists() else ""


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@arguments.as_json
def validate(path: Path, is_json: bool) -> None:
    """Check the package at PATH: its manifest, its files, and its code, which is read and not run.

    Whether it can be imported is told by `gateway prefab run`, which runs it.
    """
    from gateway_server.cli import package_check

    package_check.show(path, is_json=is_json)


@click.command(context_settings=TAKES_MORE)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("function")
@call_options
@timeout_option()
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the files that the function writes in this folder.",
)
@click.option("--force", is_flag=True, help="With -o: overwrite what is there.")
@click.pass_context
def run(
    context: click.Context,
    path: Path,
    function: str,
    parameters: tuple[str, ...],
    files: tuple[str, ...],
    is_stream: bool,
    is_json: bool,
    timeout: float,
    output: Path | None,
    force: bool,
) -> None:
    """Run a function of the package at PATH, exactly as a gateway would, without publishing it.

    What it prints goes to standard error. Its secrets are the environment variables of the same names.

    \b
    gateway prefab run . greet -p name=you
    gateway prefab run . convert -f input=report.docx -o results
    """
    refuse_more(context)
    given, places = arguments.parameters(parameters), arguments.files(files)
    with terminal.busy("Preparing"):
        from gateway_server.cli import package_check

        package_check.require(path, function)
        from gateway_server.cli import package_run

    how: dict[str, Any] = {"is_stream": is_stream, "is_json": is_json, "timeout": timeout}
    package_run.run(path, function, given, places, output=output, force=force, **how)
