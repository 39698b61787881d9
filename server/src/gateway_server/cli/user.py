"""`gateway user`: who there is, who may call, and their end."""

import sys
from typing import Any

import click

from gateway_server.cli import arguments, http, terminal
from gateway_server.cli.failures import Failure

PAGE = 1000


@click.command()
@click.argument("text", required=False)
@arguments.as_json
def list_(text: str | None, is_json: bool) -> None:
    """List the users by name; with TEXT those whose name holds it."""
    users: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = http.ask("GET", "/v1/users", query={"q": text, "cursor": cursor or None, "limit": PAGE})
        users += page["users"]
        cursor = page["next_cursor"]
    if is_json:
        terminal.document({"users": users})
        return
    rows = [(user["id"], user["status"], user["keys"], terminal.moment(user["created_at"])) for user in users]
    empty = "Nobody's name holds that. Everybody: gateway user list"
    terminal.table(("user", "status", "keys", terminal.timed("since")), rows, empty=empty)


@click.command()
@click.argument("user")
@arguments.as_json
def show(user: str, is_json: bool) -> None:
    """Show a user and what is theirs."""
    answer = http.ask("GET", _place(user))
    if is_json:
        terminal.document(answer)
        return
    terminal.data(f"{answer['id']} ({answer['status']}), since {terminal.moment_in_words(answer['created_at'])}")
    for line in _lines(answer["belongings"]):
        terminal.data(f"  {line}")


@click.command()
@click.argument("user")
def disable(user: str) -> None:
    """Refuse everything of a user from now on. Running calls end; data stays."""
    http.ask("POST", f"{_place(user)}/disable")
    terminal.say(f"{user} may no longer call. Take it back with: gateway user enable {user}")


@click.command()
@click.argument("user")
def enable(user: str) -> None:
    """Let a disabled user call again."""
    http.ask("POST", f"{_place(user)}/enable")
    terminal.say(f"{user} may call again, with the keys from before.")


@click.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@arguments.as_json
def delete(user: str, yes: bool, is_json: bool) -> None:
    """Delete a user with keys, secrets, files, jobs, logs, quotas, usage and agents, for good.

    Prefabs that they published pass to you, since others may use them. Backups keep what they have.
    """
    place = _place(user)
    if not yes:
        had = http.ask("GET", place)["belongings"]
        if not sys.stdin.isatty():
            raise Failure(f"This deletes everything of {user}, for good. Say --yes if you mean it.")
        for line in _lines(had):
            terminal.say(f"  {line}")
        if not click.confirm(f"Delete {user} with all of this?", err=True):
            raise Failure("Nothing was deleted.")
    with terminal.busy(f"Deleting {user}"):
        answer = http.ask("DELETE", place)
    if is_json:
        terminal.document(answer)
        return
    terminal.say(f"Deleted {user}:")
    for line in _lines(answer["deleted"], heir=answer["prefabs_given_to"]):
        terminal.say(f"  {line}")


def _lines(had: dict[str, Any], heir: str | None = None) -> list[str]:
    lines = [
        terminal.count(had["keys"], "API key"),
        terminal.count(had["secrets"], "secret"),
        f"{terminal.count(had['files'], 'file')}, {terminal.size(had['bytes'])}",
        terminal.count(had["jobs"], "job"),
    ]
    if had["agents"]:
        lines.append(f"agents: {', '.join(had['agents'])}")
    if had["prefabs"]:
        whose = f" (now {heir}'s)" if heir else ""
        lines.append(f"prefabs: {', '.join(had['prefabs'])}{whose}")
    if had["last_call_at"]:
        lines.append(f"last call {terminal.moment_in_words(had['last_call_at'])}")
    return lines


def _place(user: str) -> str:
    return f"/v1/users/{http.segment(user, 'USER')}"
