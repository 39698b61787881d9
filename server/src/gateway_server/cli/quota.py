"""`gateway quota`: how many calls a user may make."""

import click

from gateway_server.cli import arguments, http, terminal


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
    _show(http.ask("PUT", f"/v1/quotas/{http.segment(user)}", body))


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
