"""`gateway key` and `gateway token`: who may call, and as whom."""

import click

from gateway_server.cli import arguments, http, newcomer, terminal

LONGEST_LIFE = 30 * 24 * 3600.0
"""Seconds that a token may live, of which its users hear before a gateway is asked."""


@click.command()
@click.option("--user", required=True, help="Whose key it is.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["call", "publish", "admin"]),
    default=["call"],
    show_default=True,
    help="What it may do; may be given several times.",
)
@click.option(
    "--prefab",
    "prefabs",
    multiple=True,
    metavar="ID",
    help="A prefab that it may call; may be given several times. Not given: all.",
)
@click.option("--name", default="", help="What it is for.")
def create(user: str, scopes: tuple[str, ...], prefabs: tuple[str, ...], name: str) -> None:
    """Make a key for a user. Standard output gets the key; it is not shown again."""
    key = http.ask(
        "POST", "/v1/keys", {"user": user, "scopes": list(scopes), "prefabs": list(prefabs) or None, "name": name}
    )
    terminal.data(key["key"])
    terminal.say(f"{key['id']} for {key['user']}, scopes: {', '.join(key['scopes'])}. Keep it: it is not shown again.")


@click.command()
@click.option("--user", help="For an admin: whose keys; not given: everybody's.")
@arguments.as_json
def list_(user: str | None, is_json: bool) -> None:
    """List keys, newest first. The keys themselves are never shown."""
    answer = http.ask("GET", "/v1/keys", query={"user": user})
    if is_json:
        terminal.document(answer)
        return
    rows = [
        (
            key["id"],
            key["user"],
            "revoked" if key["revoked_at"] else "valid",
            ",".join(key["scopes"]),
            ",".join(key["prefabs"]) if key["prefabs"] else "all",
            key["name"],
            terminal.moment(key["created_at"]),
            terminal.moment(key["revoked_at"]),
        )
        for key in answer["keys"]
    ]
    empty = "There is no key. Make one with: gateway key create --user NAME"
    created, revoked = terminal.timed("created"), terminal.timed("revoked")
    columns = ("id", "user", "state", "scopes", "prefabs", "name", created, revoked)
    terminal.table(columns, rows, empty=empty, optional=(created, revoked, "name", "prefabs"))


@click.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """End a key and the tokens made from it. ID is the one that `gateway key list` shows."""
    http.ask("DELETE", f"/v1/keys/{http.segment(key_id)}", if_none="The ids of the keys: gateway key list")
    terminal.say(f"Revoked {key_id}.")


@click.command()
@click.option("--user", required=True, help="Whom the token stands for.")
@click.option("--agent", help="The agent that it speaks for.")
@click.option("--ttl", type=arguments.DURATION, default="1h", show_default=True, help="How long it lives; at most 30d.")
def create_token(user: str, agent: str | None, ttl: float) -> None:
    """Make an internal token. Standard output gets the token."""
    if ttl > LONGEST_LIFE:
        raise click.BadParameter("a token lives at most 30d", param_hint="--ttl")
    with newcomer.noted(user):
        token = http.ask("POST", "/v1/tokens", {"user": user, "agent": agent, "ttl": max(1, round(ttl))})
    terminal.data(token["internal_token"])
    terminal.say(f"It ends {terminal.moment_in_words(token['expires_at'])}. Send it as X-Internal-Token.")


@click.command()
@click.option("--revoke-old", is_flag=True, help="End every token that was signed before, at once.")
def rotate_signing(revoke_old: bool) -> None:
    """Sign tokens with a new key from now on; those that were signed before live on. For an admin.

    Standard output gets the id of the new key.
    """
    answer = http.ask("POST", "/v1/signing-keys/rotate", {"revoke_old": revoke_old})
    terminal.data(answer["signing_keys"][0]["id"])
    old = "Every token from before has ended." if revoke_old else "Tokens from before live on to their end."
    terminal.say(f"Tokens are signed with it now. {old}")
