"""`gateway serve`: the gateway that others use."""

import ipaddress
from pathlib import Path
from typing import Any

import click

from gateway_server.cli import http, terminal
from gateway_server.cli.failures import SERVE_DATA
from gateway_server.errors import Invalid
from gateway_server.identity.access import check_name
from gateway_server.settings import Network, Settings


class NetworkType(click.ParamType[Network]):
    """An address range."""

    name = "cidr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        """The network."""
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            self.fail(f"{value!r} is no network such as 10.0.0.0/8 ({error})", param, ctx)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--public-url",
    metavar="URL",
    help="The address in the URLs that clients get, where it is another than the one listened on (behind a proxy).",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=SERVE_DATA,
    show_default=True,
    help="The folder of everything that must survive.",
)
@click.option("--database", metavar="URL", help="SQLAlchemy URL; not given: SQLite in the data folder.")
@click.option("--store", metavar="URL", help="An object store, such as s3://bucket; not given: the data folder.")
@click.option("--engine", default="local", show_default=True, metavar="local | ray://…", help="Where functions run.")
@click.option(
    "--sandbox",
    type=click.Choice(["required", "auto", "off"]),
    default="auto",
    show_default=True,
    help="required refuses to start where the machine cannot lock prefabs in.",
)
@click.option(
    "--allow-loopback",
    is_flag=True,
    help="Let functions reach other services on this machine.",
)
@click.option(
    "--allow-source-builds",
    is_flag=True,
    help="Build libraries that have no wheel: to publish then runs their code as the gateway.",
)
@click.option(
    "--trusted-network",
    "trusted",
    multiple=True,
    type=NetworkType(),
    metavar="CIDR",
    help="Take callers from there without a token; may be given several times.",
)
@click.option("--default-user", default="default", show_default=True, metavar="U", help="Who such callers are.")
@click.option("--forget-secrets", is_flag=True, help="Remove what a lost master key sealed: secrets, and tokens end.")
def serve(
    host: str,
    port: int,
    public_url: str | None,
    data: Path,
    database: str | None,
    store: str | None,
    engine: str,
    sandbox: str,
    allow_loopback: bool,
    allow_source_builds: bool,
    trusted: tuple[Network, ...],
    default_user: str,
    forget_secrets: bool,
) -> None:
    """Run a gateway.

    The first start writes an API key of an admin to admin.key in the data folder. SIGTERM gives running calls 30 s.
    """
    try:
        check_name(default_user, "User")
    except Invalid as error:
        raise click.BadParameter(error.message, param_hint="--default-user") from error
    if public_url and not http.is_address(public_url):
        raise click.BadParameter(f"{public_url!r} {http.NO_ADDRESS}", param_hint="--public-url")
    settings = Settings(
        data=data.absolute(),
        host=host,
        port=port,
        public_url=public_url.rstrip("/") if public_url else None,
        database=database,
        store=store,
        engine=engine,
        sandbox=sandbox,
        allow_loopback=allow_loopback,
        allow_source_builds=allow_source_builds,
        trusted_networks=trusted,
        default_user=default_user,
        forget_secrets=forget_secrets,
    )
    with terminal.busy(terminal.STARTING):
        from gateway_server.cli import serving

    serving.serve(settings, data)
