"""The way from a client to the gateway in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import httpx

from .feed import Feed
from .jobs import in_thread
from .wire import Answer, Asked

T = TypeVar("T")


class FakeTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """What clients are given in place of the network. An event loop never waits for a function of the test."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer in this thread."""
        asked = _asked(request, request.read())
        return _response(request, self._answer(asked))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer in another thread."""
        asked = _asked(request, await request.aread())
        return _response(request, await _elsewhere(lambda: self._answer(asked)))


class _Frames(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose reader waits for each part as long as it said last."""

    def __init__(self, feed: Feed, request: httpx.Request) -> None:
        self._feed = feed
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        while (frame := self._next()) is not None:
            yield frame

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (frame := await _elsewhere(self._next)) is not None:
            yield frame

    def _next(self) -> bytes | None:
        try:
            return self._feed.take(self._request.extensions.get("timeout", {}).get("read"))
        except TimeoutError:
            raise httpx.ReadTimeout("nothing came in time", request=self._request) from None

    def close(self) -> None:
        self._feed.close()

    async def aclose(self) -> None:
        self._feed.close()


def _asked(request: httpx.Request, body: bytes) -> Asked:
    return Asked(request.method, str(request.url), dict(request.headers), body)


def _response(request: httpx.Request, answer: Answer) -> httpx.Response:
    if isinstance(answer.body, Feed):
        return httpx.Response(answer.status, headers=answer.headers, stream=_Frames(answer.body, request))
    assert isinstance(answer.body, bytes)
    return httpx.Response(answer.status, headers=answer.headers, content=answer.body)


async def _elsewhere(work: Callable[[], T]) -> T:
    """What `work` gives. Its thread is its own: those of the loop are few, and are waited for when the loop ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(value: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(tell, value, error)

    in_thread(run)
    return await future
