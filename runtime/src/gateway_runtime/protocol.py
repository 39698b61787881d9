"""The whole conversation between the engine and the processes that run a prefab. Both sides import this module.

Two sockets carry it. The *control* socket (``SOCK_SEQPACKET``, one JSON object a packet, descriptors beside it) joins
the engine and a zygote:

    engine -> zygote   {"plan": {...}}                     once, first: what to import and how far to lock down
                       {"fork": n}  + [worker socket, output pipe, entries of control groups...]
                       {"kill": n}                         worker n with its whole family
    zygote -> engine   {"ready": PROTOCOL, "threads": bool} | {"failed": {"type", "message", "traceback"}}
                       {"forked": n, "pid"} | {"refused": n, "message"}
                       {"exited": n, "code": int | null, "signal": int | null}
                       {"killed": n}                       the family of worker n is gone

The *worker* socket (a byte stream of frames) joins the engine and one worker:

    frame              length u32 | kind u8 | call u32 | payload, all big endian
    engine -> worker   CALL    {"function", "parameters", "environment", "stream"}
    worker -> engine   HELLO   {"protocol", "pid"}
                       START   an event of type start that the function yielded itself
                       EVENT   one event as JSON text, forwarded as it stands
                       RESULT  the function's result as JSON text, never decoded by the gateway
                       DONE    the data of a generator's done event, as JSON text; only where a stream is wanted
                       SPILLED either of them, too long for a frame: its kind as one byte; it lies in .result
                       FAILURE {"error_code", "type", "message", "traceback"}
                       IDLE    {"leftovers": bool}         the call is over; a worker with leftovers serves no other

EVENT frames come in order; RESULT, DONE, SPILLED or FAILURE comes exactly once, and IDLE after it.
"""

import struct
from enum import IntEnum

PROTOCOL = 1
HEADER = struct.Struct("!IBI")
FRAME_LIMIT = 1 << 20
"""Longest payload of a frame in bytes; longer results travel as a file in the workspace."""
RESULT_LIMIT = 64 << 20
"""Longest result in bytes."""
EVENT_LIMIT = FRAME_LIMIT
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


def frame(kind: Kind, call: int, payload: bytes) -> bytes:
    """One frame as bytes."""
    return HEADER.pack(len(payload), kind, call) + payload


class FrameBuffer:
    """Cuts a stream of bytes into frames; feed what arrives, take what is complete."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, int, bytes]]:
        """The frames that `data` completes.

        Raises:
            ValueError: a frame longer than the limit or of an unknown kind; the stream is unusable from there on.
        """
        self._data += data
        frames: list[tuple[Kind, int, bytes]] = []
        at, size = 0, len(self._data)
        while size - at >= HEADER.size:
            length, kind, call = HEADER.unpack_from(self._data, at)
            if length > self._limit:
                raise ValueError(f"a frame of {length} bytes is longer than the limit of {self._limit}")
            end = at + HEADER.size + length
            if end > size:
                break
            frames.append((Kind(kind), call, bytes(self._data[at + HEADER.size : end])))
            at = end
        if at:
            del self._data[:at]
        return frames
