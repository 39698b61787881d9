"""Removing a folder that a package has filled, however deep it dug."""

import shutil
import subprocess
from pathlib import Path


def remove(folder: Path) -> None:
    """Removes a folder with everything below it, as far as that is possible; no link is followed. Blocking."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # Python before 3.13 goes down by calling itself; rm does not
        subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)
