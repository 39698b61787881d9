"""Dependency environments: one read-only folder per set of resolved dependencies, shared by all versions that need it.

A folder `root/<key>` is complete from the moment it exists: it is built beside it, under a locked name of its own, and
renamed. Processes that build the same key at the same time both build it, and one of the results is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from packaging.specifiers import SpecifierSet

from gateway_server.prefabs.requirements import OWN, RUNTIME, SDK, RequirementRefused, name_of, normalise
from gateway_server.prefabs.support import lay_out_support, sdk_wheel
from gateway_server.prefabs.uv import EnvironmentBuildError, run_tool, uv_command
from gateway_server.threads import finished

__all__ = ["EnvironmentBuildError", "Environments", "Resolution", "lay_out_support", "sdk_wheel"]

RESOLVE_TIMEOUT = 180.0
INSTALL_TIMEOUT = 1200.0
COMPILE_TIMEOUT = 600.0
MARKER = ".complete"
#: Changes when environments are laid out differently, so that older ones are not taken for new ones.
LAYOUT = "1"

_BUILDING = ".building-"
_LOCK_LINE = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+( \\)?| {4}--hash=[a-z0-9]+:[0-9a-f]+( \\)?|")

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Which packages a version runs with, as uv resolved them."""

    #: Names the environment: the same for every version that resolves alike on this kind of interpreter.
    key: str
    #: Exact versions with hashes, as uv installs them; empty without dependencies.
    lock: str


@dataclass(kw_only=True)
class _Build:
    task: asyncio.Task[Path]
    listeners: list[Progress] = field(default_factory=list)
    waiting: int = 0


class Environments:
    """Builds environments and keeps them, one for all versions that resolve alike."""

    def __init__(self, root: Path, sdk_wheel: Callable[[], Path], allow_source: bool = False) -> None:
        self._root = root
        self._sdk_wheel = sdk_wheel
        self._allow_source = allow_source
        self._builds: dict[str, _Build] = {}

    async def resolve(self, requirements: Iterable[str], requires_python: str | None) -> Resolution:
        """Exact versions of everything that the requirements need, for the interpreter of the gateway."""
        _check_python(requires_python)
        try:
            wanted = [text for text in normalise(requirements) if name_of(text) != RUNTIME]
        except RequirementRefused as error:
            raise EnvironmentBuildError(str(error)) from error
        lock = await self._compile(wanted) if wanted else ""
        return Resolution(key=_key(lock), lock=lock)

    async def build(self, resolution: Resolution, progress: Progress | None = None) -> Path:
        """The environment of a resolution, built unless it is there; concurrent callers share one build."""
        ready = self.path(resolution.key)
        if ready is not None:
            return ready
        build = self._builds.get(resolution.key)
        if build is None:
            listeners: list[Progress] = []
            build = _Build(task=asyncio.create_task(self._build(resolution, listeners)), listeners=listeners)
            self._builds[resolution.key] = build
            build.task.add_done_callback(lambda _: self._forget(resolution.key, build))
        if progress is not None:
            build.listeners.append(progress)
        build.waiting += 1
        try:
            return await asyncio.shield(build.task)
        finally:
            build.waiting -= 1
            if build.waiting == 0 and not build.task.done():
                build.task.cancel()
                self._forget(resolution.key, build)
                await asyncio.wait([build.task])

    def _forget(self, key: str, build: _Build) -> None:
        if self._builds.get(key) is build:  # else another has begun since
            del self._builds[key]

    def path(self, key: str) -> Path | None:
        """The folder of a complete environment."""
        folder = self._root / key
        return folder if (folder / MARKER).is_file() else None

    def sweep(self) -> None:
        """Removes what killed builds left behind; builds of living processes are locked and stay."""
        for folder in self._root.glob(f"{_BUILDING}*"):
            lock = _lock(folder)
            if lock is not None:
                _Workshop(folder=folder, lock=lock).close()

    def prune(self, keep: set[str]) -> None:
        """Removes all environments but those named. What else lies there, such as the lost+found of a volume, stays."""
        self.sweep()
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if folder.name not in keep and os.path.isfile(folder / MARKER):  # no, too, where it may not look
                self._discard(folder)

    async def _compile(self, wanted: list[str]) -> str:
        async with self._workshop() as workshop:
            (workshop.folder / "wanted.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")
            # A requirement that holds nowhere drops the runtime, which has no dependencies of its own.
            wheel = await asyncio.to_thread(self._sdk_wheel)
            overrides = [f"{SDK} @ {wheel.resolve().as_uri()}", f'{RUNTIME}; python_version < "0"']
            (workshop.folder / "own.txt").write_text("\n".join(overrides) + "\n", encoding="utf-8")
            command = uv_command("pip", "compile", "wanted.txt", "--override", "own.txt", "--python", sys.executable)
            command += ["--no-header", "--no-annotate", "--generate-hashes", *self._binary_only()]
            command += [part for name in sorted(OWN) for part in ("--no-emit-package", name)]
            lock = await run_tool(command, cwd=workshop.folder, limit=RESOLVE_TIMEOUT, lock=workshop.lock)
        for line in lock.splitlines():
            if not _LOCK_LINE.fullmatch(line):
                raise EnvironmentBuildError(f"a dependency does not come from the package index: {line}", lock)
        return lock

    async def _build(self, resolution: Resolution, listeners: list[Progress]) -> Path:
        def progress(line: str) -> None:
            for listener in listeners:
                listener(line)

        async with self._workshop() as workshop:
            built = workshop.folder / "built"
            built.mkdir()
            if resolution.lock:
                (workshop.folder / "lock.txt").write_text(resolution.lock)
                command = uv_command(
                    "pip", "install", "--target", "built", "--python", sys.executable, "-r", "lock.txt"
                )
                command += ["--no-deps", "--require-hashes", "--link-mode", "copy", *self._binary_only()]
                limit = INSTALL_TIMEOUT
                await run_tool(command, cwd=workshop.folder, limit=limit, lock=workshop.lock, progress=progress)
                await finished(_tidy, built)
                await _precompile(built, workshop.lock)
            return await finished(self._finish, built, resolution)  # else the workshop would be taken from under it

    def _finish(self, built: Path, resolution: Resolution) -> Path:
        (built / MARKER).write_text(resolution.lock)
        _make_readable(built)
        os.sync()  # what the marker promises must be on the disk before the name is
        target = self._root / resolution.key
        if target.exists() and self.path(resolution.key) is None:
            self._discard(target)
        # Another process may have built the same in the meantime: its result is as good.
        with contextlib.suppress(OSError):
            os.rename(built, target)
        if self.path(resolution.key) is None:
            raise EnvironmentBuildError(f"the environment could not be put at {target}")
        return target

    def _discard(self, folder: Path) -> None:
        """Takes an environment away at once, however long its removal takes."""
        workshop = self._open_workshop()
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, workshop.folder / "discarded")
        finally:
            workshop.close()

    def _binary_only(self) -> list[str]:
        return [] if self._allow_source else ["--only-binary", ":all:"]

    @asynccontextmanager
    async def _workshop(self) -> AsyncIterator[_Workshop]:
        workshop = self._open_workshop()
        try:
            yield workshop
        finally:
            await asyncio.shield(asyncio.to_thread(workshop.close))

    def _open_workshop(self) -> _Workshop:
        self._root.mkdir(parents=True, exist_ok=True)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self._root))
            lock = _lock(folder)
            if lock is None:
                continue
            if folder.exists():
                return _Workshop(folder=folder, lock=lock)
            os.close(lock)  # a sweep came in between


@dataclass(frozen=True, kw_only=True)
class _Workshop:
    """A folder beside the environments that belongs to one build, as long as somebody holds its lock."""

    folder: Path
    lock: int

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder until it is closed; None if it is held already, or gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _check_python(requires_python: str | None) -> None:
    version = platform.python_version()
    if requires_python and not SpecifierSet(requires_python).contains(version, prereleases=True):
        raise EnvironmentBuildError(f"the package needs Python {requires_python}, and the gateway runs on {version}")


def _key(lock: str) -> str:
    if not lock:
        return f"empty-{LAYOUT}"
    parts = (LAYOUT, sys.implementation.cache_tag, sysconfig.get_config_var("SOABI"), sysconfig.get_platform(), lock)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:40]


def _tidy(built: Path) -> None:
    """Takes out what uv needs only for itself, and lets scripts find the interpreter of the worker."""
    (built / ".lock").unlink(missing_ok=True)
    for script in (built / "bin").glob("*"):
        if script.is_file() and not script.is_symlink():
            _fix_shebang(script)


def _fix_shebang(script: Path) -> None:
    content = script.read_bytes()
    first, _, rest = content.partition(b"\n")
    if first.startswith(b"#!") and b"python" in first:
        script.write_bytes(b"#!/usr/bin/env python3\n" + rest)
    elif first == b"#!/bin/sh" and rest.startswith(b"'''exec'"):
        # How installers start an interpreter whose path is too long for a first line.
        script.write_bytes(b"#!/usr/bin/env python3\n" + rest.partition(b"' '''\n")[2])


async def _precompile(built: Path, lock: int) -> None:
    """Workers cannot write bytecode here, so they find it. Files that do not compile are no reason to fail."""
    command = [sys.executable, "-I", "-m", "compileall", "-qq", "-j", "0", "--invalidation-mode", "unchecked-hash", "."]
    with contextlib.suppress(EnvironmentBuildError):
        await run_tool(command, cwd=built, limit=COMPILE_TIMEOUT, lock=lock)


def _make_readable(built: Path) -> None:
    for path in (built, *built.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)
