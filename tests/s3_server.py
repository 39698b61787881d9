"""A real server that speaks S3, on this machine, for as long as the tests run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from proxies import free_port

BUCKET = "test-bucket"
ACCESS, SECRET = "AKTEST", "SKTESTSKTEST"
PROGRAM = Path(sys.executable).with_name("weed")


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Gives the variables of the environment by which clients find it."""
    identity = {"name": "admin", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {name: _port() for name in ("master", "volume", "filer", "s3", "admin")}
    arguments = [f"-{name}.port={port}" for name, port in ports.items()]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                str(PROGRAM), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                f"-s3.config={folder / 's3.json'}", *arguments, "-s3.port.iceberg=0", "-s3.port.lance=0",
                "-webdav=false", "-admin.ui=false", "-master.telemetry=false", f"-bucket={BUCKET}",
            ],
            stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "GOMEMLIMIT": "300MiB"}, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(process, f"http://127.0.0.1:{ports['s3']}/healthz", folder / "log")
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _port() -> int:
    """Each listener takes a second port, 10,000 above."""
    while (port := free_port()) > 55_000:
        pass
    return port


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.05)  # between two looks
