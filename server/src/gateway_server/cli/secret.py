"""`gateway secret`: what prefabs need to know and nobody may see."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from gateway_server.cli import arguments, http, newcomer, terminal
from gateway_server.cli.failures import SERVE_DATA, Failure

NOT_FOUND = 404

for_user = click.option("--user", help="For an admin: whose secret it is.")


@click.command()
@click.argument("prefab_id", metavar="PREFAB")
@click.argument("name")
@for_user
def set_(prefab_id: str, name: str, user: str | None) -> None:
    """Set a secret for all versions of a prefab. The value is read from standard input, or asked for.

    \b
    gateway secret set llm-client OPENAI_API_KEY < key.txt
    """
    body = {"prefab_id": prefab_id, "secret_name": name, "secret_value": _value(name), "user": user}
    with newcomer.noted(user):
        http.ask("POST", "/v1/secrets", body)
        terminal.say(f"Set {name} for {prefab_id}.")
    if doubt := _doubt(prefab_id, name):
        terminal.say(f"Note: {doubt}")


def _doubt(prefab_id: str, name: str) -> str | None:
    """Why nothing may ever ask for the secret; None if something does."""
    try:
        spec = http.ask("GET", f"/v1/prefabs/{http.segment(prefab_id)}/latest/spec")
    except Failure as failure:
        if failure.status != NOT_FOUND:
            return None  # the secret is set; what cannot be looked up is no reason to alarm anybody
        return f"no prefab {prefab_id} is published here. What there is: gateway prefab list"
    declared = {secret["name"] for function in spec["functions"] for secret in _secrets(function)}
    if name in declared:
        return None
    told = f"it asks for {', '.join(sorted(declared))}" if declared else "it asks for no secrets"
    return f"no function of {prefab_id}@{spec['version']} asks for {name}; {told}."


def _secrets(function: dict[str, Any]) -> list[dict[str, Any]]:
    found = function.get("secrets")
    return [item for item in found if isinstance(item, dict) and "name" in item] if isinstance(found, list) else []


def _value(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Value of {name}", hide_input=True, err=True))
    try:  # byte for byte: read as text, line ends within a value would become others
        value = sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise click.UsageError("Standard input holds no text in UTF-8.") from error
    if not value:
        raise click.UsageError("Standard input holds no value.")
    return value


@click.command()
@click.argument("prefab_id", metavar="[PREFAB]", required=False)
@for_user
@arguments.as_json
def list_(prefab_id: str | None, user: str | None, is_json: bool) -> None:
    """List the names of what is set, of one prefab or of all."""
    secrets = http.ask("GET", "/v1/secrets", query={"user": user})["secrets"]
    secrets = [secret for secret in secrets if prefab_id in (None, secret["prefab_id"])]
    if is_json:
        terminal.document({"secrets": secrets})
    else:
        rows = [(secret["prefab_id"], secret["secret_name"]) for secret in secrets]
        empty = f"There is no secret. Set one with: gateway secret set {prefab_id or 'PREFAB'} NAME"
        terminal.table(("prefab", "secret"), rows, empty=empty)


@click.command()
@click.argument("prefab_id", metavar="PREFAB")
@click.argument("name")
@for_user
def remove(prefab_id: str, name: str, user: str | None) -> None:
    """Forget a secret."""
    place = f"/v1/secrets/{http.segment(prefab_id)}/{http.segment(name)}"
    http.ask("DELETE", place, query={"user": user}, if_none="What is set: gateway secret list")
    terminal.say(f"Removed {name} of {prefab_id}.")


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=SERVE_DATA,
    show_default=True,
    help="The data folder.",
)
def rotate_master_key(data: Path) -> None:
    """Put a new master key into a data folder. The next start of its gateway seals everything with it.

    Works on the folder itself, on the machine where it lies, while its gateway runs or not.
    """
    from gateway_server.store import master_key

    master_key.rotate(data, os.environ)
    terminal.say(f"{data / master_key.FILE} is a new key. Start the gateway anew: it seals everything with it.")
