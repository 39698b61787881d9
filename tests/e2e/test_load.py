"""The commands that try a gateway under load, for a short while. CONTRIBUTING.md says how to let them run for long."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_minute_of_mixed_load_has_no_error() -> None:
    told = run("soak.py", "--minutes", "1", "--quiet")
    assert "submit_one" in told
    assert "copy_file" in told


def test_open_streams_are_cheap() -> None:
    told = run("many_streams.py", "--streams", "1000", "--any-delay")
    assert "1000 streams" in told
