"""Bodies that the web framework reads whole, before it asks who calls: none too long, and none that stops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message

from gateway_server.api.intake import SILENCE
from gateway_server.errors import PayloadTooLarge, RequestTimeout

LONGEST = 1 << 20
"""Bytes. What is longer are calls and files, which are read elsewhere."""


class WholeBody(APIRoute):
    """A route whose body, where it takes one, is bounded in bytes and in time."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's own, with the body at hand."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def bounded(request: Request) -> Response:
            try:
                body = await _read(request)
            except ClientDisconnect:
                return Response(status_code=400)

            async def receive() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, receive))

        return bounded


async def _read(request: Request) -> bytes:
    """
    Raises:
        PayloadTooLarge: it has too many bytes.
        RequestTimeout: nothing came for a minute.
    """
    pieces, size, chunks = [], 0, aiter(request.stream())
    while (piece := await _next(chunks)) is not None:
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST:
            raise PayloadTooLarge(f"The request has more than {LONGEST} bytes.")
    return b"".join(pieces)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(SILENCE):
            return await anext(chunks, None)
    except TimeoutError:
        raise RequestTimeout(f"The body of the request stopped for {SILENCE:g} s.") from None
