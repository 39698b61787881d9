"""Programs of the suite that run in a process of their own, so that what measures costs all sides the same."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def ask(module: str, order: object, *, env: Mapping[str, str] | None = None, timeout: float = 300.0) -> Any:
    """Runs `python -m bench.MODULE ORDER`; gives the JSON of the last line that it writes.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", f"bench.{module}", json.dumps(order)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        raise RuntimeError(f"bench.{module} failed: {done.stderr[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])
