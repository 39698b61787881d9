"""Finds what a function has written below `data/outputs`, and sorts it by the keys of the manifest.

Nothing is reached through a link, and only regular files of the worker's own count. What is left out is told.
"""

import os
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway_runtime.workspace import OUTPUTS, opened
from gateway_server.files.names import Names, safe_name

MOST_FILES = 10_000
DEEPEST = 32
"""Folders within each other."""
BREATH, BREATHER = 50, 0.002
"""After how many entries a walk lets others on, and for how long, in seconds: three times as long as they take."""
LONGEST = 600
"""Bytes of a path below `data/outputs`; with what stands before it, a key fits the 1,024 of S3."""
DEFAULT_KEY = "output"
_breathing = threading.Lock()
"""Long walks let others on one after the other, so that several together take no more of the interpreter than one."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a function wrote."""

    relative: str
    """Its path below `data/outputs`, made safe."""
    size: int
    """Bytes, when it was found."""
    workspace: Path
    path: str
    """Its path below `data/outputs` as the system has it."""

    def open(self) -> int:
        """A descriptor for reading it, without following a link.

        Raises:
            FileNotFoundError: it is no regular file any more.
        """
        folder, _, name = self.path.rpartition("/")
        try:
            with opened(self.workspace, f"{OUTPUTS}/{folder}") as inside:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=inside)
        except OSError as error:
            raise FileNotFoundError(name) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(name)
        return descriptor


@dataclass(frozen=True, slots=True)
class Collection:
    """What a function has written."""

    outputs: list[Output]
    skipped: list[str]
    """What was left out and why, a line each, for the job's log."""


def collect(
    workspace: Path, *, owner: int | None = None, limit: int | None = None, most: int | None = None
) -> Collection:
    """Walks `data/outputs`, in the order of names. Blocks.

    Args:
        workspace: the folder of the call.
        owner: the only uid whose files count; None where workers have none of their own.
        limit: most bytes of one file.
        most: most bytes of all files together.
    """
    walk = _Walk(workspace, owner, limit, most)
    try:
        with opened(workspace, OUTPUTS) as top:
            walk.enter(top, "", "", 1)
    except OSError as error:
        walk.skip("", f"cannot be read: {error.strerror}")
    return Collection(walk.found, walk.skipped)


class _Walk:
    """One walk over the outputs."""

    def __init__(self, workspace: Path, owner: int | None, limit: int | None, most: int | None) -> None:
        self.found: list[Output] = []
        self.skipped: list[str] = []
        self._workspace = workspace
        self._owner = owner
        self._limit = limit
        self._most = self._left = most

    def skip(self, relative: str, reason: str) -> None:
        if len(self.skipped) < 100:
            self.skipped.append(f"{OUTPUTS}/{relative}: {reason}")

    def enter(self, folder: int, path: str, relative: str, depth: int) -> None:
        """Everything in an open folder. `path` and `relative` end in a slash, or are empty."""
        names = Names()
        for number, name in enumerate(sorted(os.listdir(folder)), 1):
            if number % BREATH == 0:
                with _breathing:
                    time.sleep(BREATHER)
            if len(self.found) >= MOST_FILES:
                self.skip(relative, f"a call keeps at most {MOST_FILES} files; the rest is left out")
                return
            safe = names.take(safe_name(name))
            try:
                self._visit(folder, name, path + name, relative + safe, depth)
            except OSError as error:
                self.skip(relative + safe, f"cannot be read: {error.strerror}")

    def _visit(self, folder: int, name: str, path: str, relative: str, depth: int) -> None:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._descend(folder, name, path, relative, depth)
        elif not stat.S_ISREG(status.st_mode):
            self.skip(relative, "is no regular file")
        elif self._owner is not None and status.st_uid != self._owner:
            self.skip(relative, "belongs to somebody else")
        elif self._limit is not None and status.st_size > self._limit:
            self.skip(relative, f"has more than {self._limit} bytes")
        elif len(relative.encode()) > LONGEST:
            self.skip(relative[:80] + "…", f"has a path of more than {LONGEST} bytes")
        elif self._left is not None and status.st_size > self._left:  # holes and second names take nothing, copies do
            self.skip(relative, f"has no room: what a call keeps has at most {self._most} bytes in all")
        else:
            if self._left is not None:
                self._left -= status.st_size
            self.found.append(Output(relative, status.st_size, self._workspace, path))

    def _descend(self, folder: int, name: str, path: str, relative: str, depth: int) -> None:
        if depth >= DEEPEST:
            self.skip(relative, f"lies deeper than {DEEPEST} folders")
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inside = os.open(name, flags, dir_fd=folder)
        try:
            self.enter(inside, f"{path}/", f"{relative}/", depth + 1)
        finally:
            os.close(inside)


def group(outputs: Sequence[Output], output_keys: Sequence[str]) -> dict[str, list[Output]]:
    """The outputs under the keys that the function declares; keys without files are left out.

    One key takes everything. Of several, the first folder names the key, and what lies elsewhere goes to `output`, as
    does everything of a function that declares none.
    """
    if len(output_keys) == 1:
        return {output_keys[0]: list(outputs)} if outputs else {}
    by_folder = {safe_name(key): key for key in output_keys}
    grouped: dict[str, list[Output]] = {}
    for output in outputs:
        folder, slash, _ = output.relative.partition("/")
        grouped.setdefault(by_folder.get(folder, DEFAULT_KEY) if slash else DEFAULT_KEY, []).append(output)
    order = dict.fromkeys([*output_keys, DEFAULT_KEY])
    return {key: grouped[key] for key in order if key in grouped}
