"""`gateway quota`: how many calls a user may make."""

import shlex

import click

from gateway_server.cli import arguments, http, terminal
from gateway_server.cli.failures import Failure

NOT_FOUND = 404


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
@click.option("--limit", required=True, type=LimitType(), metavar="N", help="Calls; none for the gateway's default.")
@click.option("--period", type=click.Choice(["day"]), default="day", show_default=True, help="Of what.")
def set_(user: str, limit: int | str, period: str) -> None:
    """Set the limit of a user."""
    body = {"limit": None if limit == "none" else limit, "period": period}
    is_new = _is_new(user)
    _show(http.ask("PUT", f"/v1/quotas/{http.segment(user)}", body))
    if is_new:
        terminal.say(f"Note: {user} is a new user, without a key: gateway key create --user {shlex.quote(user)}")


def _is_new(user: str) -> bool:
    try:
        http.ask("GET", f"/v1/users/{http.segment(user)}")
    except Failure as failure:
        return failure.status == NOT_FOUND
    return False


@click.command()
@click.option("--user", help="For an admin: whose quota.")
@arguments.as_json
def show(user: str | None, is_json: bool) -> None:
    """Show limit and use."""
    quota = http.ask("GET", "/v1/quotas", query={"user": user})
    if is_json:
        terminal.document(quota)
    else:
        _show(quota)


def _show(quota: dict[str, object]) -> None:
    limit = "no limit" if quota["limit"] is None else quota["limit"]
    columns = ("user", "used", "limit", "period", "resets (UTC)")
    terminal.table(
        columns, [(quota["user"], quota["used"], limit, quota["period"], terminal.moment(str(quota["reset_at"])))]
    )
