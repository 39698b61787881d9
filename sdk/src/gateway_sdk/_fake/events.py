"""What generators yield, as the gateway tells it: the rules of the runtime, for `testing.FakeGateway`.

The SDK cannot import the runtime; a test holds the two against each other.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from ..models import StreamEventType
from .json import as_json, encode

_TYPES = frozenset(kind.value for kind in StreamEventType)
Emit = Callable[[dict[str, Any]], None]
"""Takes an event as JSON has it."""


class EventError(Exception):
    """The function ended its stream with an event of type error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Yielded:
    """What a generator has yielded so far.

    Args:
        emit: told of every event on the way; None if nobody wants them.
        keep: whether one result is to be folded of them at the end.
        log: takes the lines that are not for the stream.
    """

    def __init__(self, emit: Emit | None, *, keep: bool, log: Callable[[str], None]) -> None:
        self.returned: object = None
        """The generator's return value."""
        self.done: dict[str, Any] | None = None
        """Its event of type done, if it has yielded one."""
        self._emit = emit
        self._keep = keep
        self._log = log
        self._kept: list[dict[str, Any]] = []

    def take(self, value: object) -> None:
        """One more.

        Raises:
            EventError: it is the error that ends the stream.
            TypeError: JSON cannot hold it.
        """
        event = self._as_event(value)
        if event is None:
            return
        if self.done is not None:
            self._log(f"event after the end dropped: {str(event)[:200]}\n")
        elif event["type"] == "error":
            raise _error(event)
        elif event["type"] == "done":
            self.done = event
        else:
            if self._emit is not None:
                self._emit(as_json(event))
            if self._keep:
                self._kept.append(_as_it_is(event))

    def result(self) -> object:
        """What comes of it: folded where it was kept, else the data of its end."""
        if self._keep:
            return folded(self._kept, self.done, self.returned)
        return self.done.get("data") if self.done else self.returned

    def _as_event(self, value: object) -> dict[str, Any] | None:
        """What was yielded as an event; None for a line of the log."""
        if not isinstance(value, Mapping) or "type" not in value:
            return {"type": "content", "data": value}
        event = {str(key): item for key, item in value.items()}
        if isinstance(event["type"], enum.Enum):
            event["type"] = event["type"].value
        kind = event["type"] if isinstance(event["type"], str) else None
        if kind == "log":
            self._log(f"{event.get('data', '')}\n")
            return None
        if kind not in _TYPES:
            return {"type": "content", "data": event.get("data", event)}
        event.setdefault("data", None)
        return event


def folded(events: list[dict[str, Any]], done: dict[str, Any] | None, returned: object) -> object:
    """A generator's result for a caller who wants no stream.

    Its return value; else the object in the data of its done event; else its joined text; else its events.
    """
    if returned is not None:
        return returned
    if done is not None and isinstance(done.get("data"), Mapping):
        return done["data"]
    contents = [event["data"] for event in events if event["type"] == "content"]
    if contents and all(isinstance(content, str) for content in contents):
        return {"content": "".join(contents)}
    return {"events": [*events, *([done] if done else [])]}


def _error(event: dict[str, Any]) -> EventError:
    message, code = event.get("data"), event.get("error_code")
    if message is None:
        message = event.get("message") or "The function ended with an error and did not say which."
    text = message if isinstance(message, str) else encode(message).decode()
    return EventError(text, code if isinstance(code, str) else "PREFAB_ERROR")


def _as_it_is(event: dict[str, Any]) -> dict[str, Any]:
    """An event as it is now: a function may fill the same objects again for its next one."""
    try:
        copied: dict[str, Any] = as_json(event)
    except (TypeError, ValueError, RecursionError):  # told at the end, if it is needed there
        return event
    if isinstance(copied["data"], str) and not isinstance(event["data"], str):
        copied["data"] = event["data"]  # a date or a path is no text that is joined with others
    return copied
