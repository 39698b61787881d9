"""One call of a function of the test: whatever it does becomes an outcome, as the runtime and the gateway have it."""

from __future__ import annotations

import asyncio
import inspect
import os
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..exceptions import GatewayError
from ..models import clean_files
from .events import Emit, EventError, Yielded
from .json import as_json
from .outcome import Outcome


class Output:
    """What a function of the fake returns when it also writes files.

    Args:
        value: the return value.
        files: {key: {name: bytes}}.

    Example:
        >>> Output({"success": True}, files={"output": {"report.txt": b"..."}}).value
        {'success': True}
    """

    def __init__(self, value: Any, files: dict[str, dict[str, bytes]] | None = None) -> None:
        self.value = value
        self.files = files or {}


class Stopped(BaseException):
    """The job has ended meanwhile: nobody hears any more what its function says."""


class Call:
    """A function that is run once, in a thread of its own.

    Args:
        work: calls the function.
        emit: takes the events of a generator, where somebody wants them.
        fold: whether the result is to be that of a call without a stream in any case.
        log: takes what is not for the caller.
        store: keeps a file that the function wrote, by name and bytes; gives its URL.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        *,
        emit: Emit | None,
        fold: bool,
        log: Callable[[str], None],
        store: Callable[[str, bytes], str],
    ) -> None:
        self._work = work
        self._emit = emit
        self._fold = fold
        self._log = log
        self._store = store
        self._files: dict[str, list[str]] = {}
        self._is_stopped = False
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def run(self) -> Outcome:
        """Call the function.

        Raises:
            Stopped: its job has ended.
            KeyboardInterrupt: the person at the keyboard wants to end the test.
        """
        try:
            value, is_streamed = self._result()
            return Outcome(value=as_json(value), is_streamed=is_streamed, files=self._files)
        except EventError as error:
            return Outcome(error={"error_code": error.code, "type": "EventError", "message": str(error)})
        except GatewayError as error:
            return Outcome(fault=error)
        except (KeyboardInterrupt, Stopped):
            raise
        except BaseException as error:  # SystemExit, too, ends its call alone
            self._log(traced(error))
            return Outcome(error={"error_code": "PREFAB_ERROR", **described(error)})

    def stop(self) -> None:
        """End a coroutine where it waits, from another thread. A plain function cannot be ended from outside."""
        self._is_stopped = True
        if self._task is not None:
            loop, task = self._task
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(task.cancel)

    def _result(self) -> tuple[Any, bool]:
        outcome = self._work()
        if inspect.iscoroutine(outcome):
            outcome = self._awaited(outcome)
        is_async = inspect.isasyncgen(outcome)
        if not is_async and not _is_generator(outcome):
            return self._unpacked(outcome), False
        is_stream = self._emit is not None
        yielded = Yielded(self._emit, keep=self._fold or not is_stream, log=self._log)
        if is_async:
            self._awaited(self._exhaust_async(outcome, yielded))
        else:
            self._exhaust(outcome, yielded)
        yielded.returned = self._unpacked(yielded.returned)
        if yielded.done is not None:
            yielded.done["data"] = self._unpacked(yielded.done["data"])
            self._files |= clean_files(yielded.done.get("files"))
        return yielded.result(), is_stream and not self._fold

    def _unpacked(self, value: Any) -> Any:
        """A value without the files that it came with, which are kept."""
        if not isinstance(value, Output):
            return value
        for key, named in value.files.items():
            self._files[key] = [self._store(name, data) for name, data in named.items()]
        return value.value

    def _awaited(self, main: Coroutine[Any, Any, Any]) -> Any:
        async def noted() -> Any:
            task = asyncio.current_task()
            assert task is not None
            self._task = asyncio.get_running_loop(), task
            if self._is_stopped:
                task.cancel()
            return await main

        return asyncio.run(noted())

    def _exhaust(self, generator: Any, yielded: Yielded) -> None:
        while True:
            try:
                value = next(generator)
            except StopIteration as stop:
                yielded.returned = stop.value
                return
            try:
                yielded.take(value)
            except BaseException:
                if hasattr(generator, "close"):  # other iterators need not have it
                    with self._logged():
                        generator.close()
                raise

    async def _exhaust_async(self, generator: Any, yielded: Yielded) -> None:
        try:
            async for value in generator:
                yielded.take(value)
        except BaseException:
            with self._logged():
                await generator.aclose()
            raise

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """What a function raises while it is ended does not take the place of the error that it has told."""
        try:
            yield
        except Exception as error:
            self._log(traced(error))


def described(error: BaseException) -> dict[str, str]:
    """What a caller is told of an exception."""
    kind = type(error)
    is_known = kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if is_known else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:  # the user's own __str__ may raise anything
        message = ""
    return {"type": name, "message": message or name}


def traced(error: BaseException) -> str:
    """What the log is told of an exception, without the frames of this package."""
    told = traceback.TracebackException.from_exception(error)
    one: traceback.TracebackException | None = told
    while one is not None:
        frames = [frame for frame in one.stack if os.path.dirname(__file__) not in frame.filename]
        one.stack = traceback.StackSummary.from_list(frames)
        one = one.__cause__ or one.__context__
    return "".join(told.format())


def _is_generator(value: object) -> bool:
    return inspect.isgenerator(value) or (isinstance(value, Iterator) and not hasattr(value, "read"))
