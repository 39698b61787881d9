"""`gateway usage` and `gateway audit`: what was used, and what operators did."""

from datetime import UTC, datetime

import click

from gateway_server.cli import arguments, http, terminal

DIMENSIONS = ("day", "user", "agent", "prefab", "version")
DIGITS = 12
"""Of a digest, for people."""
_DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--user", help="For an admin: whose; not given: everybody's.")
@click.option("--since", type=_DAY, metavar="YYYY-MM-DD", help="First day (UTC); not given: 30 days ago.")
@click.option("--until", type=_DAY, metavar="YYYY-MM-DD", help="Last day (UTC); not given: today.")
@click.option(
    "--by",
    "by",
    multiple=True,
    type=click.Choice(DIMENSIONS),
    default=["prefab"],
    show_default=True,
    help="How to group; may be given several times.",
)
@arguments.as_json
def usage(user: str | None, since: datetime | None, until: datetime | None, by: tuple[str, ...], is_json: bool) -> None:
    """Show calls, failures and run time: your own; for an admin, everybody's.

    \b
    gateway usage --by user --by day --since 2026-11-01
    """
    if since is not None and until is not None and since > until:
        raise click.UsageError(f"--since {since.date()} is after --until {until.date()}.")
    query = {
        "user": user,
        "since": since and since.date().isoformat(),
        "until": until and until.date().isoformat(),
        "by": ",".join(by),
    }
    answer = http.ask("GET", "/v1/usage", query=query)
    if is_json:
        terminal.document(answer)
        return
    by = tuple(answer["by"])
    rows = [(*(row.get(name) or "-" for name in by), *_figures(row)) for row in answer["rows"]]
    terminal.table((*by, "calls", "failed", "seconds"), [*rows, ("total", *[""] * (len(by) - 1), *_figures(answer))])


def _figures(row: dict[str, float]) -> tuple[str, str, str]:
    return f"{row['calls']:,}", f"{row['failed']:,}", f"{row['seconds']:,.1f}"


@click.command()
@click.option("--actor", metavar="USER", help="Only what this user did.")
@click.option("--action", help="Only this action, such as key.create, or all of a noun, such as key.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@arguments.from_cursor
@arguments.as_json
def audit(actor: str | None, action: str | None, limit: int, cursor: str | None, is_json: bool) -> None:
    """Show who changed what in the gateway, newest first. Needs an admin's key."""
    query = {"actor": actor, "action": action, "limit": limit, "cursor": cursor}
    answer = http.ask("GET", "/v1/audit", query=query)
    if is_json:
        terminal.document(answer)
        return
    rows = [
        (
            terminal.moment(entry["at"], is_brief=True),
            entry["actor"],
            entry["action"],
            entry["target"],
            " ".join(f"{name}={_text(name, value)}" for name, value in entry["detail"].items()),
        )
        for entry in answer["entries"]
    ]
    empty = "Nothing of that kind was done. All there is: gateway audit"
    terminal.table((terminal.timed("at"), "actor", "action", "target", "detail"), rows, empty=empty)
    terminal.say_more(answer["next_cursor"])


def _text(name: str, value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name == "expires_at" and isinstance(value, int):
        return terminal.moment(datetime.fromtimestamp(value, UTC).isoformat())
    if name == "digest" and terminal.is_shown():
        return str(value)[:DIGITS]
    return "none" if value is None else str(value)
