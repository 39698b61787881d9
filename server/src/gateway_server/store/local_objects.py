"""Objects on this machine's disk.

Plain files through the operating system in threads, not `obstore`'s LocalStore: that has no parts at offsets, no sync
before it acknowledges, and no signed URLs. Below the folder, `kept/` holds one file per object under a path made of its
key, and `incoming/` what is still on its way; both on one file system, so that a rename makes an object visible.
"""

import hashlib
import math
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from gateway_server.store.disk import Blocks, Disk, Draft, write_all
from gateway_server.store.objects import BLOCK, Assembly, Written
from gateway_server.store.parts import Parts
from gateway_server.store.signatures import Signer

_LONGEST = 255
"""Bytes in one component of a path."""
_LEFTOVERS = 500
_COPIED = 1 << 18
"""Bytes that the event loop copies at a time; more would not stay in the processor's cache until they are sent."""
_STEP = 32 << 20
"""Bytes that the kernel copies before somebody looks whether they are still wanted."""


OBJECTS_FOLDER = "objects/kept"
"""Where objects lie in a data folder."""


class LocalObjects:
    """The store of one machine. `base_url` is asked anew for every URL: the port is known only once it is bound."""

    direct = False
    most_received = math.inf

    def __init__(self, folder: Path, *, bucket: str, signer: Signer, base_url: Callable[[], str]) -> None:
        self.signer = signer
        self.disk = Disk()
        self._kept = folder / "kept"
        self._incoming = folder / "incoming"
        for made in (self._kept, self._incoming):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.parts = Parts(self._incoming, self.disk)
        self._root = f"s3://{bucket}/"
        self._base_url = base_url

    def url(self, key: str) -> str:
        """The s3:// URL of a key."""
        return self._root + key

    def key(self, s3_url: str) -> str | None:
        """The key that an s3:// URL of this store names; None for every other store."""
        return s3_url[len(self._root) :] if s3_url.startswith(self._root) else None

    def path(self, key: str) -> Path:
        """Where the bytes of an object lie."""
        return object_path(self._kept, key)

    def receive(self, incoming: str, content_type: str | None = None) -> "LocalIncoming":
        """Begins an object; `incoming` is an id that nothing else uses."""
        return LocalIncoming(self.disk, Draft(self._incoming / incoming), self.path, self._kept)

    async def put_file(
        self, incoming: str, key: str, source: Callable[[], int], limit: int, *, durable: bool = True
    ) -> Written:
        """Stores a file; `source` opens it and gives the descriptor, in a thread.

        Raises:
            PayloadTooLarge: it has more than `limit` bytes.
        """
        draft = Draft(self._incoming / incoming)

        def work() -> Written:
            descriptor = source()
            try:
                draft.fill(descriptor, limit)
                return draft.publish([], self.path(key), self._kept, durable)
            finally:
                draft.discard()
                os.close(descriptor)

        return await self.disk.run(work)

    async def size(self, key: str) -> int | None:
        """Bytes of an object; None if there is none."""
        path = self.path(key)
        return await self.disk.run(lambda: path.stat().st_size if path.is_file() else None)

    async def arrived(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """Nothing: whatever arrives here passes through the gateway, which records it."""
        return []

    async def copy_out(self, key: str, descriptor: int) -> None:
        """Writes an object into an open, empty file. The kernel copies, or on file systems that can, shares the blocks.

        Raises:
            FileNotFound: there is no such object.
        """
        await self.disk.run_stoppable(_copy, self.path(key), descriptor)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object from `start` up to `end`, in blocks.

        Raises:
            FileNotFound: there is no such object.
        """
        opened = await self.open(key)
        try:
            at, end = start, opened.size if end is None else min(end, opened.size)
            while at < end and (data := await opened.read(at, min(BLOCK, end - at))):
                yield bytes(data)
                at += len(data)
        finally:
            await opened.close()

    async def open(self, key: str) -> "OpenObject":
        """An object to read from.

        Raises:
            FileNotFound: there is no such object.
        """
        path = self.path(key)
        return OpenObject(self.disk, await self.disk.open(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC)))

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects, and folders that are empty then; those that do not exist are passed over."""
        await self.disk.run(self._remove, [self.path(key) for key in keys])

    async def wipe(self, keys: Sequence[str]) -> None:
        """Removes objects; what was begun of them is among the leftovers."""
        await self.delete(keys)

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            with suppress(OSError):  # until one is not empty
                for folder in path.parents[: len(path.parents) - len(self._kept.parents) - 1]:
                    folder.rmdir()

    async def delete_below(self, prefix: str) -> None:
        """Removes every object whose key begins with `prefix`, which ends with a slash."""
        await self.disk.run(lambda: shutil.rmtree(self.path(prefix.rstrip("/")), onerror=_unless_gone))

    def sign_get(self, key: str, expires_in: float, filename: str, content_type: str | None) -> str:
        """A URL that yields the object to anybody for `expires_in` seconds."""
        return self._signed("GET", key, expires_in, filename=filename, type=content_type)

    def sign_put(self, key: str, expires_in: float, content_type: str | None) -> str:
        """A URL that takes the bytes of this one object, with exactly this Content-Type if there is one."""
        return self._signed("PUT", key, expires_in, type=content_type)

    def sign_part(self, assembly: Assembly, number: int, expires_in: float) -> str:
        """A URL that takes one part, as often as needed; the last one to arrive whole counts."""
        start, size = assembly.extent(number)
        extent = {"part": str(number), "offset": str(start), "size": str(size)}
        return self._signed("PUT", assembly.key, expires_in, upload=assembly.id, **extent)

    def _signed(self, method: str, key: str, expires_in: float, **constraints: str | None) -> str:
        query = self.signer.sign(method, key, expires_in, **constraints)
        return f"{self._base_url().rstrip('/')}/objects/{quote(key, safe='/')}?{query}"

    async def begin(self, assembly: Assembly) -> None:
        """Makes room for an object in parts."""
        await self.disk.run(self.parts.begin, assembly)

    async def received(self, assembly: Assembly) -> list[int]:
        """The numbers of the parts that have arrived whole, ascending.

        Raises:
            FileNotFound: there is no such upload (any more).
        """
        return await self.disk.run(self.parts.received, assembly)

    async def assemble(self, assembly: Assembly, sha256: str | None) -> Written:
        """Makes the object of its parts, durable and visible under its key.

        Raises:
            Invalid: parts are missing, or the bytes have another digest.
            FileNotFound: there is no such upload (any more).
        """
        return await self.disk.run(self.parts.assemble, assembly, sha256, self.path(assembly.key), self._kept)

    async def discard(self, assembly: Assembly) -> None:
        """Forgets an object in parts; one that does not exist is passed over."""
        await self.disk.run(self.parts.discard, assembly.id)

    async def leftovers(self, before: float) -> list[str]:
        """Ids of what came in before a POSIX time and was neither committed nor discarded (a few hundred at a time)."""
        return await self.disk.run(lambda: sorted(set(_older(self._incoming, before)))[:_LEFTOVERS])

    async def drop(self, incoming: Sequence[str]) -> None:
        """Removes leftovers."""
        for identifier in incoming:
            await self.disk.run(self.parts.discard, identifier)

    async def close(self) -> None:
        """Waits for the threads."""
        self.disk.close()


class OpenObject:
    """An object that is being read; it stays the same even if it is replaced or deleted meanwhile."""

    def __init__(self, disk: Disk, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.modified = status.st_mtime
        self.etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
        self._disk = disk
        self._descriptor = descriptor

    async def read(self, at: int, count: int) -> bytes | bytearray:
        """Up to `count` bytes from an offset; none only where there are none.

        Raises:
            ServiceUnavailable: the disk cannot be read.
        """
        return self._from_memory(at, count) or await self._disk.run(os.pread, self._descriptor, count, at)

    def _from_memory(self, at: int, count: int) -> bytearray:
        """What the system holds in memory of it anyway: to hand that to a thread would take longer than to copy it."""
        data = bytearray(min(count, _COPIED))
        try:
            got = os.preadv(self._descriptor, [data], at, os.RWF_NOWAIT)
        except (OSError, AttributeError):  # nothing of it, or the file system cannot tell
            got = 0
        del data[got:]
        return data

    async def close(self) -> None:
        """Ends reading."""
        os.close(self._descriptor)


class LocalIncoming:
    """An object on its way to the local disk."""

    def __init__(self, disk: Disk, draft: Draft, path: Callable[[str], Path], top: Path) -> None:
        self.size = 0
        self._disk = disk
        self._draft = draft
        self._path = path
        self._top = top
        self._blocks = Blocks(disk, draft.write)

    async def write(self, data: bytes) -> None:
        """Adds bytes. Returns when at most two blocks are held in memory."""
        self.size += len(data)
        await self._blocks.add(data)

    async def commit(self, key: str) -> Written:
        """Makes the object durable and visible under `key`, in the place of one that had the name."""
        await self._blocks.drain()
        return await self._disk.run(self._draft.publish, self._blocks.take(), self._path(key), self._top)

    async def discard(self) -> None:
        """Forgets what has been written, unless it was committed."""
        await self._blocks.abandon()
        await self._disk.run(self._draft.discard)


def object_path(kept: Path, key: str) -> Path:
    """Where the bytes of an object lie below the folder of what is kept."""
    return kept.joinpath(*map(component, key.split("/")))


def component(name: str) -> str:
    """One component of a key as a file name: any text but the names that mean something to the system."""
    safe = name.replace("%", "%25").replace("\0", "%00")
    if safe in ("", ".", ".."):
        safe = "%" + safe.replace(".", "%2E")
    raw = safe.encode("utf-8", "surrogatepass")
    if len(raw) <= _LONGEST:
        return os.fsdecode(raw)
    return raw[: _LONGEST - 33].decode("utf-8", "ignore") + "%" + hashlib.sha256(raw).hexdigest()[:32]


def _unless_gone(_function: object, _path: str, failure: tuple[object, BaseException, object]) -> None:
    """Lets the removal of a tree go on where somebody else was quicker, and nowhere else."""
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


def _older(folder: Path, before: float) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    yield entry.name.partition(".")[0]


def _copy(unwanted: threading.Event, source: Path, target: int) -> None:
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            while not unwanted.is_set() and os.copy_file_range(descriptor, target, _STEP):
                pass
        except OSError:  # other file systems, or a kernel that cannot; what was copied stays, both ends have moved on
            while not unwanted.is_set() and (data := os.read(descriptor, BLOCK)):
                write_all(target, data)
    finally:
        os.close(descriptor)
