"""The benchmark suite itself, on a tiny run: that it measures and writes, not what. Its figures are never asserted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gateways import descendants

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "bench", "--smoke")


def test_a_tiny_run_writes_its_table(tmp_path: Path) -> None:
    parts = "unary,honest,client"
    done = subprocess.run(
        [*COMMAND, "--only", parts, "--results", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    page, data = (tmp_path / "latest.md").read_text(), json.loads((tmp_path / "latest.json").read_text())
    measured = {goal["key"] for goal in data["goals"]}
    assert measured == {
        "unary.1",
        "unary.16",
        "unary.64",
        "unary.cpu",
        "unary.tail",
        "honest.16",
        "honest.records",
        "honest.found",
        "honest.kept",
        "client.together",
        "client.apart",
        "client.make",
        "client.import",
    }
    assert "| echo, 16 connections: requests/s against Starlette |" in page
    assert data["missing"] == {}
    assert data["noise"]["baseline_against_itself"]["count"] == 4


def test_a_run_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [*COMMAND, "--only", "streams", "--results", str(tmp_path / "results")]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "open streams" in line:  # the gateway and a worker are there
                break
        below = descendants(run.pid)
        assert below
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    end = time.monotonic() + 10
    while left := [pid for pid in below if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, left
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_not_there_is_refused() -> None:
    done = subprocess.run([*COMMAND, "--only", "nothing"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "there are unary" in done.stderr
