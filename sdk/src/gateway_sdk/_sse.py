"""Server-sent events: bytes in, `StreamEvent`s out. Pure; it does not matter how the bytes were cut."""

from __future__ import annotations

from ._json import loads
from .exceptions import InternalServerError
from .models import JobEventType, StreamEvent, StreamEventType, clean_files

TERMINAL = (StreamEventType.DONE, StreamEventType.ERROR)
_LAST = frozenset(TERMINAL)
_TYPES: dict[str, StreamEventType | JobEventType] = {kind.value: kind for kind in (*StreamEventType, *JobEventType)}
# A result travels in one frame, so the bound is generous; it only keeps a broken peer from filling the memory.
MAX_EVENT_BYTES = 256 * 1024 * 1024


class EventDecoder:
    """Feed it bytes as they come; it returns the events that became complete.

    Example:
        >>> (event,) = EventDecoder().feed(b'data: {"type": "content", "data": "Hi"}\\n\\n')
        >>> event.type, event.data
        (<StreamEventType.CONTENT: 'content'>, 'Hi')
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._pending = 0
        self._held = False  # whether it ends with a CR
        self._data: list[bytes] = []
        self._size = 0
        self._id: int | None = None

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Events that `chunk` completes. Unknown types and comments give none."""
        if b"\n" not in chunk and b"\r" not in chunk and not self._held:
            # A long line in many pieces: joined once, at its end.
            self._pieces.append(chunk)
            self._pending += len(chunk)
            self._limit(self._pending)
            return []
        text = b"".join((*self._pieces, chunk))
        self._pieces, self._pending = [], 0
        if b"\r" in text:
            held = b"\r" if text.endswith(b"\r") else b""  # the next piece may begin with the LF of a CR LF
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        self._held = bool(held)
        events: list[StreamEvent] = []
        frames = text.split(b"\n\n")
        rest = frames.pop()
        for frame in frames:
            # As a gateway sends them: one line. What else a frame may be is taken line by line.
            if frame[:6] == b"data: " and b"\n" not in frame and not self._data:
                self._limit(len(frame))
                self._append(frame[6:], events)
            else:
                self._lines([*frame.split(b"\n"), b""], events)
        if b"\n" in rest:
            lines = rest.split(b"\n")
            rest = lines.pop()
            self._lines(lines, events)
        rest += held
        if rest:
            self._pieces.append(rest)
            self._pending = len(rest)
        return events

    def _lines(self, lines: list[bytes], events: list[StreamEvent]) -> None:
        for line in lines:
            if line.startswith(b"data:"):
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._data.append(value)
                self._size += len(value)
                self._limit(self._size)
            elif line.startswith(b"id:"):
                value = line[3:].strip()
                self._id = int(value) if value.isdigit() and len(value) < 19 else None
            elif not line and self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                self._data, self._size = [], 0
                self._append(data, events)
            # `event:`, `retry:` and comments carry nothing that a caller can use.

    def _append(self, data: bytes, events: list[StreamEvent]) -> None:
        event = decode_event(data)
        if event is not None:
            event.id = self._id
            events.append(event)

    def _limit(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise InternalServerError(f"the gateway sent an event of more than {MAX_EVENT_BYTES} bytes")


def decode_event(data: bytes) -> StreamEvent | None:
    """One frame's data as an event; None if its type is not one that this version knows."""
    try:
        frame = loads(data)
    except (ValueError, RecursionError) as error:
        raise InternalServerError(f"the gateway sent an event that is not JSON: {data[:80]!r}") from error
    if not isinstance(frame, dict):
        return None
    name = frame.get("type")
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        return None
    code = frame.get("error_code")
    code = code if isinstance(code, str) else None
    if kind not in _LAST:
        return StreamEvent(kind, frame.get("data"), None, code)
    files = frame.get("files")
    if files is None and kind is StreamEventType.DONE and isinstance(frame.get("data"), dict):
        # A plain function that was streamed: `data` is the envelope {"status", "output", "files"}.
        envelope = frame["data"]
        files = envelope.get("files") if "output" in envelope and "status" in envelope else None
    told = frame.get("error")
    told = told if kind is StreamEventType.ERROR and isinstance(told, dict) else None
    return StreamEvent(kind, frame.get("data"), clean_files(files), code, error=told)
