"""Objects that arrive in parts on the local disk: one file in its final size, every part written at its offset.

Beside the file lies `<id>.parts`, one byte a part, 1 for those that arrived whole. A part's byte is set after its bytes
have been synced, and cleared before a repetition begins, so that it never claims more than is there.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway_server.errors import FileNotFound, Invalid, Problem
from gateway_server.store.disk import Blocks, Disk, move_into_place, write_pieces
from gateway_server.store.objects import Assembly, Written
from gateway_server.store.prefixes import Prefix

_MOST_NAMED = 20


class Parts:
    """The uploads in parts below one folder. For threads, but for `receive`."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], _Part] = {}
        self._closed: set[str] = set()
        self._prefixes: dict[str, Prefix] = {}
        """Digests of uploads of which something has arrived, by their ids."""

    def begin(self, assembly: Assembly) -> None:
        """Makes room; the disk is not filled before the bytes come."""
        for path, size in ((self._data(assembly.id), assembly.size), (self._marks(assembly.id), assembly.parts)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)

    async def receive(self, upload: str, number: int, offset: int, size: int) -> "IncomingPart":
        """Begins a part; one of the same number that is still under way ends here.

        Raises:
            FileNotFound: there is no such upload (any more).
        """
        part = await self._disk.run(self._begin_part, upload, number, offset)
        return IncomingPart(self, self._disk, part, size)

    def _begin_part(self, upload: str, number: int, offset: int) -> "_Part":
        with self._lock:
            if upload in self._closed:
                raise FileNotFound("The upload is being completed; no part of it can change any more.")
            if (other := self._open.pop((upload, number), None)) is not None:
                other.end()  # first, as it may be about to say that it has arrived
            part = _Part(self._data(upload), self._marks(upload), upload, number, offset)
            self._open[upload, number] = part
            self._prefix(upload).begins(number)
        return part

    def _prefix(self, upload: str) -> Prefix:
        prefix = self._prefixes.get(upload)
        if prefix is None:
            prefix = self._prefixes[upload] = Prefix(self._data(upload))
        return prefix

    def finish(self, part: "_Part", rest: Sequence[bytes]) -> Prefix | None:
        """Makes a part count with its last bytes. Gives the digest that may now go on, if there is one."""
        part.finish(rest)
        with self._lock:
            if self._open.get((part.upload, part.number)) is not part:
                return None
            prefix = self._prefix(part.upload)
            return prefix if prefix.arrived(part.number, part.at) else None

    def end(self, part: "_Part") -> None:
        """The part is over, whole or not."""
        with self._lock:
            part.end()
            if self._open.get((part.upload, part.number)) is part:
                del self._open[part.upload, part.number]

    def received(self, assembly: Assembly) -> list[int]:
        """The numbers of the parts that have arrived whole, ascending.

        Raises:
            FileNotFoundError: there is no such upload (any more).
        """
        return [number for number, mark in enumerate(self._marks(assembly.id).read_bytes(), 1) if mark]

    def assemble(self, assembly: Assembly, sha256: str | None, target: Path, top: Path) -> Written:
        """Checks the file and gives it its name. After a refusal the upload goes on.

        Raises:
            Invalid: parts are missing, or the bytes have another digest.
            FileNotFoundError: there is no such upload (any more).
        """
        with self._closing(assembly.id):
            if not self._data(assembly.id).exists() and target.exists():  # the gateway died before this was recorded
                return Written(assembly.size, _sync_and_hash(target, Prefix(target)))
            arrived = set(self.received(assembly))
            missing = [number for number in range(1, assembly.parts + 1) if number not in arrived]
            if missing:
                named = ", ".join(map(str, missing[:_MOST_NAMED])) + (", …" if len(missing) > _MOST_NAMED else "")
                message = f"{len(missing)} of {assembly.parts} parts have not arrived: {named}."
                raise Invalid(message, [Problem("/parts", message)])
            with self._lock:
                prefix = self._prefix(assembly.id)
            digest = _sync_and_hash(self._data(assembly.id), prefix)
            if sha256 is not None and sha256.lower() != digest:
                message = "What has arrived has another SHA-256 than what was announced."
                raise Invalid(message, [Problem("/sha256", message)])
            move_into_place(self._data(assembly.id), target, top)
            self._marks(assembly.id).unlink(missing_ok=True)
            self._forget(assembly.id)
        return Written(assembly.size, digest)

    def discard(self, upload: str) -> None:
        """Removes everything of an upload."""
        with self._closing(upload):
            self._data(upload).unlink(missing_ok=True)
            self._marks(upload).unlink(missing_ok=True)
            self._forget(upload)

    def _forget(self, upload: str) -> None:
        with self._lock:
            prefix = self._prefixes.pop(upload, None)
        if prefix is not None:
            prefix.abandon()

    @contextmanager
    def _closing(self, upload: str) -> Iterator[None]:
        """No part of the upload is written meanwhile."""
        with self._lock:
            if upload in self._closed:
                raise Invalid("The upload is being completed already.")
            self._closed.add(upload)
            for key in [key for key in self._open if key[0] == upload]:
                self._open.pop(key).end()
        try:
            yield
        finally:
            with self._lock:
                self._closed.discard(upload)

    def _data(self, upload: str) -> Path:
        return self._folder / upload

    def _marks(self, upload: str) -> Path:
        return self._folder / f"{upload}.parts"


class _Part:
    """One part under way. A lock lets it be ended at any time."""

    def __init__(self, data: Path, marks: Path, upload: str, number: int, offset: int) -> None:
        self.upload = upload
        self.number = number
        self.at = offset
        """Where the next bytes go."""
        self._lock = threading.Lock()
        self._over = False
        self._marks = os.open(marks, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._data = os.open(data, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._marks)
            raise
        os.pwrite(self._marks, b"\0", number - 1)

    def write(self, pieces: Sequence[bytes]) -> None:
        with self._lock:
            self._check()
            write_pieces(self._data, pieces, self.at)
            self.at += sum(map(len, pieces))

    def finish(self, rest: Sequence[bytes]) -> None:
        self.write(rest)
        with self._lock:
            self._check()
            os.fdatasync(self._data)
            os.pwrite(self._marks, b"\1", self.number - 1)

    def end(self) -> None:
        with self._lock:
            if not self._over:
                self._over = True
                os.close(self._data)
                os.close(self._marks)

    def _check(self) -> None:
        if self._over:
            raise Invalid("The part was sent again, or its upload ended, before it had arrived.")


class IncomingPart:
    """A part on its way in. It counts only after `commit`."""

    def __init__(self, parts: Parts, disk: Disk, part: _Part, size: int) -> None:
        self._parts = parts
        self._disk = disk
        self._part = part
        self._size = size
        self._arrived = 0
        self._blocks = Blocks(disk, part.write)

    async def write(self, data: bytes) -> None:
        """Adds bytes.

        Raises:
            Invalid: these are more than the part has.
        """
        self._arrived += len(data)
        if self._arrived > self._size:
            raise Invalid(f"Part {self._part.number} has more than the {self._size} bytes that it must have.")
        await self._blocks.add(data)

    async def commit(self) -> None:
        """Counts the part as arrived; it has been synced to disk then.

        Raises:
            Invalid: bytes are missing, or the part was sent again meanwhile.
        """
        if self._arrived != self._size:
            number = self._part.number
            raise Invalid(f"Part {number} has {self._arrived} bytes instead of the {self._size} that it must have.")
        await self._blocks.drain()
        prefix = await self._disk.run(self._parts.finish, self._part, self._blocks.take())
        if prefix is not None:
            self._disk.begin(prefix.go_on)
        await self.discard()

    async def discard(self) -> None:
        """Ends the part; it counts only if it was committed."""
        await self._blocks.abandon()
        await self._disk.run(self._parts.end, self._part)


def _sync_and_hash(path: Path, prefix: Prefix) -> str:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        digest = prefix.finish(descriptor)
        os.fsync(descriptor)
        return digest
    finally:
        os.close(descriptor)
