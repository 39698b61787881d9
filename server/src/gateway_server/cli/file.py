"""`gateway file`: files in the gateway's store."""

from pathlib import Path
from typing import Any

import click

from gateway_server.cli import arguments, http, terminal
from gateway_server.cli.run import client, upload

AREAS = ("agent-inputs", "agent-outputs", "agent-workspace", "prefab-outputs")


@click.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--content-type", help="Such as text/csv.")
def put(path: Path, content_type: str | None) -> None:
    """Upload a file. Standard output gets its s3 URL, to be used as `gateway run … -f KEY=URL`."""
    terminal.data(upload(client(), path, content_type))


@click.command()
@click.argument("url", metavar="S3_URL")
@click.argument("path", default=".")
def get(url: str, path: str) -> None:
    """Download a file to PATH: a file, or a folder that it goes into. Standard output gets where it is."""
    with terminal.progress(url.rsplit("/", 1)[-1]) as progress:
        terminal.data(client().save_file(url, path, progress))


@click.command()
@click.option("--area", type=click.Choice(AREAS), help="Only this part of the store.")
@click.option("--prefix", help="The beginning of their keys.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@arguments.as_json
def list_(area: str | None, prefix: str | None, limit: int, is_json: bool) -> None:
    """List your files."""
    files: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(files) < limit:
        page = http.ask("GET", "/v1/files", query={"area": area, "prefix": prefix, "cursor": cursor})
        files += page["files"]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    files = files[:limit]
    if is_json:
        terminal.document({"files": files})
        return
    rows = [(file["s3_url"], file["size"], terminal.moment(file.get("last_modified"))) for file in files]
    terminal.table(("file", "size", "modified"), rows)


@click.command()
@click.argument("urls", metavar="S3_URL…", nargs=-1, required=True)
def remove(urls: tuple[str, ...]) -> None:
    """Delete files."""
    for url in urls:
        http.ask("DELETE", "/v1/files", query={"s3_url": url})
        terminal.say(f"Removed {url}")
