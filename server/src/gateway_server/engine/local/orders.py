"""The calls that a worker has: the one that runs, and those that lie in a socket of the kernel until it takes them up.

A worker that finds its next order there need not be waked for it, which takes longer than a small function. What it has
not taken the gateway can take back, as it keeps a descriptor of the same end: each packet is had by one of them alone,
so that what the gateway got has certainly not begun.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from gateway_runtime.protocol import HEADER, ORDER_LIMIT, Kind, frame
from gateway_server.models import Progress

Log = Callable[[bytes], None]
ROOM = 4 * ORDER_LIMIT
"""Bytes of orders after which no more are put in a queue: whatever their size, a socket with the buffer that it has on
Linux, 208 KiB, holds these and one more of the longest."""


class Sent:
    """A call that was sent to a worker."""

    __slots__ = (
        "events",
        "flags",
        "has_all",
        "is_left",
        "is_taken_back",
        "last",
        "length",
        "log",
        "news",
        "number",
        "size",
        "took",
    )

    def __init__(self, number: int, length: int, log: Log, *, has_all: bool) -> None:
        self.number = number
        self.length = length
        """Bytes of the order."""
        self.log = log
        """Where what it prints goes."""
        self.has_all = has_all
        """Whether it has the worker to itself: it is not taken back."""
        self.events: list[Progress] = []
        """Those that nobody has taken yet, and their bytes."""
        self.size = 0
        self.last: tuple[Kind, bytes] | None = None
        """What became of it."""
        self.flags: int | None = None
        """What the worker said of itself when it was over."""
        self.took: float | None = None
        """Seconds that the function ran, as the worker says."""
        self.news: asyncio.Future[None] | None = None
        self.is_left = False
        """Whether nobody waits for it any more."""
        self.is_taken_back = False

    def wake(self) -> None:
        """Something has changed."""
        if self.news is not None and not self.news.done():
            self.news.set_result(None)


class Orders:
    """The calls of one worker that have not ended, in their order."""

    def __init__(self) -> None:
        self.sent: deque[Sent] = deque()
        self.count = 0
        """Calls that were ever sent; the number of the latest."""
        self.since = 0.0
        """When the first of those that are here began, or else the latest ended, on the monotonic clock."""
        self._length = 0
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ours.shutdown(socket.SHUT_RD)  # the worker has nothing to say here

    def fileno(self) -> int:
        """The end that the worker gets."""
        return self._theirs.fileno()

    @property
    def has_room(self) -> bool:
        """Whether another order of any length has room, beside those of the calls that are here."""
        return self._length < ROOM

    def send(self, text: bytes, log: Log, *, has_all: bool) -> Sent:
        """Puts a call in the queue. An order that is too long for a packet has to follow on the worker's other socket,
        from where it cannot be taken back.

        Raises:
            OSError: there is no room, or the worker takes no more orders.
        """
        self._ours.send(frame(Kind.CALL, self.count + 1, text if len(text) <= ORDER_LIMIT else b""))
        self.count += 1
        if not self.sent:
            self.since = time.monotonic()
        call = Sent(self.count, len(text), log, has_all=has_all or len(text) > ORDER_LIMIT)
        self.sent.append(call)
        self._length += call.length
        return call

    def end_first(self, flags: int, took: float) -> None:
        """The call that runs is over."""
        call = self.sent.popleft()
        self._length -= call.length
        self.since = time.monotonic()
        call.flags, call.took = flags, took
        call.wake()

    def take_back(self) -> None:
        """Takes back the calls that have not begun, but for one that has the worker to itself."""
        packets = dict[int, bytes]()
        with suppress(OSError):  # there are no more
            while packet := self._theirs.recv(HEADER.size + ORDER_LIMIT, socket.MSG_DONTWAIT):
                packets[HEADER.unpack_from(packet)[2]] = packet
        if packets:
            left = [call for call in self.sent if not self._is_taken_back(call, packets)]
            self.sent.clear()
            self.sent.extend(left)
            self._length = sum(call.length for call in left)

    def _is_taken_back(self, call: Sent, packets: dict[int, bytes]) -> bool:
        packet = packets.get(call.number)
        if packet is not None and call.has_all:
            with suppress(OSError):  # the worker is gone, and the call ends with it
                self._ours.send(packet)
        elif packet is not None:
            call.is_taken_back = True
            call.wake()
        return call.is_taken_back

    def close(self) -> None:
        """Lets go of both ends."""
        self._ours.close()
        self._theirs.close()
