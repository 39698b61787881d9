"""A TCP proxy that cuts one connection on the way, as networks do."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class CuttingProxy:
    """Passes bytes on. Once so many bytes have gone up or down as `cuts` says, it cuts that connection, once each."""

    def __init__(self, target: str, **cuts: int) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._left = dict(cuts)
        self._lock = threading.Lock()
        self.cuts: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "CuttingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for source, sink, direction in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._pass, args=(source, sink, direction), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._is_time(direction, len(data)):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _is_time(self, direction: str, size: int) -> bool:
        with self._lock:
            if direction not in self._left:
                return False
            self._left[direction] -= size
            if self._left[direction] > 0:
                return False
            del self._left[direction]
            self.cuts.append(direction)
            return True


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
