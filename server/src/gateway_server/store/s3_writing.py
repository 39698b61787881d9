"""Objects that pass through the gateway to S3: whole if they are small, else in parts that can be taken back."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from gateway_server.errors import FileNotFound, ServiceUnavailable
from gateway_server.store.objects import Assembly, Written
from gateway_server.store.s3_parts import S3Parts

PART = 8 << 20
"""Bytes of a part, of which at most two are held in memory."""
_MOST_PARTS = 10_000


def part_size(size: int) -> int:
    """Bytes of a part of an object with so many bytes, so that there are not too many parts."""
    return max(PART, -(-size // _MOST_PARTS))


class S3Writer:
    """One object, from its beginning to its end. It is visible once it is finished; `discard` it in any case."""

    def __init__(
        self, key: str, put: Callable[[str, bytes], Awaitable[None]], parts: S3Parts, part_size: int = PART
    ) -> None:
        self.size = 0
        self._put = put
        self._parts = parts
        self._assembly = Assembly(id=key, key=key, size=0, part_size=part_size)
        self._digest = hashlib.sha256()
        self._held = bytearray()
        self._number = 0
        self._sending: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        """Adds bytes. Whoever has added more than two parts waits for the store."""
        self.size += len(data)
        self._held += data
        while len(self._held) > self._assembly.part_size:
            with _lost():
                await self._send(self._take(self._assembly.part_size))

    async def finish(self) -> Written:
        """Makes the object visible."""
        data = self._take(len(self._held))
        with _lost():
            if self._assembly.handle is None:
                await asyncio.to_thread(self._digest.update, data)
                await self._put(self._assembly.key, data)
            else:
                await self._send(data)
                await self._sent()
                await self._parts.complete(replace(self._assembly, size=self.size))
        self._assembly = replace(self._assembly, handle=None)
        return Written(self.size, self._digest.hexdigest())

    async def discard(self) -> None:
        """Takes back what has been sent, unless it was finished. What cannot be now, is by the sweeper."""
        with suppress(FileNotFound, ServiceUnavailable):
            await self._sent()  # or it might arrive after the end of the upload, and stay
        with suppress(ServiceUnavailable):
            await self._parts.abort(self._assembly)

    def _take(self, count: int) -> bytes:
        data = bytes(memoryview(self._held)[:count])
        del self._held[:count]
        return data

    async def _send(self, data: bytes) -> None:
        """Sends a part while the next one comes in."""
        if self._assembly.handle is None:
            self._assembly = replace(self._assembly, handle=await self._parts.begin(self._assembly))
        await asyncio.to_thread(self._digest.update, data)
        await self._sent()
        self._number += 1
        self._sending = asyncio.create_task(self._parts.put(self._assembly, self._number, data))

    async def _sent(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            await sending


@contextmanager
def _lost() -> Iterator[None]:
    """That an upload is gone is no lack of a file of the caller's."""
    try:
        yield
    except FileNotFound as error:
        raise ServiceUnavailable("The store of files has lost an upload; try again.") from error
