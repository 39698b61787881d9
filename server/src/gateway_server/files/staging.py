"""Puts the input files of a call into its workspace.

The package may still have threads running in there, under another user's id while the gateway is root. So every folder
is opened in the one above it and never through a link, every file is new, and is given away by its descriptor.
"""

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway_runtime.workspace import INPUTS, opened
from gateway_server.errors import RuntimeCrashed, ServiceUnavailable
from gateway_server.files.names import Names, safe_name
from gateway_server.files.records import StoredFile
from gateway_server.store.objects import Objects

_AT_ONCE = 8


async def stage(
    objects: Objects, files: Mapping[str, Sequence[StoredFile]], workspace: Path, owner: int | None
) -> None:
    """Copies files to `data/inputs/<key>/<name>` and gives them to `owner`. Two of one name become `name (2).ext`.

    Raises:
        FileNotFound: a file has been deleted meanwhile.
        RuntimeCrashed: the worker keeps the gateway from its own workspace.
        ServiceUnavailable: the disk is full.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def copy(file: StoredFile, folder: str, name: str) -> None:
        async with gate:
            descriptor = _create(workspace, folder, name)
            try:
                await objects.copy_out(file.key, descriptor)
                if owner is not None:
                    os.fchown(descriptor, owner, owner)
            finally:
                os.close(descriptor)

    plan = _plan(files)
    try:
        for folder in plan:
            _make_folder(workspace, folder, owner)
        copies = [copy(file, folder, name) for folder, named in plan.items() for name, file in named.items()]
        for outcome in await asyncio.gather(*copies, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ServiceUnavailable("There is no room for the inputs of the call.") from error
        raise RuntimeCrashed("The workspace of the worker cannot be used; the prefab has changed it.") from error


def _plan(files: Mapping[str, Sequence[StoredFile]]) -> dict[str, dict[str, StoredFile]]:
    """Which file goes where: folders, names in them, files."""
    plan: dict[str, dict[str, StoredFile]] = {}
    names: dict[str, Names] = {}
    for key, group in files.items():
        folder = _folder(key)
        taken = names.setdefault(folder, Names())
        for file in group:
            plan.setdefault(folder, {})[taken.take(safe_name(file.name))] = file
    return plan


def _folder(key: str) -> str:
    """The key itself: it is under exactly this name that a function looks. A manifest has none that is no folder's."""
    return safe_name(key) if key in ("", ".", "..") or set(key) & set("/\0") else key


def _make_folder(workspace: Path, folder: str, owner: int | None) -> None:
    with opened(workspace, INPUTS) as inputs:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700, dir_fd=inputs)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inputs)
        try:
            if owner is not None:
                os.fchown(descriptor, owner, owner)
        finally:
            os.close(descriptor)


def _create(workspace: Path, folder: str, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with opened(workspace, f"{INPUTS}/{folder}") as inside:
        return os.open(name, flags, 0o600, dir_fd=inside)
