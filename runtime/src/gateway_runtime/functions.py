"""Finding a prefab's function, calling it, and turning whatever it does into frames.

A function may be plain, a coroutine, a generator or an async generator. A caller who wants a stream gets every event
as it comes; any other gets one result, folded from the events by the rules that `fold` states.
"""

import asyncio
import dataclasses
import datetime
import enum
import importlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

EVENT_TYPES = frozenset({"start", "content", "progress", "done", "error"})
Emit = Callable[[str, bytes], None]
"""Takes an event's type and its JSON text."""


class EventError(Exception):
    """The function ended its stream with an event of type error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def load(entry_point: str) -> ModuleType:
    """Imports the module that a manifest calls ``src/main.py``."""
    return importlib.import_module(entry_point.removesuffix(".py").replace("/", "."))


def find(module: ModuleType, name: str) -> Callable[..., object]:
    """The function of that name.

    Raises:
        AttributeError: the module defines no such thing, or it cannot be called.
    """
    function = getattr(module, name, None)
    if not callable(function):
        raise AttributeError(f"{module.__name__} defines no function {name!r}")
    return function  # type: ignore[no-any-return]


def call(
    function: Callable[..., object], parameters: Mapping[str, object], *, stream: bool, emit: Emit, fold: bool = False
) -> tuple[bool, bytes]:
    """Runs the function to its end; events go to `emit` when a stream is wanted.

    Returns whether events were streamed, and JSON text: then the data of the done event, else the function's result.
    With `fold` it is the function's result in any case.

    Raises:
        BaseException: whatever the function raised.
        EventError: it ended its stream with an error event.
        TypeError: it returned something that JSON cannot hold.
    """
    outcome = function(**parameters)
    if inspect.iscoroutine(outcome):
        outcome = asyncio.run(outcome)
    if inspect.isasyncgen(outcome):
        outcome = _drive(outcome)
    if not _is_generator(outcome):
        return False, encode(outcome)
    return stream and not fold, _exhaust(outcome, emit if stream else None, fold=fold or not stream)


def _is_generator(value: object) -> bool:
    return inspect.isgenerator(value) or (isinstance(value, Iterator) and not hasattr(value, "read"))


def _drive(events: AsyncIterator[object]) -> Iterator[object]:
    """An async generator as a plain one, on an event loop of its own."""
    with asyncio.Runner() as runner:
        while True:
            try:
                event = runner.run(_next(events))
            except StopAsyncIteration:
                return
            yield event


async def _next(events: AsyncIterator[object]) -> object:
    return await events.__anext__()


def _exhaust(events: Any, emit: Emit | None, *, fold: bool) -> bytes:
    kept: list[dict[str, object]] = []
    done: dict[str, object] | None = None
    while True:
        try:
            event = as_event(next(events))
        except StopIteration as stop:
            returned = stop.value
            break
        if event is None:
            continue
        if done is not None:
            sys.stderr.write(f"event after the end dropped: {str(event)[:200]}\n")
        elif event["type"] == "error":
            events.close()
            message = event.get("data")
            code = event.get("error_code")
            text = message if isinstance(message, str) else encode(message).decode()
            raise EventError(text, code if isinstance(code, str) else "PREFAB_ERROR")
        elif event["type"] == "done":
            done = event
        else:
            if emit is not None:
                emit(str(event["type"]), encode(event))
            if fold:
                kept.append(event)
    if fold:
        return encode(folded(kept, done, returned))
    return encode(done.get("data") if done else returned)


def as_event(value: object) -> dict[str, object] | None:
    """What a generator yielded as an event; None for log lines, which never travel on the stream."""
    if not isinstance(value, Mapping) or "type" not in value:
        return {"type": "content", "data": value}
    event = {str(key): item for key, item in value.items()}
    if isinstance(event["type"], enum.Enum):
        event["type"] = event["type"].value
    if event["type"] == "log":
        sys.stderr.write(f"{event.get('data', '')}\n")
        return None
    if event["type"] not in EVENT_TYPES:
        return {"type": "content", "data": event.get("data", event)}
    event.setdefault("data", None)
    return event


def folded(events: list[dict[str, object]], done: dict[str, object] | None, returned: object) -> object:
    """A generator's result for a caller who wants no stream.

    Its return value; else the object in the data of its done event; else its joined text; else its events.
    """
    if returned is not None:
        return returned
    if done is not None and isinstance(done.get("data"), Mapping):
        return done["data"]
    contents = [event["data"] for event in events if event["type"] == "content"]
    if contents and all(isinstance(content, str) for content in contents):
        return {"content": "".join(map(str, contents))}
    return {"events": [*events, *([done] if done else [])]}


def encode(value: object) -> bytes:
    """JSON text as UTF-8. NaN and infinities become null; dates, paths, sets and number-like objects become plain.

    Raises:
        TypeError: JSON cannot hold the value; the message names its type.
        ValueError: the value contains itself.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError as error:
        if "Circular" in str(error):
            raise ValueError("the result contains itself, which JSON cannot hold") from None
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), default=_plain)
    except TypeError as error:
        if "keys must be" not in str(error):
            raise
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), default=_plain)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates, as file names of unknown encoding hold them
        return text.encode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    for name in ("model_dump", "tolist", "item", "_asdict"):
        method = getattr(value, name, None)
        if callable(method) and not isinstance(value, type):
            return method()
    if isinstance(value, Mapping):
        return dict(value)
    kind = type(value)
    raise TypeError(f"the function returned a {kind.__module__}.{kind.__qualname__}, which JSON cannot hold")


def _finite(value: object) -> object:
    """A copy without NaN and infinities, with every key a string."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    return _finite(_plain(value))


def describe(error: BaseException) -> dict[str, str]:
    """What an exception says, for the caller and for the log. Frames of this package are left out."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.dirname(__file__) not in f.filename]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    lines += traceback.format_exception_only(error)
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)
    except Exception:  # the user's own __str__ may raise anything
        message = ""
    return {"type": name, "message": message or name, "traceback": "".join(lines)}
