"""What the gateway and its helpers say to each other: one JSON object a packet, descriptors beside it."""

import array
import asyncio
import json
import socket
from collections.abc import Callable, Sequence
from typing import Any

from gateway_runtime.protocol import CONTROL_LIMIT
from gateway_server.errors import ServiceUnavailable


class Packets:
    """A SOCK_SEQPACKET socket on the event loop: one JSON object a packet, descriptors beside it."""

    def __init__(self, connection: socket.socket, heard: Callable[[dict[str, Any] | None], None]) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._read)
        self._open = True

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Sends one packet.

        Raises:
            ServiceUnavailable: the other side is gone or does not read.
        """
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors or []))]
        try:
            self._socket.sendmsg([json.dumps(message).encode()], ancillary if descriptors else [])
        except OSError as error:
            raise ServiceUnavailable(f"The process that runs prefabs does not answer ({error}).") from error

    def close(self) -> None:
        """Hangs up; a zygote or launcher ends itself on that."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(CONTROL_LIMIT)
            message = json.loads(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ValueError, RecursionError):  # the end, or a package that writes what it should not
            message = None
        if not isinstance(message, dict):
            message = None
            self.close()
        self._heard(message)


async def answered(answer: "asyncio.Future[Any]", before: "Sequence[asyncio.Future[Any]]", patience: float) -> None:
    """Waits for the answer to an order, or until those to the orders `before` it do not come any more either: a helper
    obeys one after the other, and where the machine is busy that may take long.

    Raises:
        TimeoutError: there was none for `patience` seconds.
    """
    left = len(before)
    while not answer.done():
        await asyncio.wait([answer], timeout=patience)
        left, left_before = sum(not one.done() for one in before), left
        if left == left_before and not answer.done():
            raise TimeoutError
