"""A job of the gateway in memory: its record, what it has said, and who listens to that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf

from ..models import JobStatus, PrefabCall
from . import outcome as outcomes
from .call import Stopped
from .outcome import Event, Outcome

UNWANTED = 30.0
"""Seconds that a function waits in the middle of a stream whose reader has gone without a word."""


class Job:
    """One call, or a batch of them. What changes it is done with `news` held, which is told then.

    Args:
        job_id: its id.
        call: what is called; None for a batch.
        news: one for all jobs: calls of a batch are waited for together.
        parent: the batch that it belongs to.
        is_submitted: whether it says start for each attempt, and everything that its function says.
        is_stream: whether the function is to wait until each of its events is wanted: where a loop is left, the
            function is left at that event, too.
    """

    def __init__(
        self,
        job_id: str,
        call: PrefabCall | None,
        news: threading.Condition,
        *,
        parent: Job | None = None,
        is_submitted: bool = False,
        is_stream: bool = False,
    ) -> None:
        self.id = job_id
        self.call = call
        self.news = news
        self.parent = parent
        self.is_submitted = is_submitted
        self.is_stream = is_stream
        self.is_batch = False
        self.children: list[Job] = []
        self.about: dict[str, str] = {}
        """What results tell of the version that ran."""
        self.status = JobStatus.QUEUED if is_submitted else JobStatus.RUNNING
        self.attempt = 0 if is_submitted else 1
        self.created_at = moment()
        self.started_at: str | None = None
        self.ended_at: str | None = None
        self.outcome: Outcome | None = None
        """How the call ended; None while it has not, and of a batch."""
        self.events: list[Event] = []
        self.logged: list[str] = []
        self.stop: Callable[[], None] = lambda: None
        """Ends the function, as far as that can be done."""
        self.thread: threading.Thread | None = None
        """Where the function runs."""
        self.ends = inf
        """When its time is over, on the monotonic clock."""
        self.interrupt: KeyboardInterrupt | None = None
        """What the function raised that is for nobody but the test."""
        self._wanted = 0
        self._listeners = 0
        self._has_started = False

    @property
    def has_ended(self) -> bool:
        """Whether its end is recorded."""
        return self.ended_at is not None

    def begin(self, attempt: int) -> bool:
        """An attempt begins; False if the job has ended meanwhile."""
        with self.news:
            if self.has_ended:
                return False
            self.status, self.attempt = JobStatus.RUNNING, attempt
            self.started_at = self.started_at or moment()
            if self.is_submitted:
                self.say(outcomes.start(self.id, attempt))
            if self.parent is not None and self.parent.attempt == 0:
                self.parent.status, self.parent.attempt, self.parent.started_at = self.status, 1, self.started_at
        return True

    def put_back(self, event: Event) -> None:
        """An attempt has failed, as `event` tells, and there will be another unless the job has ended meanwhile."""
        with self.news:
            if not self.has_ended:
                self.status = JobStatus.QUEUED
                self.say(event)

    def say(self, event: Event) -> None:
        """Record an event."""
        with self.news:
            self.events.append(event)
            self.news.notify_all()

    def say_start(self) -> None:
        """Say start in a stream, unless it has been said."""
        with self.news:
            if self.is_stream and not self._has_started:
                self._has_started = True
                self.say(outcomes.start(self.id))

    def emit(self, event: Event) -> None:
        """An event of the function.

        Raises:
            Stopped: the job has ended.
        """
        with self.news:
            if self.has_ended:
                raise Stopped
            if event["type"] == "start":
                self._has_started = True  # its own takes the place of ours
            self.say_start()
            self.say(event)
            if self.is_stream:
                self._wait_until_wanted(len(self.events))

    def _wait_until_wanted(self, count: int) -> None:
        """Wait until somebody asks for what comes after the first `count` events."""
        while self._wanted <= count and not self.has_ended:
            if not self.news.wait(UNWANTED) and not self._listeners:
                raise Stopped
        if self.has_ended:
            raise Stopped

    def end(self, outcome: Outcome) -> bool:
        """Record how the call ended. The first ending counts; says whether this was it."""
        with self.news:
            if self.has_ended:
                return False
            self.say_start()
            self.outcome, self.status, self.ended_at = outcome, outcome.status, moment()
            self.say(outcomes.end(outcome, self.id))
            return True

    def end_batch(self, status: JobStatus, event: Event | None = None) -> None:
        """Record the end of a batch."""
        with self.news:
            self.status, self.ended_at = status, moment()
            self.events += [event] if event else []
            self.news.notify_all()

    def log(self, text: str) -> None:
        """The function has printed something."""
        self.logged.append(text)

    def wait(self, seconds: float | None) -> bool:
        """Whether the job has ended before `seconds` are over; None for as long as it takes."""
        with self.news:
            return self.news.wait_for(lambda: self.has_ended, seconds)

    def next_event(self, number: int, seconds: float | None, is_left: Callable[[], bool]) -> Event | None:
        """The event `number`, from 0 on, once it is there; None if there is none, as the job has ended.

        Raises:
            TimeoutError: it was not there within `seconds`.
        """
        with self.news:
            if self._wanted <= number:
                self._wanted = number + 1
                self.news.notify_all()
            if not self.news.wait_for(lambda: len(self.events) > number or self.has_ended or is_left(), seconds):
                raise TimeoutError
            return self.events[number] if len(self.events) > number and not is_left() else None

    def attend(self, by: int) -> None:
        """One more or less listens."""
        with self.news:
            self._listeners += by
            self.news.notify_all()


def moment(posix: float | None = None) -> str:
    """A moment as the gateway writes it, RFC 3339 in UTC; now, if none is given."""
    when = datetime.now(UTC) if posix is None else datetime.fromtimestamp(posix, UTC)
    return when.isoformat().replace("+00:00", "Z")
