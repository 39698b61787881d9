"""A server of one canned answer, byte by byte as a test wants it on the wire."""

import contextlib
import socket
import threading


class RawAgent:
    """Answers every connection with the same bytes once a request's head has come, and keeps what it got."""

    def __init__(self, answer: bytes, *, then_waits: bool = False) -> None:
        self._answer = answer
        self._then_waits = then_waits
        self.received = b""
        self.hung_up = threading.Event()
        """Set when the other end has closed a connection on which an answer has been sent."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "RawAgent":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, and refuses from here on
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (piece := connection.recv(1 << 16)):
                head += piece
            self.received += head
            if self._answer:
                connection.sendall(self._answer)
            while self._then_waits and (piece := connection.recv(1 << 16)):
                self.received += piece
            self.hung_up.set()
