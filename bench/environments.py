"""An environment for each of what the product is compared with, made once from its requirements."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
UV = Path(sys.executable).with_name("uv")
MARK = "made-of"
"""A file in an environment with the digest of the requirements it was made of."""


class Missing(Exception):
    """An environment cannot be made; says why."""


def requirements(name: str) -> Path:
    """What goes into an environment: names and versions, and no address of an index."""
    return HERE / "requirements" / f"{name}.txt"


def version(name: str, package: str) -> str:
    """The version of a package in an environment."""
    for line in requirements(name).read_text().splitlines():
        found, _, rest = line.partition("==")
        if found.partition("[")[0] == package:
            return rest.split()[0]
    return ""


def environment(name: str) -> Path:
    """The folder of programs of an environment, which is made if it is not there yet.

    Raises:
        Missing: it cannot be made.
    """
    folder = CACHE / name
    digest = hashlib.sha256(requirements(name).read_bytes() + sys.version.encode()).hexdigest()
    mark = folder / MARK
    if not (mark.exists() and mark.read_text() == digest):
        shutil.rmtree(folder, ignore_errors=True)
        CACHE.mkdir(exist_ok=True)
        _uv("venv", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(folder / "bin/python"), "-r", str(requirements(name)))
        mark.write_text(digest)
    return folder / "bin"


def _uv(*arguments: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    command = [str(UV), *arguments, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = re.sub(r"https?://\S+", "(the index)", " ".join(done.stderr.split()))  # which one is nobody's business
        raise Missing(said[:300] or f"uv ended with {done.returncode}")
