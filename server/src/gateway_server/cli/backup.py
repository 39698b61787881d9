"""`gateway backup` and `gateway restore`: a data folder as one file, and back."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway_server.cli import terminal

if TYPE_CHECKING:
    from gateway_server.store.backup import Contents

_folder = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default="gateway-data",
    show_default=True,
    help="The data folder.",
)
MASTER_KEY = "master.key"
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE, required=False)
@_folder
@click.option(
    "--database", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its SQLite file, if elsewhere."
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def back_up(file: Path | None, data: Path, database: Path | None, is_json: bool) -> None:
    """Write a data folder to FILE (.tar, or .tar.gz), while its gateway runs or not.

    Works on the folder itself, on the machine where it lies. Without FILE the name is made of the time.

    \b
    gateway backup nightly.tar.gz --data /var/lib/gateway
    """
    from gateway_server.store import backup as archives

    if file is not None and not file.name.endswith((".tar", ".tar.gz", ".tgz")):
        raise click.BadParameter(f"{file.name} must end with .tar, .tar.gz or .tgz", param_hint="FILE")
    file = file or Path(time.strftime("gateway-backup-%Y%m%d-%H%M%SZ.tar.gz", time.gmtime()))
    with _ended_by_sigterm(), terminal.progress("Backing up") as progress:
        contents = archives.back_up(data, file, database=database, progress=progress)
    if is_json:
        terminal.document({"file": str(file), **_told(contents)})
        return
    terminal.data(str(file))
    terminal.say(_summary(contents))
    if contents.files_elsewhere:
        terminal.say(
            f"{contents.files_elsewhere} files do not lie in the folder: they are in another store (`serve --store`), "
            "which keeps them, or they are lost."
        )
    if (data / MASTER_KEY).exists():
        terminal.say("It holds the master key and the admin's API key: keep it as safe as the folder itself.")
    else:
        terminal.say("It holds the admin's API key: keep it safe. It does not hold the master key, which is elsewhere.")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_folder
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def restore(file: Path, data: Path, is_json: bool) -> None:
    """Make a data folder of the backup FILE. The folder must be new, or empty.

    Calls that ran when the backup was made are recorded as failed when the gateway starts.
    """
    from gateway_server.store import backup as archives

    with _ended_by_sigterm(), terminal.progress("Restoring") as progress:
        contents = archives.restore(file, data, progress=progress)
    if is_json:
        terminal.document({"data": str(data), **_told(contents)})
        return
    terminal.say(_summary(contents))
    terminal.say(f"Start a gateway on it with: gateway serve --data {data}")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the process as an exception does, so that nothing half done stays on the disk."""
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _told(contents: "Contents") -> dict[str, object]:
    created_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(contents.created_at))
    return {**vars(contents), "created_at": created_at}


def _summary(contents: "Contents") -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(contents.created_at))
    versions, files = terminal.count(contents.versions, "prefab version"), terminal.count(contents.files, "file")
    return f"{versions} and {files}, as of {moment}."
