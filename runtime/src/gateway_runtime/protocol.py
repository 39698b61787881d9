"""The whole conversation between the engine and the processes that run a prefab. Both sides import this module.

Three sockets carry it. The *control* socket (``SOCK_SEQPACKET``, one JSON object a packet, descriptors beside it) joins
the engine and a zygote:

    engine -> zygote   {"plan": {...}}                     once, first: what to import and how far to lock down
                       {"fork": n}  + [worker socket, orders socket, output pipe, entries of control groups...]
                       {"kill": n}                         worker n with its whole family
    zygote -> engine   {"ready": PROTOCOL, "threads": bool} | {"failed": {"type", "message", "traceback"}}
                       {"forked": n, "pid"} | {"refused": n, "message"}
                       {"exited": n, "code": int | null, "signal": int | null}
                       {"killed": n}                       the family of worker n is gone

The *worker* socket (a byte stream of frames) joins the engine and one worker:

    frame              length u32 | kind u8 | call u32 | payload, all big endian
    engine -> worker   CALL    {"function", "parameters", "environment", "stream", "fold"}: an order that is too long
                               for a packet, whose own payload is empty then
                       GO      whatever the call left has been seen to: the next one may begin
    worker -> engine   HELLO   {"protocol", "pid"}
                       START   an event of type start that the function yielded itself
                       EVENT   one event as JSON text, forwarded as it stands
                       RESULT  the function's result as JSON text, never decoded by the gateway
                       DONE    the data of a generator's done event, as JSON text; only where a stream is wanted
                       SPILLED either of them, too long for a frame: its kind as one byte; it lies in .result
                       FAILURE {"error_code", "type", "message", "traceback"}
                       IDLE    flags u8 (see `Idle`) | the microseconds that the function ran u32: the call is over

EVENT frames come in order; RESULT, DONE, SPILLED or FAILURE comes exactly once, and IDLE after it, as a rule in one
piece with it. After an IDLE with any flag the worker waits for GO.

The *orders* socket (``SOCK_SEQPACKET``, one CALL frame a packet) holds what a worker is to do next. The worker takes a
packet when it has ended the call before; until then the engine, which keeps a descriptor of the same end, can take it
back. Each packet is had by one of them alone.
"""

import struct
from enum import IntEnum, IntFlag

PROTOCOL = 3
HEADER = struct.Struct("!IBI")
IDLE = struct.Struct("!BI")
"""The payload of an IDLE frame."""
_HEAD = HEADER.size
FRAME_LIMIT = 1 << 20
"""Longest payload of a frame in bytes; longer results travel as a file in the workspace."""
RESULT_LIMIT = 64 << 20
"""Longest result in bytes."""
EVENT_LIMIT = FRAME_LIMIT
ORDER_LIMIT = 1 << 14
"""Longest order in bytes that is a packet; several of them must have room in a socket."""
CONTROL_LIMIT = 1 << 16
"""Longest control packet in bytes."""


class Kind(IntEnum):
    """What a frame means."""

    CALL = 1
    HELLO = 2
    START = 3
    EVENT = 4
    RESULT = 5
    DONE = 6
    SPILLED = 7
    FAILURE = 8
    IDLE = 9
    GO = 10


class Idle(IntFlag):
    """What a worker says of itself when a call is over."""

    LEFTOVERS = 1
    """Something of the call is still alive or changed: the worker serves no other."""
    FILES = 2
    """The workspace may be other than fresh: outputs, or what has to be removed."""
    OUTPUT = 4
    """Something that was printed may not have been read."""


_KINDS = {kind.value: kind for kind in Kind}


def frame(kind: Kind, call: int, payload: bytes) -> bytes:
    """One frame as bytes."""
    return HEADER.pack(len(payload), kind, call) + payload


class FrameBuffer:
    """Cuts a stream of bytes into frames; feed what arrives, take what is complete."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._data = bytearray()
        self._missing = 0
        """Bytes without which no frame is complete: a long one is put together once, not with every piece of it."""

    def feed(self, data: bytes) -> list[tuple[Kind, int, bytes]]:
        """The frames that `data` completes.

        Raises:
            ValueError: a frame longer than the limit or of an unknown kind; the stream is unusable from there on.
        """
        if self._data:
            self._data += data
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = bytes(self._data)
            self._data.clear()
        frames: list[tuple[Kind, int, bytes]] = []
        at, size = 0, len(data)
        while size - at >= _HEAD:
            length, number, call = HEADER.unpack_from(data, at)
            if length > self._limit:
                raise ValueError(f"a frame of {length} bytes is longer than the limit of {self._limit}")
            end = at + _HEAD + length
            if end > size:
                self._missing = end - size
                break
            kind = _KINDS.get(number)
            if kind is None:
                raise ValueError(f"{number} is no kind of frame")
            frames.append((kind, call, data[at + _HEAD : end]))
            at = end
        else:
            self._missing = 1
        if at < size:
            self._data += data[at:] if at else data
        return frames
