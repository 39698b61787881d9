"""What functions of the gateway in memory print: shown as usual, and kept as the log of their job."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_log: ContextVar[Callable[[str], None] | None] = ContextVar("log", default=None)
"""Takes what the current job prints. Many jobs print at once, and the streams are one for all of them."""
_lock = threading.Lock()
_open = 0


class _Tee:
    """A stream that also tells the job whose function writes."""

    def __init__(self, below: Any) -> None:
        self.below = below

    def write(self, text: str) -> Any:
        written = self.below.write(text)
        if (log := _log.get()) is not None:
            log(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


@contextmanager
def kept(log: Callable[[str], None]) -> Iterator[None]:
    """While a function runs in this thread, `log` is told what it prints."""
    token = _log.set(log)
    _enter()
    try:
        yield
    finally:
        _leave()
        _log.reset(token)


def _enter() -> None:
    global _open
    with _lock:
        _open += 1
        for name in ("stdout", "stderr"):
            below = getattr(sys, name)
            if below is not None and not isinstance(below, _Tee):
                setattr(sys, name, _Tee(below))


def _leave() -> None:
    global _open
    with _lock:
        _open -= 1
        if _open:
            return
        for name in ("stdout", "stderr"):
            tee = getattr(sys, name)
            if isinstance(tee, _Tee):  # else somebody has replaced it meanwhile, such as the test's own capture
                setattr(sys, name, tee.below)
