"""Data folders with many rows: what a gateway has written for one is written again for many, while it does not run.

To publish ten thousand prefabs by requests would take minutes; their rows, and their folders, are the same this way.
"""

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Change = Callable[[int], Mapping[str, Any]]
"""What differs in the copy with a number."""


def prefabs(folder: Path, count: int) -> None:
    """Versions of `count` further prefabs, each with its folder."""
    names = [f"seeded-{number}" for number in range(count)]
    with _database(folder) as connection:
        _multiply(connection, "prefabs", count, lambda number: {"id": names[number]})
        manifest = json.loads(_first(connection, "versions")["manifest"])

        def version(number: int) -> Row:
            return {"prefab_id": names[number], "manifest": json.dumps({**manifest, "id": names[number]})}

        _multiply(connection, "versions", count, version)
        source = folder / "prefabs" / str(manifest["id"])
    for name in names:
        shutil.copytree(source, folder / "prefabs" / name, copy_function=_link)


def users(folder: Path, count: int) -> None:
    """Users with an API key, a quota and a count of calls each."""
    names = [f"seeded-{number}" for number in range(count)]
    with _database(folder) as connection:
        _multiply(connection, "users", count, lambda number: {"id": names[number]})
        for table in ("quotas", "counters"):
            _multiply(connection, table, count, lambda number: {"user": names[number], "key_id": ""})
        _multiply(
            connection,
            "api_keys",
            count,
            lambda number: {
                "id": f"key_{secrets.token_hex(8)}",
                "digest": secrets.token_hex(32),
                "user": names[number],
                "scopes": "call",
            },
        )


def jobs(folder: Path, count: int) -> None:
    """Records of calls of the same user, with their results."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    with _database(folder) as connection:
        fresh: Row = {"request_key": None, "request_digest": None}
        _multiply(connection, "jobs", count, lambda number: {"id": ids[number], "root_id": ids[number], **fresh})
        _multiply(connection, "job_results", count, lambda number: {"job_id": ids[number]})


def sealed(folder: Path, count: int) -> None:
    """Secrets of the same user."""
    with _database(folder) as connection:
        _multiply(connection, "secrets", count, lambda number: {"prefab_id": f"seeded-{number}"})


def files(folder: Path, count: int) -> None:
    """Files of the same user."""
    with _database(folder) as connection:
        key = _first(connection, "files")["key"]
        fresh: Row = {"request_key": None, "request_digest": None}
        _multiply(connection, "files", count, lambda number: {"key": f"{key}-{number}", **fresh})


def _link(source: str, target: str) -> None:
    """One file under two names, or a copy where it has as many names as it may."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _database(folder: Path) -> Any:
    with contextlib.closing(sqlite3.connect(folder / "gateway.db")) as connection, connection:
        connection.row_factory = sqlite3.Row
        yield connection


def _first(connection: sqlite3.Connection, table: str) -> Row:
    """The newest row of a table."""
    found = connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid DESC LIMIT 1').fetchone()
    return dict(found)


def _multiply(connection: sqlite3.Connection, table: str, count: int, change: Change) -> None:
    row = _first(connection, table)
    columns, places = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
    rows = (tuple({**row, **change(number)}.values()) for number in range(count))
    connection.executemany(f'INSERT INTO "{table}" ({columns}) VALUES ({places})', rows)
