"""`gateway secret`: what prefabs need to know and nobody may see."""

import sys

import click

from gateway_server.cli import arguments, http, terminal

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
    http.ask("POST", "/v1/secrets", body)
    terminal.say(f"Set {name} for {prefab_id}.")


def _value(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Value of {name}", hide_input=True, err=True))
    value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
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
