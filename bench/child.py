"""Programs of the suite that run in a process of their own, so that what measures costs all sides the same.

Each is told what to do by one line of JSON on its standard input, its order, and answers with one on its output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def ask(module: str, order: object, *, env: Mapping[str, str] | None = None, timeout: float = 300.0) -> Any:
    """Runs `python -m bench.MODULE` with an order; gives the JSON of the last line that it writes.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", f"bench.{module}"]
    whole = {**os.environ, **(env or {})}
    done = subprocess.run(
        command, cwd=ROOT, env=whole, input=json.dumps(order), capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        raise RuntimeError(f"bench.{module} failed: {done.stderr[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def order() -> Any:
    """In such a program: what it has been told to do."""
    return json.load(sys.stdin)
