"""The events of a job, across whatever happens to the connection."""

from __future__ import annotations

import time
from collections import deque

from . import _wire
from ._aio import sleep
from ._async_session import AsyncSession
from ._async_transport import AsyncReplyLike
from ._request import Patience, Request
from ._sse import TERMINAL, EventDecoder
from ._typing import Self
from .exceptions import ConnectionFailedError, GatewayError, ServiceUnavailableError
from .models import StreamEvent

# Seconds without a byte, keep-alive comments included, after which a connection is taken for dead.
_SILENCE = 45.0
# Seconds that the gateway may be away before that is the caller's to know.
_AWAY = 60.0
_PAUSE = 0.5


class AsyncJobEvents:
    """The events of one job, in order, each once; the last is DONE or ERROR. Iterate over it.

    Each event has an `id`; `job.events(after=id)` goes on behind it, here or in another process.

    Example:
        async for event in job.events():
            if event.type == StreamEventType.CONTENT:
                print(event.data, end="")
    """

    def __init__(self, session: AsyncSession, job_id: str, after: int) -> None:
        self._session = session
        self._path = f"/v1/jobs/{_wire.segment(job_id)}"
        self._after = after
        self._reply: AsyncReplyLike | None = None
        self._decoder = EventDecoder()
        self._has_spoken = False
        self._events: deque[StreamEvent] = deque()
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        away_since: float | None = None
        while not self._events and not self._over:
            try:
                await self._fill()
                away_since = None
            except ServiceUnavailableError:
                self._hang_up()
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > _AWAY:
                    raise
                await sleep(_PAUSE)
        if not self._events:
            raise StopAsyncIteration
        event = self._events.popleft()
        self._after = event.id or self._after
        if event.type in TERMINAL:
            self._over = True
            self._events.clear()
            await self.close()
        return event

    async def _fill(self) -> None:
        reply = self._reply  # `close` of another thread or task takes it away
        if reply is None:
            headers = self._session._headers()
            if self._after:
                headers["Last-Event-ID"] = str(self._after)
            request = Request("GET", f"{self._session.base_url}{self._path}/events", headers)
            reply, _ = await self._session._as_caller(request, stream=True)
            self._reply, self._decoder, self._has_spoken = reply, EventDecoder(), False
            if self._over:
                self._hang_up()
                return
            kind = reply.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise ConnectionFailedError(f"{request!r}: the answer is no event stream but {kind!r}")
        reply.patience = Patience(_SILENCE)
        chunk = await reply.chunk()
        if self._over:
            return
        if chunk:
            events = self._decoder.feed(chunk)
            self._has_spoken = self._has_spoken or bool(events)
            self._events.extend(events)
            return
        self._hang_up()  # the gateway stops, or there is nothing behind what has been seen
        if not self._has_spoken and await self._has_ended():
            self._over = True

    async def _has_ended(self) -> bool:
        job = await self._session._ask("GET", self._path)
        if job.get("ended_at") is None:
            await sleep(_PAUSE)
            return False
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening; the job goes on. May be called again.

        Example:
            await events.close()
        """
        self._over = True
        reply, self._reply = self._reply, None
        if reply is not None:
            try:
                await reply.close()
            except GatewayError:
                reply.abort()

    def _hang_up(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.abort()

    def __del__(self) -> None:
        # A `break` drops the last reference. Nothing may be waited for here, and nothing may be raised.
        reply = getattr(self, "_reply", None)
        if reply is not None:
            reply.abort()
