"""Files of this machine: opened with errors that say what is wrong, read in blocks, watched for changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._typing import TYPE_CHECKING, Any, BinaryIO
from .exceptions import (
    LocalFileChangedError,
    LocalFileError,
    LocalFileNotFoundError,
    LocalIsADirectoryError,
    LocalPermissionError,
)

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES = 256 * 1024


def new_sha256(data: bytes = b"") -> _Hash:
    """What `hashlib.sha256` gives."""
    from hashlib import sha256  # a tenth of what importing this package would cost; calls need none

    return sha256(data)


class LocalFile:
    """A file that is about to be sent.

    Raises:
        LocalFileNotFoundError, LocalIsADirectoryError, LocalPermissionError: it cannot be; nothing was sent.
    """

    __slots__ = ("_seen", "name", "path", "size")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with self.open() as file:
            found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise LocalFileError(f"{self.path} is no ordinary file")
        # A name that is not UTF-8 could not travel as JSON.
        self.name = os.path.basename(self.path).encode("utf-8", "replace").decode()
        self.size = found.st_size
        self._seen = (found.st_size, found.st_mtime_ns)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it for reading."""
        try:
            # Not blocking: opening a named pipe would wait for a writer for ever.
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise IsADirectoryError
        except FileNotFoundError as error:
            raise LocalFileNotFoundError(f"there is no file {self.path}") from error
        except IsADirectoryError as error:
            raise LocalIsADirectoryError(f"{self.path} is a directory, not a file") from error
        except PermissionError as error:
            kind = LocalIsADirectoryError if os.path.isdir(self.path) else LocalPermissionError
            raise kind(f"{self.path} may not be read") from error
        except (OSError, ValueError) as error:
            raise LocalFileError(f"{self.path} cannot be opened: {error}") from error
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            yield file

    def check(self) -> None:
        """Raises LocalFileChangedError if the file is no longer what it was."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise LocalFileChangedError(f"{self.path} vanished while it was being sent") from error
        if (found.st_size, found.st_mtime_ns) != self._seen:
            raise LocalFileChangedError(f"{self.path} changed while it was being sent")


class Part:
    """A range of a file as the body of a request, read anew for each attempt.

    Args:
        digest: a hash that what is read goes into, too.
        tell: called with the number of bytes that have been taken, before each block and at the end.
    """

    def __init__(
        self,
        file: LocalFile,
        start: int,
        length: int,
        digest: _Hash | None = None,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        self.length = length
        self.digest = digest
        self.sent = 0
        self._file = file
        self._start = start
        self._before = digest.copy() if digest is not None else None
        self._tell = tell

    def described(self) -> dict[str, Any]:
        """What is known of the whole file once it has been sent."""
        digest = self.digest.hexdigest() if self.digest is not None else None
        return {"filename": self._file.name, "size": self._file.size, "sha256": digest}

    def __iter__(self) -> Iterator[bytes]:
        self.digest = self._before.copy() if self._before is not None else None
        self.sent = 0
        with self._file.open() as file:
            file.seek(self._start)
            while True:
                if self._tell is not None:
                    self._tell(self.sent)
                if self.sent >= self.length:
                    return
                block = file.read(min(BLOCK_BYTES, self.length - self.sent))
                if not block:
                    raise LocalFileChangedError(f"{self._file.path} became shorter while it was being sent")
                if self.digest is not None:
                    self.digest.update(block)
                self.sent += len(block)
                yield block


class Form:
    """A file between the two halves of a form."""

    def __init__(self, before: bytes, part: Part, after: bytes) -> None:
        self.length = len(before) + part.length + len(after)
        self._before = before
        self._part = part
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        yield self._before
        yield from self._part
        yield self._after


def safe_name(name: str) -> str:
    """A name from elsewhere as the name of a file here: no folders, nothing that a file system could stumble over."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(letter for letter in name if letter >= " " and letter not in '<>:"|?*\x7f').strip()
    while len(name.encode("utf-8", "replace")) > 200:
        name = name[1:]
    return name if name.strip(".") else "download"
