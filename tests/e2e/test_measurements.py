"""The commands whose figures and pictures the documentation shows still run; what they find depends on the machine."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_picture_of_a_calls_stages_can_be_made_anew(tmp_path) -> None:
    told = run("waterfall.py", "--calls", "20", "--folder", str(tmp_path))
    assert re.search(r"^(1[0-9]|20) calls of \d+ µs", told, re.M)
    assert "order to the worker" in (tmp_path / "waterfall.svg").read_text("utf-8")
    assert "命令送到工作进程" in (tmp_path / "waterfall.zh-CN.svg").read_text("utf-8")


def test_what_a_gateway_takes_is_told() -> None:
    told = run("sizing.py", "--versions", "2", "--users", "2", "--calls", "100")
    assert "each idle worker" in told
    assert "MB of records" in told
