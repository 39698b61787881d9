"""SHA-256 of bytes that pass: computed by a thread beside them where they are many."""

from __future__ import annotations

from ._local_file import new_sha256
from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_BLOCK_BYTES = 1 << 20
"""Bytes that are handed to the thread at a time; fewer are not worth one."""


class Digest:
    """What `hashlib.sha256` gives. `close` ends its thread."""

    def __init__(self) -> None:
        self._digest = new_sha256()
        self._waiting: list[bytes] = []
        self._size = 0
        self._threads: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def update(self, data: bytes) -> None:
        """Takes the next bytes; waits if the thread is still at those of the block before the last."""
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _BLOCK_BYTES:
            self._hand_over()

    def hexdigest(self) -> str:
        """The digest of all that was taken, as text."""
        self._settle()
        self._take(self._waiting)
        self._waiting, self._size = [], 0
        return self._digest.hexdigest()

    def close(self) -> None:
        """Ends the thread, if there is one."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
            self._threads = None

    def _hand_over(self) -> None:
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor  # as late as `hashlib`

            self._threads = ThreadPoolExecutor(1, thread_name_prefix="gateway-sdk-digest")
        self._settle()
        self._running = self._threads.submit(self._take, self._waiting)
        self._waiting, self._size = [], 0

    def _settle(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None

    def _take(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self._digest.update(block)
