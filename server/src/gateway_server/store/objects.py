"""The seam to the store of file bytes: what the gateway needs of one, and how files are named in it.

`LocalObjects` keeps them on this machine's disk, `S3Objects` in S3 or what speaks like it. Keys hold any Unicode. What
is acknowledged here has been synced to disk (or is S3's promise). An object is visible whole or not at all.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

BLOCK = 1 << 20
"""Bytes that are moved at once."""
LONGEST_SIGNATURE = 7 * 86400
"""Seconds that a signed URL may live."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was stored."""

    size: int
    sha256: str | None
    """Hexadecimal; None where only the store has seen the bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    """One object that arrives in parts. All parts but the last have `part_size` bytes; numbers begin at 1."""

    id: str
    key: str
    size: int
    part_size: int
    content_type: str | None = None
    handle: str | None = None
    """What the store itself calls the upload."""

    @property
    def parts(self) -> int:
        """How many parts there are: at least one, which may be empty."""
        return max(1, -(-self.size // self.part_size))

    def extent(self, number: int) -> tuple[int, int]:
        """Where a part begins, and how many bytes it must have."""
        start = (number - 1) * self.part_size
        return start, min(self.part_size, self.size - start)


class Incoming(Protocol):
    """An object on its way in. Use it once; nothing of it is seen before `commit`."""

    size: int
    """Bytes that have been written so far."""

    async def write(self, data: bytes) -> None:
        """Adds bytes. Returns when at most a few blocks are held in memory."""

    async def commit(self, key: str) -> Written:
        """Makes the object durable and visible under `key`, in the place of one that had the name."""

    async def discard(self) -> None:
        """Forgets what has been written, unless it was committed."""


class Objects(Protocol):
    """The store. Every method may raise ServiceUnavailable: the disk is full, the store does not answer."""

    direct: bool
    """Whether clients send and fetch bytes at the store itself, past the gateway."""
    most_received: float
    """Bytes that an object may have which comes in by `receive`."""

    def url(self, key: str) -> str:
        """The s3:// URL of a key."""

    def key(self, s3_url: str) -> str | None:
        """The key that an s3:// URL of this store names; None for every other store."""

    def receive(self, incoming: str, content_type: str | None = None) -> Incoming:
        """Begins an object; `incoming` is an id that nothing else uses."""

    async def put_file(
        self, incoming: str, key: str, source: Callable[[], int], limit: int, *, durable: bool = True
    ) -> Written:
        """Stores a file; `source` opens it and gives the descriptor, in a thread.

        Raises:
            PayloadTooLarge: it has more than `limit` bytes.
        """

    async def size(self, key: str) -> int | None:
        """Bytes of an object; None if there is none."""

    async def arrived(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """Keys and bytes of objects whose keys begin with `prefix` and follow `after`: the next of them in their order,
        none only where there are none. Nothing where clients cannot put any past the gateway."""

    async def copy_out(self, key: str, descriptor: int) -> None:
        """Writes an object into an open, empty file.

        Raises:
            FileNotFound: there is no such object.
        """

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object from `start` up to `end`, in blocks.

        Raises:
            FileNotFound: there is no such object.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that do not exist are passed over."""

    async def wipe(self, keys: Sequence[str]) -> None:
        """Removes objects, and what was begun of them by `put_file` and never ended."""

    async def delete_below(self, prefix: str) -> None:
        """Removes every object whose key begins with `prefix`, which ends with a slash."""

    def sign_get(self, key: str, expires_in: float, filename: str, content_type: str | None) -> str:
        """A URL that yields the object to anybody for `expires_in` seconds."""

    def sign_put(self, key: str, expires_in: float, content_type: str | None) -> str:
        """A URL that takes the bytes of this one object, with exactly this Content-Type if there is one."""

    async def begin(self, assembly: Assembly) -> str | None:
        """Makes room for an object in parts; returns the store's handle of it."""

    def sign_part(self, assembly: Assembly, number: int, expires_in: float) -> str:
        """A URL that takes one part, as often as needed; the last one to arrive whole counts."""

    async def received(self, assembly: Assembly) -> list[int]:
        """The numbers of the parts that have arrived whole, ascending.

        Raises:
            FileNotFound: there is no such upload (any more).
        """

    async def assemble(self, assembly: Assembly, sha256: str | None) -> Written:
        """Makes the object of its parts, durable and visible under its key.

        Raises:
            Invalid: parts are missing, or the bytes have another digest.
            FileNotFound: there is no such upload (any more).
        """

    async def discard(self, assembly: Assembly) -> None:
        """Forgets an object in parts; one that does not exist is passed over."""

    async def leftovers(self, before: float) -> list[str]:
        """Ids of what came in before a POSIX time and was neither committed nor discarded (a few hundred at a time)."""

    async def drop(self, incoming: Sequence[str]) -> None:
        """Removes leftovers."""

    async def close(self) -> None:
        """Lets go of threads and connections."""
