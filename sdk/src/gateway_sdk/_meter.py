"""How far an upload is, told to whoever wants to know."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._typing import Any, Self

Progress = Callable[[int, int | None], object]


class Stopped(BaseException):
    """The upload is over before its end: whoever still sends a part of it stops."""


class _Raised(BaseException):
    """What the user's function raised, on its way past everything that handles exceptions between it and the user."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Meter:
    """Counts what has been sent of a file, in any number of parts and threads, and tells it a user's function.

    The count never goes backwards: a part that is sent again is told only from where it had been. Used with `with`: at
    the end the whole has been told, and what the user's function raised comes out as it is.

    Args:
        total: bytes of the file.
        progress: called as `progress(done, total)`, by one thread at a time.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._lock = threading.Lock()
        self._sent: dict[int, int] = {}
        self._done = 0
        self._told: int | None = None
        self._stopped = False
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: Any) -> None:
        if error is None:
            try:
                self.end()
            except _Raised as raised:
                error = raised
        if isinstance(error, _Raised):
            raise error.error from error.error.__cause__

    def part(self, number: int) -> Callable[[int], None]:
        """What is to be called with the bytes that have been sent of a part.

        It raises what ends the upload: `Stopped`, or something that carries what the user's function raised.
        """

        def sent(count: int) -> None:
            with self._lock:
                self._check()
                more = count - self._sent.get(number, 0)
                if more > 0:
                    self._sent[number] = count
                    self._done += more
                    self._tell()

        return sent

    def check(self, _: int = 0) -> None:
        """Raises Stopped after `stop`."""
        with self._lock:
            self._check()

    def stop(self) -> None:
        """End the upload: every part raises before its next block."""
        with self._lock:
            self._stopped = True

    def end(self) -> None:
        """All has been sent."""
        with self._lock:
            self._done = self._total
            if self._told != self._total:
                self._tell()

    def _check(self) -> None:
        if self._error is not None:
            raise _Raised(self._error)
        if self._stopped:
            raise Stopped

    def _tell(self) -> None:
        self._told = self._done
        if self._progress is None:
            return
        try:
            self._progress(self._done, self._total)
        except Exception as error:
            self._error = error
            raise _Raised(error) from error
