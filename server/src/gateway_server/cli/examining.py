"""What this machine offers a gateway, tried out rather than guessed."""

import asyncio
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway_server.cli.doctor import BAD, GOOD, WEAK, Finding
from gateway_server.engine.local.isolation import Isolation
from gateway_server.engine.local.pool import LocalEngine
from gateway_server.errors import ServiceUnavailable
from gateway_server.prefabs.support import lay_out_support
from gateway_server.prefabs.uv import uv_command
from gateway_server.settings import Settings

OLDEST_PYTHON = (3, 11)
LITTLE_DISK = 2 << 30
_PROTECTIONS = {
    Isolation.UIDS: "each worker has a uid of its own, in namespaces that hold nothing else",
    Isolation.PIDS: "each prefab has namespaces of its own; its workers share a uid (run as root for more)",
    Isolation.NONE: "prefabs run as ordinary processes of this user: publish only what you trust",
}


def examine(data: Path) -> Iterator[Finding]:
    """One finding after the other; `data` is the folder that a gateway would use."""
    yield _python()
    yield _platform()
    yield _uv()
    yield _folder(data)
    yield _disk(data)
    yield from asyncio.run(_sandbox())


def _python() -> Finding:
    state = GOOD if sys.version_info >= OLDEST_PYTHON else BAD
    return Finding("python", state, f"{platform.python_version()} at {sys.executable}")


def _platform() -> Finding:
    text = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if sys.platform == "linux":
        return Finding("system", GOOD, text)
    return Finding("system", WEAK, f"{text}; no sandbox here, for development only")


def _uv() -> Finding:
    try:
        answer = subprocess.run(uv_command("--version"), capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "uv", BAD, f"cannot be run ({error}); prefabs cannot be published. Install it with: pip install uv"
        )
    return Finding("uv", GOOD, answer.stdout.strip())


def _folder(data: Path) -> Finding:
    place = _existing(data)
    if not place.is_dir():
        return Finding("data folder", BAD, f"{place} is no folder")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding("data folder", BAD, f"{data} cannot be written: {error.strerror}")
    return Finding("data folder", GOOD, f"{data} can be written" if data.exists() else f"{data} can be made")


def _disk(data: Path) -> Finding:
    try:
        free = shutil.disk_usage(_existing(data)).free
    except OSError as error:
        return Finding("free disk", BAD, str(error.strerror))
    text = f"{free / (1 << 30):.1f} GiB"
    return Finding("free disk", GOOD if free >= LITTLE_DISK else WEAK, text)


def _existing(data: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    place = data.absolute()
    while not place.exists():
        place = place.parent
    return place


async def _sandbox() -> list[Finding]:
    """Starts the engine for real: what it settles on is what a gateway would have."""
    with tempfile.TemporaryDirectory(prefix="gateway-doctor-") as folder:
        root = Path(folder)
        os.chmod(root, 0o755)  # noqa: S103  workers of other uids pass through
        support = lay_out_support(root / "support")
        engine = LocalEngine(Settings(data=root), support=support, workspaces=root / "work", base_url=lambda: "")
        try:
            await engine.start()
        except ServiceUnavailable as error:
            return [Finding("sandbox", BAD, error.message)]
        try:
            level = engine.isolation
            state = GOOD if level is Isolation.UIDS else WEAK
            found = [Finding("sandbox", state, f"{level.value}: {_PROTECTIONS[level]}")]
            refused = engine.refused.items()
            found += [Finding(f"sandbox {name.value}", WEAK, f"not offered: {why}") for name, why in refused]
            return found + [Finding(one.name, GOOD if one.held else WEAK, one.detail) for one in engine.protections]
        finally:
            await engine.close()
