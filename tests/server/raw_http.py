"""One request, byte by byte as a test wants it, on a connection of its own."""

import http.client
import socket
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: str


def exchange(url: str, method: str, target: str, lines: Sequence[str]) -> Answer:
    """Sends a request with these header lines and reads its answer."""
    address = urlsplit(url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
        head = [f"{method} {target} HTTP/1.1", f"Host: {address.netloc}", *lines]
        connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
        with http.client.HTTPResponse(connection, method=method) as answer:
            answer.begin()
            return Answer(answer.status, answer.read().decode("utf-8", "replace"))
