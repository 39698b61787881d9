"""The commands that try a gateway under load, for a short while. CONTRIBUTING.md says how to let them run for long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mixed_load_has_no_error() -> None:
    told = run("soak.py", "--minutes", "0.4", "--quiet")
    assert "submit_one" in told
    assert "copy_file" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="the strongest sandbox needs root")
def test_neighbours_of_hostile_calls_have_no_error_and_nothing_is_left() -> None:
    told = run("neighbours.py", "--runs", "1", "--seconds", "1", "--any-share", "outputs")
    assert "0 errors" in told


def test_open_streams_are_cheap() -> None:
    told = run("many_streams.py", "--streams", "1000", "--any-delay")
    assert "1000 streams" in told
