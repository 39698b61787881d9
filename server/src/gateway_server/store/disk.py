"""Work on the disk, away from the event loop: threads, blocks of bytes, files that appear whole."""

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from gateway_server.errors import FileNotFound, PayloadTooLarge, ServiceUnavailable
from gateway_server.store.objects import BLOCK, Written
from gateway_server.threads import until_done

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 8
_AT_ONCE = 512
"""Pieces that the system takes in one call, on each that there is: IOV_MAX, sysconf(3)."""
_SHORT = 4096
"""Bytes of a piece that is not worth being handed over by itself."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk:
    """Threads that wait for the disk."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="objects")
        self._others = ThreadPoolExecutor(1, thread_name_prefix="objects-later")

    async def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Does `work` in a thread. Cancelled, even again, it returns only when the thread has let go of what it has.

        Raises:
            FileNotFound: a file that it needs is missing.
            ServiceUnavailable: the disk is full or broken.
        """
        return await _finished(self._threads.submit(work, *arguments, **named))

    async def run_stoppable(
        self, work: Callable[Concatenate[threading.Event, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """The same for work that takes long: it gets an event, which is set once nobody wants it any more."""
        unwanted = threading.Event()
        return await _finished(self._threads.submit(work, unwanted, *arguments, **named), unwanted)

    async def open(self, opener: Callable[[], int]) -> int:
        """The descriptor that `opener` gives, in a thread. Cancelled, it leaves none open.

        Raises:
            FileNotFound: there is no such file.
            ServiceUnavailable: the disk is broken.
        """
        opened: list[int] = []
        try:
            await self.run(lambda: opened.append(opener()))
        except asyncio.CancelledError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return opened[0]

    def begin(self, work: Callable[[], None]) -> None:
        """Has `work`, which raises nothing, done when there is time; nobody waits for it."""
        with suppress(RuntimeError):  # the gateway ends
            self._others.submit(work)

    def close(self) -> None:
        """Waits for what is being done."""
        self._others.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True)


async def _finished(job: Future[T], unwanted: threading.Event | None = None) -> T:
    """What a thread makes of a job."""
    future = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not job.cancel():
            if unwanted is not None:
                unwanted.set()
            # Else the descriptor would be closed that the thread writes to, whose number the next file has.
            await until_done(future)
        raise
    except FileNotFoundError as error:
        raise FileNotFound("There is no such file.") from error
    except OSError as error:
        reason = "is full" if error.errno in _FULL else f"failed: {error.strerror}"
        raise ServiceUnavailable(f"The store of files {reason}.") from error


class Blocks:
    """Collects bytes and has a thread write them in blocks, while the next ones arrive."""

    def __init__(self, disk: Disk, write: Callable[[Sequence[bytes]], None]) -> None:
        self._disk = disk
        self._write = write
        self._held: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Task[None] | None = None

    async def add(self, data: bytes) -> None:
        """Takes bytes; waits while two blocks are held."""
        self._held.append(data)
        self._size += len(data)
        if self._size >= BLOCK:
            await self._wait()
            self._writing = asyncio.create_task(self._disk.run(self._write, self.take()))

    def take(self) -> list[bytes]:
        """The bytes that no thread has been given yet, for the caller to write."""
        held, self._held, self._size = self._held, [], 0
        return held

    async def drain(self) -> None:
        """Waits until no thread writes any more; what `take` would give is still to be written."""
        await self._wait()

    async def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await asyncio.shield(writing)

    async def abandon(self) -> None:
        """Forgets the rest, and waits until no thread writes any more, whatever became of it."""
        self._held, self._size = [], 0
        if self._writing is not None:
            await asyncio.wait([self._writing])
            self._writing.exception()
            self._writing = None


class Draft:
    """A file that nobody sees before it is published. For threads; a lock lets `discard` come at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._size = 0
        self._descriptor: int | None = None
        self._over = False

    def write(self, pieces: Sequence[bytes]) -> None:
        """Adds bytes."""
        with self._lock:
            if self._over:
                return
            write_pieces(self._open(), pieces)
            for data in pieces:
                self._digest.update(data)
                self._size += len(data)

    def fill(self, source: int, limit: int) -> None:
        """Adds what the open file `source` holds from its beginning.

        Raises:
            PayloadTooLarge: it has more than `limit` bytes.
        """
        while data := os.pread(source, BLOCK, self._size):
            if self._size + len(data) > limit:
                raise PayloadTooLarge(f"The file has more than {limit} bytes.")
            self.write([data])

    def publish(self, rest: Sequence[bytes], target: Path, top: Path, durable: bool = True) -> Written:
        """Adds the last bytes and gives the file its name; with `durable` it survives a loss of power from here on."""
        self.write(rest)
        with self._lock:
            descriptor = self._open()
            if durable:
                os.fsync(descriptor)
            move_into_place(self._path, target, top, durable)
            self._close()
        return Written(self._size, self._digest.hexdigest())

    def discard(self) -> None:
        """Removes the file unless it was published."""
        with self._lock:
            if not self._over:
                opened = self._descriptor is not None
                self._close()
                if opened:
                    self._path.unlink(missing_ok=True)

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def _close(self) -> None:
        self._over = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_all(descriptor: int, data: bytes, offset: int | None = None) -> None:
    """Writes every byte, at the end or from `offset` on."""
    view = memoryview(data)
    while view:
        if offset is None:
            view = view[os.write(descriptor, view) :]
        else:
            done = os.pwrite(descriptor, view, offset)
            view, offset = view[done:], offset + done


def write_pieces(descriptor: int, pieces: Sequence[bytes], offset: int | None = None) -> None:
    """The same for several pieces. Unless they are short, they are not put together for it, which would take as long as
    to write them."""
    for at in range(0, len(pieces), _AT_ONCE):
        some = pieces[at : at + _AT_ONCE]
        size, done = sum(map(len, some)), 0
        if size >= len(some) * _SHORT:
            done = os.writev(descriptor, some) if offset is None else os.pwritev(descriptor, some, offset)
        if done < size:
            write_all(descriptor, b"".join(some)[done:], None if offset is None else offset + done)
        if offset is not None:
            offset += size


def move_into_place(source: Path, target: Path, top: Path, durable: bool = True) -> None:
    """Gives a file its name, making the folders between `top` and it; they may vanish meanwhile, being empty."""
    for _ in range(16):
        make_folders(target.parent, top, durable)
        try:
            os.replace(source, target)
            break
        except FileNotFoundError:
            if not source.exists():
                raise
    else:
        os.replace(source, target)
    if durable:
        sync_folder(target.parent)


def make_folders(folder: Path, top: Path, durable: bool) -> None:
    """Makes `folder` and what is missing of the folders between it and `top`."""
    if folder == top or folder.is_dir():
        return
    make_folders(folder.parent, top, durable)
    with suppress(FileExistsError, FileNotFoundError):
        folder.mkdir(mode=0o700)
        if durable:
            sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
