"""A file that is being fetched: it appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from ._digest import BLOCK_BYTES, Digest
from ._local_file import safe_name
from ._typing import Self
from .exceptions import LocalFileError, LocalFileNotFoundError, LocalPermissionError, TransferError

# For more at once Linux takes memory in large pieces, which a virtual machine may have to get from its host first.
_WRITE_BYTES = 64 * 1024


class PartialFile:
    """Bytes as they arrive, in a file beside the wanted one.

    Args:
        path: the wanted file, or a folder in which it gets the name `name`.
        name: the file's own name.
        size: bytes that it must have, if known.
        sha256: hexadecimal, if known.
    """

    def __init__(self, path: str, name: str, size: object, sha256: object) -> None:
        self.path = os.path.join(path, safe_name(name)) if os.path.isdir(path) else path
        self.size = size if isinstance(size, int) and not isinstance(size, bool) else None
        self.sha256 = sha256.lower() if isinstance(sha256, str) and sha256 else None
        self.total = self.size
        self.done = 0
        self._etag: str | None = None
        self._new_digest()
        folder, base = os.path.split(self.path)
        self._temporary = os.path.join(folder, f".{base[:60]}.{os.urandom(6).hex()}.part")
        try:
            descriptor = os.open(
                self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
            )
        except FileNotFoundError as error:
            raise LocalFileNotFoundError(f"there is no folder {folder or '.'}") from error
        except PermissionError as error:
            raise LocalPermissionError(f"no file may be written in {folder or '.'}") from error
        except (OSError, ValueError) as error:
            raise LocalFileError(f"{self.path} cannot be written: {error}") from error
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._digest.close()
        self._file.close()
        with contextlib.suppress(FileNotFoundError):  # renamed if all went well
            os.unlink(self._temporary)

    def range_headers(self) -> dict[str, str]:
        """What asks for the rest only, and only of the same file."""
        if not self.done:
            return {}
        headers = {"Range": f"bytes={self.done}-"}
        if self._etag:
            headers["If-Range"] = self._etag
        return headers

    def restart(self) -> None:
        """Forget what has arrived."""
        if not self.done:
            return  # ext4 writes a file that was truncated once, if only from nothing, to the disk before it closes it
        self._file.seek(0)
        self._file.truncate()
        self.done = 0
        self._digest.close()
        self._new_digest()

    def _new_digest(self) -> None:
        # With room for one byte more than there should be, a short file never fills the block, which is all it needs.
        self._digest = Digest(BLOCK_BYTES if self.size is None else min(BLOCK_BYTES, max(0, self.size) + 1))
        self._block = self._digest.block()
        self._filled = 0

    def expect(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from the head of an answer how long the file is, and which."""
        etag = headers.get("etag", "")
        self._etag = etag if etag.startswith('"') else None  # a weak one proves nothing about bytes
        length = headers.get("content-length", "")
        if status == 206:
            length = headers.get("content-range", "").rpartition("/")[2]
        if length.isascii() and length.isdigit():
            self.total = int(length)

    def room(self) -> memoryview:
        """Where the next bytes belong. Then `arrived` says how many there are."""
        if self._filled == len(self._block):
            self._digest.update(self._block)  # first: it is computed while this writes
            self._write(self._block)
            self._block = self._digest.block()
            self._filled = 0
        return self._block[self._filled :]

    def arrived(self, count: int) -> None:
        """Keep the next bytes."""
        self._filled += count
        self.done += count

    def _write(self, data: memoryview) -> None:
        try:
            while data:
                data = data[self._file.write(data[:_WRITE_BYTES]) or 0 :]
        except OSError as error:
            raise LocalFileError(f"{self.path} cannot be written: {error}") from error

    def complete(self) -> str:
        """Check the bytes and put the file where it is wanted.

        Raises:
            TransferError: they are not those of the file in the store.
        """
        for wanted in (self.total, self.size):
            if wanted is not None and wanted != self.done:
                raise TransferError(f"{self.path}: {self.done} bytes arrived, the file in the store has {wanted}")
        rest = self._block[: self._filled]
        self._write(rest)
        if self.sha256 is not None and self._digest.end(rest) != self.sha256:
            raise TransferError(f"{self.path}: the SHA-256 of what arrived is not that of the file in the store")
        try:
            self._file.close()
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise LocalFileError(f"{self.path} cannot be written: {error}") from error
        return self.path


def answered_range(headers: Mapping[str, str]) -> int | None:
    """Where the bytes of an answer begin within the file; None if it does not say."""
    unit, _, span = headers.get("content-range", "").partition(" ")
    start = span.partition("-")[0].strip()
    return int(start) if unit == "bytes" and start.isascii() and start.isdigit() else None
