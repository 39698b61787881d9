"""The words that every part which is served before the web framework speaks."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
JSON: Headers = [(b"content-type", b"application/json")]


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


async def send_reply(reply: Reply, send: Send) -> None:
    """Answers at once and whole."""
    headers = [*reply.headers, (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
