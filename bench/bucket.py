"""A store that speaks S3, on this machine: SeaweedFS, where it is among the installed packages."""

import json
import secrets
import sys
from pathlib import Path

from bench.endpoint import HOST
from bench.server import Server, free_port

PROGRAM = Path(sys.executable).with_name("weed")
NAME = "bench-bucket"
HIGHEST = 55_000
"""Every listener of it takes a second port, 10,000 above."""


class Bucket(Server):
    """A store with one bucket; `env` is how clients find it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        access, secret = f"AK{secrets.token_hex(8)}", secrets.token_hex(16)
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "bench", "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = {name: _port() for name in ("master", "volume", "filer", "s3", "admin")}
        command = [str(PROGRAM), "mini", f"-dir={folder}", f"-ip={HOST}", f"-ip.bind={HOST}", f"-bucket={NAME}"]
        command += [f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false"]
        command += [
            "-admin.ui=false",
            "-master.telemetry=false",
            *(f"-{name}.port={port}" for name, port in ports.items()),
        ]
        super().__init__("SeaweedFS", command, log=folder.with_suffix(".log"), cwd=folder)
        self.port = ports["s3"]
        self.env = {"AWS_ENDPOINT_URL": f"http://{HOST}:{self.port}", "AWS_REGION": "us-east-1"}
        self.env |= {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}


def _port() -> int:
    while (port := free_port()) > HIGHEST:
        pass
    return port
