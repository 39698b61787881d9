"""A data folder that is backed up while calls run restores to one that holds together; an older one is upgraded."""

import base64
import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import COMMAND, Gateway, running_gateway, until
from packages import write_package

from gateway_sdk import GatewayClient, PrefabNotFoundError
from gateway_server.errors import Invalid
from gateway_server.store.backup import back_up, restore

DATA = Path(__file__).parents[1] / "data"
SOURCE = """
import os
from pathlib import Path

def write(name: str, size: int):
    Path("data/outputs", name).write_bytes(os.urandom(size))
    print("wrote", name)
    return {"name": name}

def has_secret():
    return os.environ.get("TOKEN", "")
"""
SECRETS = {"has_secret": {"secrets": [{"name": "TOKEN", "description": "any", "required": True}]}}


def gateway_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120, **options)


class Load:
    """Users who run functions, upload, replace and delete files until they are stopped."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.folder = folder
        self.calls = 0
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(number,)) for number in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _live(self, number: int) -> None:
        client = self.gateway.client(f"user-{number}", "desk")
        path = self.folder / f"{number}.txt"
        try:
            while not self._stop.is_set():
                path.write_text(f"{number} {self.calls}")
                made = client.run("writer", "1.0.0", "write", {"name": f"{self.calls}.bin", "size": 50_000})
                assert made.is_success(), made.error
                url = client.upload_file(str(path))
                client.upload_temp_file(str(path))
                if self.calls % 3 == 0:
                    answer = httpx.delete(
                        f"{self.gateway.url}/v1/files",
                        params={"s3_url": url},
                        headers={"X-Internal-Token": self.gateway.token(f"user-{number}", "desk")},
                    )
                    assert answer.is_success, answer.text
                self.calls += 1
        except BaseException as error:
            self.errors.append(error)


def test_a_backup_under_load_holds_together(folder: Path):
    """Records and objects agree, every job has ended, secrets open, and functions run, wherever the backup fell."""
    with running_gateway(folder / "data") as gateway:
        gateway.publish(write_package(folder / "p", SOURCE, prefab_id="writer", functions=SECRETS))
        body = {"prefab_id": "writer", "secret_name": "TOKEN", "secret_value": "of-user-0", "user": "user-0"}
        assert gateway.request("POST", "/v1/secrets", json=body).status_code == 204
        gateway.request("PUT", "/v1/quotas/user-1", json={"limit": 100_000})
        before = gateway.request("GET", "/v1/keys").json()
        with Load(gateway, folder) as load:
            for number in range(3):
                seen = load.calls
                until(lambda seen=seen: load.calls > seen + 10 or load.errors, 60)
                done = gateway_command("backup", str(folder / f"{number}.tar.gz"), "--data", str(gateway.data))
                assert done.returncode == 0, done.stderr
        assert load.errors == []
    for number in range(3):
        assert stat_mode(folder / f"{number}.tar.gz") == 0o600
        shutil.rmtree(folder / "back", ignore_errors=True)
        done = gateway_command("restore", str(folder / f"{number}.tar.gz"), "--data", str(folder / "back"))
        assert done.returncode == 0, done.stderr
        files = check_files(folder / "back")
        assert files > 10
        with running_gateway(folder / "back") as restored:
            assert restored.request("GET", "/v1/keys").json() == before
            check_records(restored)
            client = restored.client("user-0", "desk")
            assert client.run("writer", "1.0.0", "has_secret", {}).get_function_result() == "of-user-0"
            assert restored.request("GET", "/v1/quotas", params={"user": "user-1"}).json()["limit"] == 100_000
            for url in client.list_files()[:5]:
                assert httpx.get(client.download_file(url)).text.startswith("0 ")


LATE = """
import asyncio
from gateway_server import app
from gateway_server.calls import ledger, standings
from gateway_server.cli.commands import main

ledger.EVERY = standings.REMEMBERED_FOR = 600
app.Gateway._sweep = lambda _: asyncio.sleep(600)
main()
"""
"""The gateway's command where nothing but what a test asks for has the journal taken over."""


def test_a_backup_of_a_gateway_that_was_killed_has_every_call_that_was_answered(folder: Path):
    """Some of them are in no table yet: the journal is a part of the backup."""
    with running_gateway(folder / "data") as gateway:
        gateway.publish(write_package(folder / "p", SOURCE, prefab_id="writer", functions=SECRETS))
        gateway.stop()
        gateway.command = [sys.executable, "-c", LATE]
        gateway.start()
        key = gateway.key("ann")
        call = {"prefab_id": "writer", "version": "1.0.0", "function_name": "has_secret", "inputs": {}}
        body = {"prefab_id": "writer", "secret_name": "TOKEN", "secret_value": "of-ann"}
        assert gateway.request("POST", "/v1/secrets", json=body, key=key).status_code == 204
        jobs = [gateway.request("POST", "/v1/run", json={"calls": [call]}, key=key).json()["job_id"] for _ in range(5)]
        assert gateway.process
        gateway.process.kill()
        gateway.process.wait()
        with contextlib.closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
            assert database.execute("SELECT COUNT(*) FROM jobs").fetchone() == (0,)
        back_up(gateway.data, folder / "b.tar.gz")
    restore(folder / "b.tar.gz", folder / "back")
    assert stat_mode(folder / "back" / "journal") == 0o600
    with running_gateway(folder / "back") as restored:
        for job_id in jobs:
            assert restored.request("GET", f"/v1/jobs/{job_id}", key=key).json()["result"]["output"] == "of-ann"
        assert restored.request("GET", "/v1/quotas", key=key).json()["used"] == 5


def test_a_version_that_is_removed_while_it_is_read_is_not_in_the_backup(tmp_path: Path):
    with running_gateway(tmp_path / "data") as gateway:
        for prefab_id in ("stays", "goes", "changes"):
            gateway.publish(write_package(tmp_path / prefab_id, SOURCE, prefab_id=prefab_id))
    seen: list[int] = []

    def remove(done: int, whole: int) -> None:
        """As a gateway does, once: the record goes first, then the folder."""
        if not seen:
            with contextlib.closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as database:
                database.execute("DELETE FROM versions WHERE prefab_id = 'goes'")
                database.execute("UPDATE versions SET digest = 'other' WHERE prefab_id = 'changes'")
                database.commit()
            shutil.rmtree(next((tmp_path / "data" / "prefabs" / "goes").iterdir()) / "src", ignore_errors=True)
        seen.append(done)

    contents = back_up(tmp_path / "data", tmp_path / "b.tar", progress=remove)
    assert contents.versions == 1
    restore(tmp_path / "b.tar", tmp_path / "new")
    with contextlib.closing(sqlite3.connect(tmp_path / "new" / "gateway.db")) as database:
        assert database.execute("SELECT prefab_id FROM versions").fetchall() == [("stays",)]


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def check_files(data: Path) -> int:
    """Every recorded file is there with its size and digest, and nothing else is."""
    with contextlib.closing(sqlite3.connect(data / "gateway.db")) as database:
        rows = database.execute("SELECT key, size, sha256 FROM files").fetchall()
        assert database.execute("SELECT COUNT(*) FROM uploads").fetchone() == (0,)
    kept = data / "objects" / "kept"
    for key, size, digest in rows:
        content = (kept / key).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
    on_disk = [Path(parent, name) for parent, _, names in os.walk(kept) for name in names]
    assert len(on_disk) == len(rows)
    return len(rows)


def check_records(gateway: Gateway) -> None:
    """Every job has ended, and what was charged is what was recorded."""
    with contextlib.closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM jobs WHERE ended_at IS NULL").fetchone() == (0,)
        charged = dict(database.execute("SELECT user, amount FROM counters WHERE metric = 'calls' AND period = 'day'"))
        recorded = dict(database.execute("SELECT user, COUNT(*) FROM jobs WHERE charged GROUP BY user"))
        (job_id,) = database.execute("SELECT id FROM jobs WHERE status = 'succeeded' LIMIT 1").fetchone()
    assert charged == recorded
    assert gateway.request("GET", f"/v1/jobs/{job_id}").json()["result"]


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "")])
def test_a_backup_that_is_interrupted_leaves_nothing(folder: Path, number: signal.Signals, code: int, said: str):
    with running_gateway(folder / "data") as gateway:
        client = gateway.client("ann", "desk")
        with open(folder / "big.bin", "wb") as file:
            for _ in range(64):
                file.write(os.urandom(1 << 20))
        for _ in range(3):
            client.upload_file(str(folder / "big.bin"))
        (folder / "out").mkdir()
        command = [COMMAND, "backup", str(folder / "out" / "b.tar.gz"), "--data", str(gateway.data)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: any(path.is_dir() for path in (folder / "out").iterdir()))
            process.send_signal(number)
            _, told = process.communicate(timeout=30)
        assert (process.returncode, told.strip()) == (code, said)
        assert list((folder / "out").iterdir()) == []


def test_a_backup_removes_what_killed_ones_left(tmp_path: Path):
    """And leaves alone what another one is writing, and folders that are none of its own."""
    with running_gateway(tmp_path / "data") as gateway:
        gateway.key("ann")
    out = tmp_path / "out"
    prefix = ".unfinished-gateway-backup-"
    for name in (f"{prefix}old", f"{prefix}live", ".backup-mine"):
        (out / name).mkdir(parents=True)
        (out / name / "gateway.db").touch()
        os.utime(out / name, (0, 0))
        if name != f"{prefix}live":
            os.utime(out / name / "gateway.db", (0, 0))
    back_up(tmp_path / "data", out / "b.tar")
    assert sorted(path.name for path in out.iterdir()) == [".backup-mine", f"{prefix}live", "b.tar"]


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_the_command_says_whose_keys_are_in_it(tmp_path: Path, is_elsewhere: bool):
    env = {"GATEWAY_MASTER_KEY": base64.b64encode(bytes(32)).decode()} if is_elsewhere else {}
    with running_gateway(tmp_path / "data", env=env):
        pass
    done = gateway_command("backup", str(tmp_path / "b.tar"), "--data", str(tmp_path / "data"))
    assert ("holds the master key" in done.stderr, "not hold the master key" in done.stderr) == (
        not is_elsewhere,
        is_elsewhere,
    )
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert ("master.key" in {Path(name).name for name in archive.getnames()}) is not is_elsewhere


@pytest.mark.parametrize("cut", [0, 10, 500, -1])
def test_what_is_no_whole_backup_is_refused(tmp_path: Path, cut: int):
    with running_gateway(tmp_path / "data") as gateway:
        gateway.key("ann")
    back_up(tmp_path / "data", tmp_path / "b.tar.gz")
    content = (tmp_path / "b.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(content[:cut])
    with pytest.raises(Invalid, match=r"no whole backup|no backup"):
        restore(tmp_path / "cut.tar.gz", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "cut.tar.gz", "data", "data.log"]


def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        (tmp_path / "backup.json").write_text(json.dumps({"format": 1, "schema": "0001"}))
        archive.add(tmp_path / "backup.json", "backup.json")
        archive.add(tmp_path / "backup.json", "../outside.json")
    with pytest.raises(Invalid):
        restore(tmp_path / "evil.tar", tmp_path / "new")
    assert not (tmp_path / "outside.json").exists()
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_there_and_empty_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It may be a mount point, which can be neither removed nor replaced; what fails leaves it empty."""
    with running_gateway(tmp_path / "data") as gateway:
        gateway.key("ann")
    back_up(tmp_path / "data", tmp_path / "b.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "b.tar").read_bytes()[:3000])
    mount = tmp_path / "mount"
    mount.mkdir(mode=0o755)
    before = mount.stat().st_ino
    with pytest.raises(Invalid):
        restore(tmp_path / "cut.tar", mount)
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if target == mount / "gateway.db":
            raise OSError(errno.EIO, "broken")
        replace(source, target)

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="broken"):
            restore(tmp_path / "b.tar", mount)
    assert list(mount.iterdir()) == []
    restore(tmp_path / "b.tar", mount)
    assert (mount.stat().st_ino, stat_mode(mount)) == (before, 0o700)
    assert {path.name for path in mount.iterdir()} >= {"gateway.db", "master.key", "admin.key"}
    assert not list(mount.glob(".restore-*"))


def test_an_archive_never_changes_the_mode_of_a_folder_outside(tmp_path: Path):
    """A folder under an absolute name lands inside, and what has no place in a data folder is refused."""
    outside = tmp_path / "prefabs"
    outside.mkdir(mode=0o700)
    for name in (str(outside), "other/folder", "prefabs/../other"):
        with tarfile.open(tmp_path / "evil.tar", "w") as archive:
            (tmp_path / "backup.json").write_text(json.dumps({"format": 1, "schema": "0001"}))
            archive.add(tmp_path / "backup.json", "backup.json")
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o6777
            archive.addfile(folder)
            for last in ("contents.json", "gateway.db"):
                archive.addfile(tarfile.TarInfo(last))
        with pytest.raises(Invalid, match="does not belong"):
            restore(tmp_path / "evil.tar", tmp_path / "new")
        assert stat_mode(outside) == 0o700
        assert not (tmp_path / "new").exists()


def test_modes_are_set_inside_the_folder_alone(tmp_path: Path):
    with running_gateway(tmp_path / "data") as gateway:
        gateway.key("ann")
    back_up(tmp_path / "data", tmp_path / "b.tar")
    folder = tarfile.TarInfo("prefabs/some")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o6777
    with tarfile.open(tmp_path / "b.tar", "a") as archive:
        archive.addfile(folder)
    restore(tmp_path / "b.tar", tmp_path / "new")
    assert (tmp_path / "new" / "prefabs" / "some").stat().st_mode & 0o7777 == 0o755


def test_the_command_says_what_is_wrong(tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "no.tar").write_text("no archive")
    done = gateway_command("backup", "--data", str(tmp_path / "full"), cwd=tmp_path)
    assert (done.returncode, "is no data folder" in done.stderr) == (1, True)
    done = gateway_command("restore", str(tmp_path / "no.tar"), "--data", str(tmp_path / "full"))
    assert (done.returncode, "not empty" in done.stderr) == (1, True)
    done = gateway_command("restore", str(tmp_path / "no.tar"), "--data", str(tmp_path / "new"))
    assert (done.returncode, "no whole backup" in done.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "no.tar"]


def test_a_folder_of_the_release_before_is_upgraded_with_all_that_is_in_it(folder: Path):
    """tests/data/data-folder-1.0.0.tar.gz was written by that release: two users with keys, secrets, files and jobs."""
    data = folder / "data"
    with tarfile.open(DATA / "data-folder-1.0.0.tar.gz") as archive:
        archive.extractall(data, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    keys = json.loads((DATA / "data-folder-1.0.0.keys.json").read_text())
    age_by(data, time.time() - (data / "master.key").stat().st_mtime)
    with running_gateway(data) as gateway:
        users = gateway.request("GET", "/v1/users").json()["users"]
        assert [(user["id"], user["status"], user["keys"]) for user in users] == [
            ("admin", "active", 1),
            ("ann", "active", 1),
            ("bob", "active", 1),
        ]
        assert gateway.request("GET", "/v1/quotas", params={"user": "ann"}).json()["limit"] == 50
        (agent,) = gateway.request("GET", "/v1/agents").json()["agents"]
        assert (agent["id"], agent["url"]) == ("old-agent", "http://127.0.0.1:9")
        for user in ("ann", "bob"):
            assert gateway.request("GET", "/v1/secrets", key=keys[user]).json() == {
                "secrets": [{"prefab_id": "echo", "secret_name": "TOKEN"}]
            }
            client = gateway.client(user, "helper")
            (kept,) = client.list_files()
            assert httpx.get(client.download_file(kept)).text == f"kept by {user}\n"
            usage = gateway.request("GET", "/v1/usage", key=keys[user]).json()
            assert (usage["calls"], usage["rows"][0]["prefab"]) == (1, "echo")
            direct = GatewayClient.from_api_key(keys[user], base_url=gateway.url)
            assert direct.run("echo", "1.0.0", "echo", {"text": user}).get_function_result()["text"] == user
        with pytest.raises(PrefabNotFoundError):
            client.run("echo", "2.0.0", "echo", {"text": ""})


def test_a_folder_of_a_newer_release_is_left_alone(tmp_path: Path):
    with running_gateway(tmp_path / "data") as gateway:
        gateway.key("ann")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    done = gateway_command("serve", "--port", "0", "--data", str(tmp_path / "data"))
    assert (done.returncode, "of a newer gateway" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


def age_by(data: Path, seconds: float) -> None:
    """Moves every moment in a database forward, so that its content is as young as it was when it was written."""
    with contextlib.closing(sqlite3.connect(data / "gateway.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1].endswith("_at")]
            for column in columns:
                database.execute(f"UPDATE {table} SET {column} = {column} + ?", (seconds,))
        database.commit()
