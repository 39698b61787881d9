"""What a gateway takes of its machine: memory, descriptors, and room in the database.

    .venv/bin/python scripts/sizing.py [--versions 8] [--users 20] [--calls 10000] [--sandbox auto]

Memory is PSS: what processes share counts once. Of small calls only: what a function takes itself comes on top.
"""

import argparse
import http.client
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from gateways import Gateway, running_gateway  # noqa: E402
from packages import write_package  # noqa: E402

from bench.processes import family, pss_mb  # noqa: E402

SOURCE = "def echo(text: str):\n    return text\n"
TEXT = "hello world, this is a small payload"
SETTLE = 1.0
"""Seconds until what a call set in motion has come to rest."""


def call(gateway: Gateway, key: str, prefab_id: str, times: int = 1) -> None:
    """Small calls, one after the other, each with an Idempotency-Key as the SDK sends them."""
    one = {"prefab_id": prefab_id, "version": "1.0.0", "function_name": "echo"}
    body = json.dumps({"calls": [{**one, "inputs": {"parameters": {"text": TEXT}}}]})
    with closing(http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)) as connection:
        for number in range(times):
            headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"sizing-{prefab_id}-{number}"}
            connection.request("POST", "/v1/run", body, headers)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 200, told


def descriptors(gateway: Gateway) -> int:
    """Open files of the gateway's own process."""
    return len(os.listdir(f"/proc/{gateway.pid}/fd"))


def look(gateway: Gateway) -> tuple[float, int]:
    """Megabytes of all processes, and descriptors of the gateway, once everything rests."""
    time.sleep(SETTLE)
    return pss_mb(family([gateway.pid])), descriptors(gateway)


def size(connection: sqlite3.Connection) -> int:
    """Bytes of a database that hold anything."""
    pages, free, each = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * each)


@contextmanager
def copy(gateway: Gateway) -> Iterator[sqlite3.Connection]:
    """The database with everything that was recorded, to be changed at will."""
    assert gateway.request("GET", "/v1/jobs").is_success  # which has the journal taken over
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as there, closing(sqlite3.connect(":memory:")) as here:
        there.backup(here)
        yield here


def measure_processes(gateway: Gateway, folder: Path, versions: int, users: int) -> None:
    """Memory and descriptors."""
    key = gateway.key("first", "call")
    at_rest, files_at_rest = look(gateway)
    print(f"gateway, at rest                  {at_rest:7.1f} MB  {files_at_rest:6d} descriptors of the gateway")
    for number in range(versions):
        gateway.publish(write_package(folder / f"p{number}", SOURCE, prefab_id=f"size-{number}"))
    call(gateway, key, "size-0")
    first, files_first = look(gateway)
    for number in range(1, versions):
        call(gateway, key, f"size-{number}")
    all_versions, files_versions = look(gateway)
    for number in range(users):
        call(gateway, gateway.key(f"user-{number}", "call"), "size-0")
    all_users, files_users = look(gateway)
    worker, files_worker = (all_users - all_versions) / users, (files_users - files_versions) / users
    each, files_each = (all_versions - first) / (versions - 1), (files_versions - files_first) / (versions - 1)
    print(f"each idle worker                  {worker:7.1f} MB  {files_worker:6.1f}")
    print(
        f"each version with an idle worker  {each:7.1f} MB  {files_each:6.1f}  (with a spare one where there are any)"
    )
    print(f"each version, without its workers {each - 2 * worker:7.1f} MB  {files_each - 2 * files_worker:6.1f}")


def measure_records(gateway: Gateway, calls: int) -> None:
    """Room in the database."""
    key = gateway.key("caller", "call")
    call(gateway, key, "size-0")
    with copy(gateway) as database:
        before = size(database)
    call(gateway, key, "size-0", calls + 1)
    with copy(gateway) as database:
        whole = size(database)
        database.execute("DELETE FROM job_results")
        database.commit()
        records = size(database) - before
    each = 10_000 / calls / 1e6
    print(f"10,000 calls: {records * each:.2f} MB of records, {(whole - before - records) * each:.2f} MB of results")


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=8)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--sandbox", default="auto")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_gateway(folder / "data", "--sandbox", asked.sandbox) as gateway:
            measure_processes(gateway, folder, asked.versions, asked.users)
            measure_records(gateway, asked.calls)


if __name__ == "__main__":
    main()
