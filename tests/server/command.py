"""The installed command, run as people and scripts run it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateways import COMMAND

LIMIT = 60


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """Standard output, which must be a single line."""
        assert self.code == 0, self
        assert self.out.count("\n") == 1, self
        return self.out.strip()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """The command line in one folder and one environment."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | env

    def __call__(self, *arguments: object, stdin: str = "", **env: str) -> Ended:
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            cwd=self.folder,
            env=self.env | env,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: object, **env: str) -> subprocess.Popen[str]:
        """For commands that run until they are told to end."""
        return subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.env | env,
        )
