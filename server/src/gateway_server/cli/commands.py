"""Every command, in one table. Nothing but the command that was asked for is imported, so that help comes at once."""

import difflib
import gc
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Union

import click

from gateway_server import __version__
from gateway_server.cli import failures, terminal
from gateway_server.cli.failures import Code, Failure

_UNREADABLE = re.compile("[\ud800-\udfff]")
Entry = tuple[str, Union[str, "Table"]]
"""What a command is for, and where it is: `module:attribute` in this package, or a table of further commands."""
Table = Mapping[str, Entry]

COMMANDS: Table = {
    "serve": ("Run a gateway.", "serve:serve"),
    "dev": ("Run a gateway for the prefabs and agents in front of you, and follow their changes.", "dev:dev"),
    "init": ("Write a prefab or an agent to begin with.", "init:init"),
    "run": ("Run a function of a published prefab.", "run:run"),
    "prefab": (
        "Packages of functions: check, try out, publish.",
        {
            "validate": ("Check a package without publishing it.", "package:validate"),
            "run": ("Run a function of a package without publishing it, and without a gateway.", "package:run"),
            "publish": ("Publish a folder or wheel.", "prefab:publish"),
            "list": ("List the versions that are published.", "prefab:list_"),
            "search": ("Find prefabs by words.", "prefab:search"),
            "show": ("Show a version with its functions.", "prefab:show"),
            "deprecate": ("Warn whoever calls a version.", "prefab:deprecate"),
            "yank": ("Keep new callers from a version.", "prefab:yank"),
            "rm": ("Remove a version.", "prefab:remove"),
            "env": (
                "Settings of a version: environment, not secret, that its code sees from its import on.",
                {
                    "set": ("Set or unset some settings.", "prefab:set_env"),
                    "list": ("List the names of the settings.", "prefab:list_env"),
                },
            ),
        },
    ),
    "agent": (
        "Agents that the gateway calls.",
        {
            "add": ("Register an agent, or change what is known of it.", "agent:add"),
            "list": ("List the agents, and whether they answer.", "agent:list_"),
            "show": ("Show an agent, and ask it how it is.", "agent:show"),
            "rm": ("Forget an agent.", "agent:remove"),
            "call": ("Call an agent as yourself.", "agent_call:call"),
        },
    ),
    "secret": (
        "Secrets that prefabs get while they run for you.",
        {
            "set": ("Set a secret; the value comes from standard input or a prompt.", "secret:set_"),
            "list": ("List the names of what is set.", "secret:list_"),
            "rm": ("Forget a secret.", "secret:remove"),
            "rotate-master-key": ("Put a new master key into a data folder.", "secret:rotate_master_key"),
        },
    ),
    "key": (
        "API keys.",
        {
            "create": ("Make a key for a user.", "key:create"),
            "list": ("List keys; the keys themselves are never shown.", "key:list_"),
            "revoke": ("End a key and the tokens made from it.", "key:revoke"),
            "rotate-signing": ("Sign tokens with a new key.", "key:rotate_signing"),
        },
    ),
    "token": (
        "Internal tokens, as agents get them.",
        {"create": ("Make a token for a user, and for an agent if named.", "key:create_token")},
    ),
    "user": (
        "Who may call, and what is theirs.",
        {
            "list": ("List the users.", "user:list_"),
            "show": ("Show a user and what is theirs.", "user:show"),
            "disable": ("Refuse everything of a user; their data stays.", "user:disable"),
            "enable": ("Let a disabled user call again.", "user:enable"),
            "delete": ("Delete a user with everything that is theirs.", "user:delete"),
        },
    ),
    "quota": (
        "What a user may use, and an API key.",
        {
            "set": ("Set a limit of a user or of one API key.", "quota:set_"),
            "show": ("Show limits and use.", "quota:show"),
        },
    ),
    "job": (
        "What ran, and what is running.",
        {
            "list": ("List jobs, newest first.", "job:list_"),
            "show": ("Show a job with its result.", "job:show"),
            "events": ("Show what a job says until it ends.", "job:events"),
            "logs": ("Show what a job printed.", "job:logs"),
            "cancel": ("Stop a job.", "job:cancel"),
            "wait": ("Wait until a job has ended.", "job:wait"),
        },
    ),
    "file": (
        "Files in the gateway's store.",
        {
            "put": ("Upload a file, to be handed to functions.", "file:put"),
            "get": ("Download a file.", "file:get"),
            "ls": ("List your files.", "file:list_"),
            "rm": ("Delete files.", "file:remove"),
        },
    ),
    "usage": ("Calls, failures and run time, by user, agent, prefab or day.", "usage:usage"),
    "audit": ("Who changed what in the gateway.", "usage:audit"),
    "backup": ("Write a data folder to a file, also while its gateway runs.", "backup:back_up"),
    "restore": ("Make a data folder of a backup.", "backup:restore"),
    "completion": ("Have a shell complete commands, options and names.", "completion:completion"),
    "doctor": ("Say what this machine offers, and what protects its prefabs.", "doctor:doctor"),
}


class Lazy(click.Group):
    """A group whose commands are imported when they are asked for."""

    def __init__(self, name: str, table: Table, **settings: Any) -> None:
        super().__init__(name, commands=dict.fromkeys(table), **settings)  # type: ignore[arg-type]
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports it."""
        if name not in self.table:
            return None
        text, place = self.table[name]
        if not isinstance(place, str):
            return Lazy(name, place, help=text)
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(f"gateway_server.cli.{module}"), attribute)
        command.name = name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """With a guess at what a command was that there is not."""
        name = args[0]
        close = difflib.get_close_matches(name, self.table, n=1)
        if name not in self.table and not name.startswith("-") and close:
            ctx.fail(f"No such command {name!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, so that help imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (text, _) in self.table.items()])


@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def _root() -> None: ...


root = Lazy(
    "gateway",
    COMMANDS,
    params=_root.__click_params__,  # type: ignore[attr-defined]
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Run prefabs (versioned packages of functions) for agents and people. To begin:\n\n"
    "\b\n"
    "gateway init hello   # writes a prefab\n"
    "gateway dev hello    # runs it, and follows its changes\n"
    "gateway run hello@1.0.0 greet -p name=you\n\n"
    "All commands but serve, dev, init, doctor, backup, restore, completion, secret rotate-master-key and "
    "prefab validate|run speak to a gateway: "
    "GATEWAY_BASE_URL says where it is (http://127.0.0.1:8000 if not set), GATEWAY_API_KEY who you are.",
)


def main() -> None:
    """Runs the command line and exits: 0 ok, 1 failed or refused, 2 usage, 3 not allowed, 4 out of time."""
    terminal.prepare()
    code = _run()
    gc.freeze()  # the process ends: a last look for what nobody uses would take a fifth of a second
    sys.exit(code)


def _run() -> int:
    try:
        _check_words(sys.argv[1:])
        code = root.main(prog_name="gateway", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # whoever read our output has had enough
        terminal.let_go()
        return Code.FAILED
    except (Exception, KeyboardInterrupt) as error:
        code, show, detail = _ending(error)
        for tell in (show, partial(_tell_programs, detail)):
            try:
                tell()
            except OSError:
                terminal.let_go()
        return code


def _check_words(words: Sequence[str]) -> None:
    for word in words:
        if not word.isascii() and _UNREADABLE.search(word):  # what nothing could be made of, or sent
            raise click.UsageError(f"{os.fsencode(word)!r} is not UTF-8.")


def _ending(error: BaseException) -> tuple[int, Callable[[], None], dict[str, Any]]:
    """The exit code for what went wrong, and how people and programs are told."""
    if isinstance(error, click.ClickException):
        return error.exit_code, error.show, {"error_code": "USAGE", "message": error.format_message()}
    if isinstance(error, click.Abort | KeyboardInterrupt):
        failure = Failure("Interrupted.", Code.INTERRUPTED)
    elif os.environ.get("GATEWAY_DEBUG"):
        raise error
    else:
        failure = failures.explain(error)
    text = failure.message if failure.code is Code.INTERRUPTED else f"Error: {failure.message}"
    return failure.code, partial(terminal.say, text), failure.detail


def _tell_programs(detail: dict[str, Any]) -> None:
    """What went wrong, where JSON was asked for. Wrong usage ends commands before they know what they are asked for."""
    if "--json" in sys.argv[1:]:
        terminal.failure(detail)
