"""`gateway quota`: what a user may use, and an API key."""

from collections.abc import Iterable
from typing import Any

import click

from gateway_server.cli import arguments, http, newcomer, terminal


class LimitType(click.ParamType[int | str]):
    """A number, or none."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number; `none` stays as it is."""
        text = str(value)
        if text != "none" and not text.isdecimal():
            self.fail(f"{text!r} is neither a number nor none", param, ctx)
        return text if text == "none" else int(text)


@click.command()
@click.option("--user", required=True, help="Whose quota it is.")
@click.option(
    "--limit", required=True, type=LimitType(), metavar="N", help="Calls, seconds or bytes; none takes the limit away."
)
@click.option(
    "--metric",
    type=click.Choice(["calls", "concurrent", "seconds", "bytes"]),
    default="calls",
    show_default=True,
    help="Calls, calls at once, seconds of run time, or stored bytes.",
)
@click.option(
    "--period", type=click.Choice(["minute", "day", "month"]), help="Of calls and seconds; a day unless said otherwise."
)
@click.option("--key", "key_id", metavar="KEY_ID", help="Only for this API key of the user.")
def set_(user: str, limit: int | str, metric: str, period: str | None, key_id: str | None) -> None:
    """Set a limit of a user or of one API key."""
    body = {"limit": None if limit == "none" else limit, "metric": metric, "period": period, "key_id": key_id}
    with newcomer.noted(user):
        _show([http.ask("PUT", f"/v1/quotas/{http.segment(user, 'USER')}", body)])


@click.command()
@click.option("--user", help="For an admin: whose quotas.")
@arguments.as_json
def show(user: str | None, is_json: bool) -> None:
    """Show limits and use."""
    if user is not None:
        newcomer.require(user)
    found = http.ask("GET", "/v1/quotas", query={"user": user})
    if is_json:
        terminal.document(found)
    else:
        _show(found.get("quotas", [found]))


def _show(quotas: Iterable[dict[str, Any]]) -> None:
    resets = terminal.timed("resets") if terminal.is_shown() else "resets (UTC)"
    columns = ("user", "used", "limit", "metric", "period", "key", resets)
    terminal.table(columns, [_row(quota) for quota in quotas], optional=(resets,))


def _row(quota: dict[str, Any]) -> tuple[object, ...]:
    limit = "no limit" if quota["limit"] is None else quota["limit"]
    reset_at = quota["reset_at"]
    return (
        quota["user"],
        round(quota["used"], 1),
        limit,
        quota.get("metric", "calls"),
        quota["period"] or "now",
        quota.get("key_id") or "any",
        terminal.moment(reset_at),
    )
