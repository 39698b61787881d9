"""A web application that a gateway may call: it tells what it was sent, and does what tests need agents to do."""

import asyncio
import json
import socket
import threading
import time
from typing import Any

import uvicorn

WAIT = 20.0
DOWNLOAD = 200 << 20
PIECE = bytes(1 << 16)
HELD_UP = 1.0


class WebAgent:
    """Runs on a thread of its own while the block lasts."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        """What /stream waits for between its two pieces."""
        self.saw = threading.Event()
        """Set when /upload has seen the first piece of a body, and when the caller of /silent has hung up."""
        self.requests = 0
        """How many it has got."""
        self.sent_at = 0.0
        """When /download has sent its last piece."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        options: dict[str, Any] = {"lifespan": "off", "log_config": None, "access_log": False, "proxy_headers": False}
        config = uvicorn.Config(self._app, interface="asgi3", ws="none", **options)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self.listener],), daemon=True)

    def __enter__(self) -> "WebAgent":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.should_exit = True
        self._thread.join(WAIT)
        self.listener.close()

    async def _app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.requests += 1
        handlers = {
            "/stream": self._stream,
            "/upload": self._upload,
            "/download": self._download,
            "/silent": self._silent,
            "/breaks": self._break,
        }
        await handlers.get(scope["path"], self._tell)(scope, receive, send)

    async def _tell(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b"".join([piece async for piece in _pieces(receive)])
        told = {
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": body.decode("latin-1"),
        }
        headers = [(b"content-type", b"application/json"), (b"x-agent", b"one"), (b"x-agent", b"two")]
        headers += [(b"keep-alive", b"timeout=1"), (b"connection", b"x-private"), (b"x-private", b"1")]
        status = 418 if scope["path"].endswith("/teapot") else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else json.dumps(told).encode()
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.to_thread(self.go_on.wait, WAIT)
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    async def _upload(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        size = 0
        async for piece in _pieces(receive):
            size += len(piece)
            self.saw.set()
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    async def _download(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(DOWNLOAD // len(PIECE)):
            self.sent_at = time.monotonic()
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    @property
    def is_held_up(self) -> bool:
        """Whether nobody has taken a piece of /download for a while."""
        return self.sent_at > 0 and time.monotonic() - self.sent_at > HELD_UP

    async def _silent(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.saw.set()

    async def _break(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise ConnectionAbortedError


async def _pieces(receive: Any) -> Any:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return
