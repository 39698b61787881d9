"""The events of a run while it runs."""

from __future__ import annotations

import os
from collections import deque

from . import _wire
from ._aio import leave_at_exit
from ._async_session import AsyncSession
from ._async_transport import AsyncReplyLike
from ._request import Patience, Request
from ._sse import EventDecoder
from ._typing import Self
from .exceptions import ConnectionFailedError, DeadlineExceededError, GatewayError
from .models import StreamEvent, StreamEventType

# After the last event the end of the body is waited for this long, so that the connection can be used again.
_TAIL = 0.25  # seconds
_START, _DONE, _ERROR = StreamEventType.START, StreamEventType.DONE, StreamEventType.ERROR


class AsyncEventStream:
    """The events of one run, in order; the last is DONE or ERROR.

    Iterate over it. Leaving the loop early (`break`, an exception), `close()` and `cancel()` tell the gateway to stop
    the function and end the connection at once; after the last event they do nothing.

    Attributes:
        job_id: the job behind the stream; None until it has begun, or if the gateway did not say.

    Raises (while iterating):
        DeadlineExceededError: no event for `timeout` seconds; the run has been cancelled.
        ConnectionFailedError: the stream broke before its last event.

    Example:
        async for event in client.run("llm-client", "1.0.0", "chat", {"messages": []}, stream=True):
            if event.type == StreamEventType.CONTENT:
                print(event.data, end="")
    """

    def __init__(self, session: AsyncSession, body: bytes) -> None:
        self.job_id: str | None = None
        self._session = session
        self._body: bytes | None = body
        self._reply: AsyncReplyLike | None = None
        self._decoder = EventDecoder()
        self._events: deque[StreamEvent] = deque()
        self._over = False  # no more events will be given
        self._finished = False  # the last event has come, or there never was a run
        self._process = 0  # whose stream it is

    async def _open(self) -> None:
        body, self._body = self._body, None
        if body is None:
            return
        session, key = self._session, _wire.new_key()
        headers = _wire.headers_for(session._token, key)
        headers["Content-Type"] = "application/json"
        request = Request("POST", session.base_url + _wire.RUN, headers, body)
        try:
            reply, _ = await session._as_caller(request, stream=True)
        except BaseException as error:
            self._over = self._finished = True
            if not isinstance(error, Exception):  # Ctrl-C, or the task was cancelled: nobody wants the events any more
                session._leave_soon(None, key)
            raise
        self._reply, self._process = reply, os.getpid()
        leave_at_exit(self)
        self.job_id = reply.headers.get("x-job-id")
        kind = reply.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            await reply.close()
            self._over = self._finished = True
            raise ConnectionFailedError(f"{request!r}: the answer is no event stream but {kind!r}")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        if self._body is not None:
            await self._open()
        if not self._events and not self._over:
            await self._fill()
        if not self._events:
            raise StopAsyncIteration
        return self._events.popleft()

    async def _fill(self) -> None:
        """Wait for at least one event, or the end."""
        reply = self._reply
        assert reply is not None
        if self._finished:
            await self._drain(reply)
            return
        timeout = self._session.timeout
        # Comments keep the connection alive, they are no events: the bound is on the whole wait for the next one.
        reply.patience = Patience(None, timeout, "no event for {:g} s; the run has been cancelled", timeout)
        try:
            while not self._events and not self._over:
                chunk = await reply.chunk()
                if self._over:
                    return  # closed by someone else while we waited
                if not chunk:
                    raise ConnectionFailedError("the stream broke off before its last event", job_id=self.job_id)
                self._take(self._decoder.feed(chunk))
        except GatewayError as error:
            if self._over:
                return  # closed by someone else while we waited
            if isinstance(error, DeadlineExceededError):
                error.job_id = error.job_id or self.job_id
                await self.close()
            else:
                self._over = self._finished = True  # broken: the gateway sees it, too
                reply.abort()
            raise

    def _take(self, events: list[StreamEvent]) -> None:
        for event in events:
            kind = event.type
            if kind is _START and self.job_id is None and isinstance(event.data, dict):
                job_id = event.data.get("job_id")
                self.job_id = job_id if isinstance(job_id, str) else None
            self._events.append(event)
            if kind is _DONE or kind is _ERROR:
                self._finished = True
                return  # what comes after the last event belongs to nobody

    async def _drain(self, reply: AsyncReplyLike) -> None:
        self._over = True
        reply.patience = Patience(None, _TAIL)
        try:
            while await reply.chunk():
                pass
        except GatewayError:
            pass  # all events are here; only the connection is lost
        await reply.close()

    async def __aenter__(self) -> Self:
        if self._body is not None:
            await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening. If the run has not ended, it is cancelled. Never raises, may be called again.

        Example:
            stream = client.run("llm-client", "1.0.0", "chat", {"messages": []}, stream=True)
            await stream.close()
        """
        wanted = self._let_go()
        if self._reply is not None:
            await self._reply.close()
        if wanted and self.job_id is not None:
            await self._session._farewell(self.job_id)

    async def cancel(self) -> None:
        """The same as `close()`, for code that wants to say what it means."""
        await self.close()

    def _let_go(self) -> bool:
        """End the connection. True if there was a run that nobody waits for now."""
        # In a child that was forked meanwhile it is for the parent to say whether the run is wanted.
        wanted = self._reply is not None and not self._finished and self._process == os.getpid()
        self._body = None
        self._over = self._finished = True
        self._events.clear()
        if self._reply is not None:
            self._reply.abort()
        return wanted

    def __del__(self) -> None:
        # A `break` drops the last reference. Nothing may be waited for here, and nothing may be raised.
        reply = getattr(self, "_reply", None)
        if reply is not None and self._let_go():
            self._session._leave_soon(reply, self.job_id)
