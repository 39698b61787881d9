"""`gateway file`: files in the gateway's store."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gateway_server.cli import arguments, http, terminal
from gateway_server.cli.failures import YOUR_FILES, Failure, explain
from gateway_server.cli.spool import STANDARD_INPUT

BLOCK = 1 << 20
LONGEST_NAME = 255
"""Bytes of a file's name."""
PAGE = 1000
AREAS = ("agent-inputs", "agent-outputs", "agent-workspace", "prefab-outputs")


def _checked_name(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    if name is not None and (name in ("", ".", "..") or "/" in name or len(os.fsencode(name)) > LONGEST_NAME):
        raise click.BadParameter(f"{name!r} is no name of a file")
    return name


@click.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--content-type", help="Such as text/csv.")
@click.option("--name", callback=_checked_name, help="What to call it; not given: as PATH, or stdin.")
def put(path: str, content_type: str | None, name: str | None) -> None:
    """Upload the file at PATH, or - for standard input.

    Standard output gets its s3 URL, to be used as `gateway run … -f KEY=URL`.
    """
    from gateway_server.cli.calling import client, upload

    source = STANDARD_INPUT if path == "-" else Path(path)
    terminal.data(upload(client(), source, content_type, name))


@click.command()
@click.argument("url", metavar="S3_URL")
@click.argument("path", default=".")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def get(url: str, path: str, force: bool) -> None:
    """Download a file to PATH: a file, a folder that it goes into, or - for standard output.

    Standard output gets where it is, or with - the file itself.
    """
    place = Path(path)
    if path.endswith("/") and not place.is_dir():
        raise click.BadParameter(f"there is no folder {path}", param_hint="PATH")
    if path == "-":
        with tempfile.TemporaryDirectory() as scratch, Path(_fetch(url, Path(scratch))).open("rb") as file:
            while content := file.read(BLOCK):
                terminal.raw(content)
    elif place.is_dir():
        # Its name is known when it is here: it comes into a folder of its own first.
        with tempfile.TemporaryDirectory(prefix=".gateway-", dir=place) as scratch:
            got = Path(_fetch(url, Path(scratch)))
            _refuse_to_overwrite(place / got.name, force)
            terminal.data(str(got.rename(place / got.name)))
    else:
        _refuse_to_overwrite(place, force)
        terminal.data(_fetch(url, place))


def _refuse_to_overwrite(place: Path, force: bool) -> None:
    if place.exists() and not force:
        raise Failure(f"{place} is there already. Overwrite it with --force, or name another PATH.")


def _fetch(url: str, place: Path) -> str:
    from gateway_server.cli.calling import client

    with terminal.progress(url.rsplit("/", 1)[-1]) as progress, _helped():
        return client().save_file(url, place, progress)


@contextmanager
def _helped() -> Iterator[None]:
    """Says where URLs come from, where one is wrong."""
    try:
        yield
    except Exception as error:
        told = explain(error)
        if told.detail["error_code"] not in ("VALIDATION_ERROR", "PERMISSION_DENIED"):
            raise
        message = f"{told.message}\n{YOUR_FILES}"
        raise Failure(message, told.code, status=told.status, detail=told.detail) from error


@click.command()
@click.option("--area", type=click.Choice(AREAS), help="Only this part of the store.")
@click.option("--prefix", help="The beginning of their keys.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@arguments.from_cursor
@arguments.as_json
def list_(area: str | None, prefix: str | None, limit: int, cursor: str | None, is_json: bool) -> None:
    """List your files."""
    files: list[dict[str, Any]] = []
    query = {"area": area, "prefix": prefix}
    while len(files) < limit:
        page = http.ask("GET", "/v1/files", query={**query, "cursor": cursor, "limit": min(PAGE, limit - len(files))})
        files += page["files"]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    if is_json:
        terminal.document({"files": files, "next_cursor": cursor})
        return
    rows = [(terminal.moment(file.get("last_modified")), file["size"], file["s3_url"]) for file in files]
    empty = "There is no such file." if area or prefix else "You have no files. Upload one with: gateway file put PATH"
    terminal.table((terminal.timed("modified"), "size", "file"), rows, empty=empty)
    terminal.say_more(cursor)


@click.command()
@click.argument("urls", metavar="S3_URL…", nargs=-1, required=True)
def remove(urls: tuple[str, ...]) -> None:
    """Delete files, as many of them as can be."""
    failures = []
    for url in urls:
        try:
            with _helped():
                http.ask("DELETE", "/v1/files", query={"s3_url": url})
            terminal.say(f"Removed {url}")
        except Failure as failure:
            failures.append(failure)
            if len(urls) > 1:
                terminal.say(f"Error: {failure.message.splitlines()[0]}")
    if len(urls) == len(failures) == 1:
        raise failures[0]
    if failures:
        message = f"{len(failures)} of {len(urls)} files were not removed."
        raise Failure(message, max(failure.code for failure in failures))
