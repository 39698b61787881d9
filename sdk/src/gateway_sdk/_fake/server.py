"""Signed URLs of the gateway in memory, served on this machine: programs fetch them with HTTP clients of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .wire import Answer, Asked

_LOOK = 0.05
"""Seconds between two looks whether the server is to end."""


class ObjectServer:
    """Listens from the first signed URL on, until it is closed.

    Args:
        answer: the answer to a signed URL.
    """

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self._answer = answer
        self._server: ThreadingHTTPServer | None = None
        self._lock = threading.Lock()

    def address(self) -> str | None:
        """Where it listens, such as "http://127.0.0.1:40001"; None where this process may not listen."""
        with self._lock:
            if self._server is None:
                try:
                    self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._answer))
                except (OSError, RuntimeError):  # the latter of plugins that keep tests from the network
                    return None
                threading.Thread(target=self._server.serve_forever, args=(_LOOK,), daemon=True).start()
            return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End it, without a wait: this may be called while the server's own thread collects garbage."""
        server, self._server = self._server, None
        if server is not None:
            threading.Thread(target=_close, args=(server,), daemon=True).start()


def _close(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


def _handler(answer: Callable[[Asked], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            told = answer(Asked(self.command, self.path, headers, body))
            assert isinstance(told.body, bytes)
            self.send_response(told.status)
            for name, value in (told.headers | {"content-length": str(len(told.body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(told.body)

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler
