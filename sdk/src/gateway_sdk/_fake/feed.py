"""The events of a job of the gateway in memory, as a stream has them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from .job import Job
from .outcome import Event

START_AFTER = 0.05
"""Seconds after which a stream says start; until then a function may say its own."""
KEEP_ALIVE = 15.0
_SILENCE: Event = {}


class Feed(Iterator[bytes]):
    """The events of a job as frames, as they come; may be closed by another thread.

    Args:
        after: how many are known already.
        is_numbered: whether they tell their number, as those of jobs do.
    """

    def __init__(self, job: Job, after: int = 0, *, is_numbered: bool) -> None:
        self._job = job
        self._number = after
        self._is_numbered = is_numbered
        self._is_left = False
        job.attend(+1)

    def take(self, seconds: float | None) -> bytes | None:
        """The next frame; None after the last one.

        Raises:
            TimeoutError: there was none within `seconds`.
        """
        event = self._event(seconds)
        if event is None:
            if self._job.interrupt is not None:
                raise self._job.interrupt
            self.close()
            return None
        if event is _SILENCE:
            return b": keep-alive\n\n"
        self._number += 1
        head = b"id: %d\n" % self._number if self._is_numbered else b""
        return head + b"data: " + json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"

    def _event(self, seconds: float | None) -> Event | None:
        job, ends = self._job, None if seconds is None else time.monotonic() + seconds
        if self._number == 0 and not self._is_numbered and not job.events:
            try:
                return job.next_event(0, START_AFTER, self._has_left)
            except TimeoutError:
                job.say_start()
        left = KEEP_ALIVE if ends is None else ends - time.monotonic()
        try:
            return job.next_event(self._number, min(left, KEEP_ALIVE), self._has_left)
        except TimeoutError:
            if left <= KEEP_ALIVE and ends is not None:
                raise
            return _SILENCE

    def _has_left(self) -> bool:
        return self._is_left

    def __next__(self) -> bytes:
        frame = self.take(None)
        if frame is None:
            raise StopIteration
        return frame

    def close(self) -> None:
        """Stop listening."""
        if not self._is_left:
            self._is_left = True
            self._job.attend(-1)

    def __del__(self) -> None:
        self.close()
