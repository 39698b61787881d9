"""Bodies of requests on their way in: none too long, and all together no more than there is memory for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway_server.api.asgi import Receive
from gateway_server.errors import Overloaded, PayloadTooLarge, RequestTimeout

TOGETHER = 256 << 20
"""Bytes of all bodies that are held at the same time."""
MOST_EACH_USER = 0.75
"""Of these, that the bodies of one user may take."""
SMALL = 64 << 10
"""Bytes of a body that is taken however full it is: what most calls have, and what tells an operator what goes on."""
SILENCE = 60.0
"""Seconds that a body may stop in the middle."""


class HungUp(Exception):
    """The caller left before the request was whole."""


class Intake:
    """Reads the bodies of runs and submissions."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = Counter[str]()
        """Bytes, by user."""

    @asynccontextmanager
    async def body(self, receive: Receive, user: str) -> AsyncIterator[bytes]:
        """The whole body of a request of `user`, which counts as held until the request is done with.

        Raises:
            HungUp: it did not come to its end.
            PayloadTooLarge: it has too many bytes.
            Overloaded: the bodies of other requests take all the room that there is.
            RequestTimeout: nothing came for a minute.
        """
        message = await self._next(receive)
        chunks: list[bytes] = [message.get("body", b"")]
        size = len(chunks[0])
        self._held[user] += size
        try:
            while message.get("more_body"):
                self._check(size, user)
                message = await self._next(receive)
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                self._held[user] += len(chunks[-1])
            self._check(size, user)
            yield b"".join(chunks) if len(chunks) > 1 else chunks[0]
        finally:
            self._held[user] -= size
            if not self._held[user]:
                del self._held[user]

    def _check(self, size: int, user: str) -> None:
        if size > self._limit:
            raise PayloadTooLarge(f"The request has more than {self._limit} bytes. Pass large data as files.")
        if size <= SMALL:
            return
        is_theirs = self._held[user] > TOGETHER * MOST_EACH_USER
        if is_theirs or self._held.total() > TOGETHER:
            who = "You have" if is_theirs else "The gateway has"
            text = f"{who} as many large requests under way as it takes. Pass large data as files, or call again."
            raise Overloaded(text, retry_after=2)

    async def _next(self, receive: Receive) -> dict[str, Any]:
        try:
            async with asyncio.timeout(SILENCE):
                message = await receive()
        except TimeoutError:
            raise RequestTimeout(f"The body of the request stopped for {SILENCE:g} s.") from None
        if message["type"] == "http.disconnect":
            raise HungUp
        return message
