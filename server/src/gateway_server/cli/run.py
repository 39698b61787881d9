"""`gateway run`: call a function and show what it says."""

import shlex
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from gateway_server.cli import arguments, completing, http, unpublished
from gateway_server.cli.arguments import LONGEST

_HOW_LONG = "How long it may take; of a stream, how long it may be silent. 20m if not given."


def timeout_option(more: str = "") -> Callable[[Any], Any]:
    """How long a call may take; `more` tells what is peculiar to a command."""
    text = f"{_HOW_LONG} {more}".strip()
    return click.option("--timeout", type=arguments.TIMEOUT, default=LONGEST, metavar="DURATION", help=text)


def call_options(command: Any) -> Any:
    """What every way of running a function takes."""
    for option in reversed(
        (
            click.option("-p", "parameters", multiple=True, metavar="K=V | K:=JSON", help="A parameter."),
            click.option("-f", "files", multiple=True, metavar="KEY=PATH | KEY=s3://…", help="An input file."),
            click.option("--stream", "is_stream", is_flag=True, help="Show what the function says while it runs."),
            click.option("--json", "is_json", is_flag=True, help="Print the whole result, or one event a line."),
        )
    ):
        command = option(command)
    return command


TAKES_MORE = {"allow_extra_args": True}
"""Words that are too many come to the command, which knows what is meant by them."""


def refuse_more(context: click.Context) -> None:
    """Says what is wrong with words that nobody asked for."""
    if not context.args:
        return
    word = context.args[0]
    hint = f"; a parameter is given as -p {shlex.quote(word)}" if "=" in word else ""
    raise click.UsageError(f"Got unexpected extra argument ({word}){hint}")


@click.command(context_settings=TAKES_MORE)
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
@click.argument("function", shell_complete=completing.functions)
@call_options
@timeout_option("With --detach: the deadline of the whole job; none if not given.")
@click.option("--detach", "is_detached", is_flag=True, help="Submit it as a job, print the job's id, and leave.")
@click.option("--attempts", type=click.IntRange(1, 10), help="With --detach: how often it may be tried.")
@click.option(
    "--priority", type=click.IntRange(-10, 10), default=0, help="With --detach: among your own jobs; higher is earlier."
)
@click.pass_context
def run(
    context: click.Context,
    prefab: tuple[str, str],
    function: str,
    parameters: tuple[str, ...],
    files: tuple[str, ...],
    is_stream: bool,
    is_json: bool,
    timeout: float,
    is_detached: bool,
    attempts: int | None,
    priority: int,
) -> None:
    """Run a function of a published prefab.

    Standard output gets what the function returned, as JSON; with --stream its content as it comes.

    \b
    gateway run echo@1.0.0 echo -p text=hello
    gateway run echo@1.0.0 count -p n:=3 --stream
    gateway run data-analyzer@1.0.0 analyze -f input=sales.csv
    gateway run data-analyzer@1.0.0 analyze -f input=sales.csv --detach
    """
    refuse_more(context)
    given, places = arguments.parameters(parameters), arguments.files(files)
    http.api_key()  # what is wrong with it is told before anything is loaded
    from gateway_server.cli.calling import Manner, call, client, submit

    if is_detached:
        if is_stream:
            raise click.UsageError("--stream shows what --detach leaves: take one of them.")
        is_given = context.get_parameter_source("timeout") is not ParameterSource.DEFAULT
        deadline = timeout if is_given else None
        how = {"attempts": attempts, "priority": priority, "deadline": deadline, "is_json": is_json}
        with unpublished.explained(prefab):
            submit(client(), prefab, function, given, places, **how)  # type: ignore[arg-type]
        return
    if attempts is not None or priority:
        raise click.UsageError("--attempts and --priority are for jobs: add --detach.")
    with unpublished.explained(prefab):
        call(client(timeout), prefab, function, given, places, Manner(is_stream=is_stream, is_json=is_json))
