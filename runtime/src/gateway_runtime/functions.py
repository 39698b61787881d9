"""Finding a prefab's function, calling it, and turning whatever it does into frames.

A function may be plain, a coroutine, a generator or an async generator. A caller who wants a stream gets every event
as it comes; any other gets one result, folded from the events by the rules that `fold` states.
"""

import dataclasses
import datetime
import enum
import importlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from gateway_runtime import coroutines

EVENT_TYPES = frozenset({"start", "content", "progress", "done", "error"})
Emit = Callable[[str, bytes], None]
"""Takes an event's type and its JSON text."""


class EventError(Exception):
    """The function ended its stream with an event of type error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def load(entry_point: str) -> ModuleType:
    """Imports the module that a manifest calls ``src/main.py``, and what it takes to call its functions: `asyncio` is a
    third of all that a process of most prefabs would hold, and not needed there."""
    module = importlib.import_module(entry_point.removesuffix(".py").replace("/", "."))
    if any(_is_async(member) for member in vars(module).values()):
        coroutines.load_asyncio()
    return module


def mentions_async(file: str) -> bool:
    """Whether a source file may define coroutines."""
    try:
        with open(file, "rb") as source:
            return b"async " in source.read()
    except OSError:
        return False


def _is_async(member: object) -> bool:
    if type(member) is not FunctionType:  # to ask a stand-in for its class may have it do anything
        return False
    return bool(member.__code__.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))


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
        outcome = coroutines.run(outcome)
    is_async = inspect.isasyncgen(outcome)
    if not is_async and not _is_generator(outcome):
        return False, encode(outcome)
    events = _Events(emit if stream else None, keep=fold or not stream)
    if is_async:
        coroutines.run(_exhaust_async(outcome, events))
    else:
        _exhaust(outcome, events)
    return stream and not fold, events.result()


def _is_generator(value: object) -> bool:
    return inspect.isgenerator(value) or (isinstance(value, Iterator) and not hasattr(value, "read"))


def _exhaust(generator: Any, events: "_Events") -> None:
    while True:
        try:
            value = next(generator)
        except StopIteration as stop:
            events.returned = stop.value
            return
        try:
            events.take(value)
        except EventError:
            if hasattr(generator, "close"):  # other iterators need not have it
                with _logged():
                    generator.close()
            raise


async def _exhaust_async(generator: Any, events: "_Events") -> None:
    try:
        async for value in generator:
            events.take(value)
    except BaseException:
        with _logged():
            await generator.aclose()
        raise


@contextmanager
def _logged() -> Iterator[None]:
    """What a function yields or raises while it is ended does not take the place of the error that it has told."""
    try:
        yield
    except Exception as error:
        sys.stderr.write(describe(error)["traceback"])


class _Events:
    """What a generator has yielded so far."""

    def __init__(self, emit: Emit | None, *, keep: bool) -> None:
        self.returned: object = None
        """Its return value."""
        self._emit = emit
        self._keep = keep
        self._kept: list[dict[str, object]] = []
        self._done: dict[str, object] | None = None

    def take(self, value: object) -> None:
        """One more.

        Raises:
            EventError: it is the error that ends the stream.
        """
        event = as_event(value)
        if event is None:
            return
        kind = event["type"]
        if self._done is not None:
            sys.stderr.write(f"event after the end dropped: {str(event)[:200]}\n")
        elif kind == "error":
            message, code = event.get("data"), event.get("error_code")
            if message is None:
                message = event.get("message") or "The function ended with an error and did not say which."
            text = message if isinstance(message, str) else encode(message).decode()
            raise EventError(text, code if isinstance(code, str) else "PREFAB_ERROR")
        elif kind == "done":
            self._done = event
        else:
            if self._emit is not None:
                self._emit(str(kind), encode(event))
            if self._keep:
                self._kept.append(_as_it_is(event))

    def result(self) -> bytes:
        """What comes of it as JSON text: folded where it was kept, else the data of its end."""
        if self._keep:
            return encode(folded(self._kept, self._done, self.returned))
        return encode(self._done.get("data") if self._done else self.returned)


def as_event(value: object) -> dict[str, object] | None:
    """What a generator yielded as an event; None for log lines, which never travel on the stream."""
    if type(value) is dict and type(value.get("type")) is str and value["type"] in EVENT_TYPES and "data" in value:
        return value  # as nearly all are
    if not isinstance(value, Mapping) or "type" not in value:
        return {"type": "content", "data": value}
    event = {str(key): item for key, item in value.items()}
    if isinstance(event["type"], enum.Enum):
        event["type"] = event["type"].value
    kind = event["type"] if isinstance(event["type"], str) else None  # an object of the function's own may have any
    if kind == "log":
        sys.stderr.write(f"{event.get('data', '')}\n")
        return None
    if kind not in EVENT_TYPES:
        return {"type": "content", "data": event.get("data", event)}
    event.setdefault("data", None)
    return event


def _as_it_is(event: dict[str, object]) -> dict[str, object]:
    """An event as it is now: a function may fill the same objects again for its next one."""
    if all(type(value) is str for value in event.values()):  # as nearly all are
        return event.copy()
    try:
        copied: dict[str, object] = json.loads(encode(event))
    except (TypeError, ValueError, RecursionError):  # told at the end, if it is needed there
        return event
    if isinstance(copied["data"], str) and not isinstance(event["data"], str):
        copied["data"] = event["data"]  # a date or a path is no text that is joined with others
    return copied


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
        text = _encoder.encode(value)
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
    """A copy without NaN and infinities, with every key one that JSON can hold."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {_key(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    return _finite(_plain(value))


def _key(key: object) -> object:
    """A key that the encoder can write; it has its own way with numbers, truths and None."""
    return key if isinstance(key, str | int | float | None) else str(key)


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
"""Made once: to make one costs more than to encode a small value."""


def describe(error: BaseException) -> dict[str, str]:
    """What an exception says, for the caller and for the log, there with those that it came from. Frames of this
    package are left out."""
    told = traceback.TracebackException.from_exception(error)
    one: traceback.TracebackException | None = told
    while one is not None:
        frames = [frame for frame in one.stack if os.path.dirname(__file__) not in frame.filename]
        one.stack = traceback.StackSummary.from_list(frames)
        one = one.__cause__ or one.__context__
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)
    except Exception:  # the user's own __str__ may raise anything
        message = ""
    return {"type": name, "message": message or name, "traceback": "".join(told.format())}
