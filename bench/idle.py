"""Connections that are open, and on which nothing happens."""

import contextlib
import socket
from collections.abc import Iterator

from bench import prefab
from bench.endpoint import HOST
from bench.product import Product

SILENCE = 600
"""Seconds for which the job says nothing."""


class Streams:
    """Connections that follow the events of a job that says nothing."""

    def __init__(self, product: Product, key: str, job: str, stack: contextlib.ExitStack) -> None:
        self._address = (HOST, product.port)
        head = f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n\r\n"
        self._request = head.encode()
        self._stack = stack

    def open(self, count: int) -> None:
        """So many more.

        Raises:
            RuntimeError: one was refused.
        """
        for _ in range(count):
            one = self._stack.enter_context(socket.create_connection(self._address, timeout=30))
            one.sendall(self._request)
            if b" 200 " not in one.recv(4096):
                raise RuntimeError("a stream of a job's events was refused")


@contextlib.contextmanager
def streams(product: Product, key: str) -> Iterator[Streams]:
    """A job that has begun and waits, and no stream of its events yet."""
    call = prefab.call("waits", seconds=SILENCE)["calls"][0]
    job = product.as_token(key, "POST", "/v1/jobs", json=call)["job_id"]
    try:
        with contextlib.ExitStack() as stack:
            yield Streams(product, key, job, stack)
    finally:  # else the gateway would wait for it when it is asked to end
        product.as_token(key, "POST", f"/v1/jobs/{job}/cancel")
