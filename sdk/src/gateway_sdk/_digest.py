"""SHA-256 of bytes that arrive in blocks of memory: computed by a thread beside them where they are many."""

from __future__ import annotations

import threading

from ._local_file import new_sha256
from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queue import SimpleQueue

BLOCK_BYTES = 1 << 20
"""Fewer are not worth what it costs two threads to take turns."""
_BLOCKS = 4


class Digest:
    """What `hashlib.sha256` gives. The blocks are its own, and used again. `close` ends its thread.

    Args:
        size: bytes of a block.
    """

    def __init__(self, size: int = BLOCK_BYTES) -> None:
        self._digest = new_sha256()
        self._size = size
        self._made = 0
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._full: SimpleQueue[memoryview | None]
        self._free: SimpleQueue[memoryview]

    def block(self) -> memoryview:
        """A block to fill; waits until there is one, if the thread is that far behind."""
        if self._made < _BLOCKS:
            self._made += 1
            return memoryview(bytearray(self._size))
        return self._free.get()

    def update(self, block: memoryview) -> None:
        """Takes the bytes of a block, which may still be read, but not changed."""
        if self._thread is None:
            self._start()
        self._full.put(block)

    def end(self, rest: memoryview) -> str:
        """The digest of all that was taken and the rest, as text."""
        self.close()
        if self._failure is not None:
            raise self._failure
        self._digest.update(rest)
        return self._digest.hexdigest()

    def close(self) -> None:
        """Ends the thread, if there is one."""
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        from queue import SimpleQueue  # as late as `hashlib`

        self._full, self._free = SimpleQueue(), SimpleQueue()
        self._thread = threading.Thread(target=self._take, name="gateway-sdk-digest", daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while (block := self._full.get()) is not None:
            try:
                self._digest.update(block)
            except MemoryError as error:
                self._failure = error
            self._free.put(block)  # whoever waits for one must not wait for ever
