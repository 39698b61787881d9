"""The line at the bottom of a terminal that says what takes its time."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

DELAY = 0.3
"""Seconds after which something takes its time; what is done sooner needs no words."""
EVERY = 0.1
ERASE = "\r\x1b[K"


class Status:
    """Drawn again and again by a thread of its own, and out of the way while anything else is written.

    Where a terminal knows no escape codes, or is to get none, it is written once, as a line like any other.
    """

    def __init__(self, text: str, *, is_plain: bool) -> None:
        self._text = text
        self._is_plain = is_plain
        self._began = time.monotonic()
        self._is_drawn = False
        self._at_line_start = True
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._draw_on, daemon=True)

    def start(self) -> None:
        """Appears after a moment, unless it has ended by then."""
        self._thread.start()

    def end(self) -> None:
        """Leaves nothing behind."""
        self._ended.set()
        self._thread.join()
        with self._lock:
            self._erase()

    @contextmanager
    def out_of_the_way(self, text: str) -> Iterator[None]:
        """While `text` is written; after a line that goes on, nothing is drawn until it has ended."""
        with self._lock:
            self._erase()
            if text:
                self._at_line_start = text.endswith("\n")
            yield

    def _draw_on(self) -> None:
        wait = DELAY
        while not self._ended.wait(wait):
            wait = EVERY
            with self._lock:
                self._draw()
            if self._is_plain:
                return

    def _draw(self) -> None:
        if self._ended.is_set() or not self._at_line_start:
            return
        seconds = int(time.monotonic() - self._began)
        text = f"{self._text} …" + (f" {seconds} s" if seconds and not self._is_plain else "")
        if self._is_plain:
            sys.stderr.write(text + "\n")
        else:
            sys.stderr.write(ERASE + text[: shutil.get_terminal_size().columns - 1])
            self._is_drawn = True
        sys.stderr.flush()

    def _erase(self) -> None:
        if self._is_drawn:
            sys.stderr.write(ERASE)
            sys.stderr.flush()
            self._is_drawn = False
