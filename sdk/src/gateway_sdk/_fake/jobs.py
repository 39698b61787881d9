"""The jobs of the gateway in memory: each runs in a thread of its own, as functions cannot be ended from outside."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

from ..exceptions import (
    ConflictError,
    DeadlineExceededError,
    GatewayError,
    InternalServerError,
    JobNotFoundError,
    OverloadedError,
    RuntimeCrashedError,
    ServiceUnavailableError,
)
from ..models import JobStatus, PrefabCall
from . import outcome as outcomes
from .call import Call, Stopped
from .job import Job, moment
from .log import kept
from .outcome import Outcome

FAREWELL = 1.0
"""Seconds that a function may take to leave once its job was canceled."""
TURN = 0.02
"""Seconds that the next call of a batch gives the one before: what is quick runs in its order, what is slow at once."""
LONGEST_DELAY = 3600.0
_WORTH_RETRYING = (RuntimeCrashedError, OverloadedError, InternalServerError, DeadlineExceededError)
Work = Callable[[], Any]
"""Calls the function."""
Store = Callable[[str, str, bytes], str]
"""Keeps what the job of that id wrote, by name and bytes; gives its URL."""


class Retry:
    """How often a call is tried, and the seconds before the second time; each further one waits twice as long."""

    def __init__(self, attempts: int = 1, delay: float = 1.0) -> None:
        self.attempts = attempts
        self.delay = delay

    def wait(self, failures: int) -> float | None:
        """Seconds until the next attempt after so many have failed; None if there is none."""
        return min(self.delay * 2.0 ** (failures - 1), LONGEST_DELAY) if failures < self.attempts else None


class Jobs:
    """Every job by its id, and by the key of the request that began it."""

    def __init__(self, store: Store) -> None:
        self.news = threading.Condition()
        self._store = store
        self._numbers = count(1)
        self._jobs: dict[str, Job] = {}
        self._keys: dict[str, tuple[bytes, Job]] = {}

    def find(self, job_id: str) -> Job:
        """The job of that id.

        Raises:
            JobNotFoundError: there is none.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFoundError(f"There is no job {job_id[:60]}.")
        return job

    def find_by_key(self, key: str, asked: bytes) -> Job | None:
        """The job of a request that came before with the same `Idempotency-Key`.

        Raises:
            ConflictError: it asked for something else.
        """
        before, job = self._keys.get(key, (asked, None))
        if before != asked:
            message = "This Idempotency-Key was used with another request. Make a new key for each."
            raise ConflictError(message, error_code="IDEMPOTENCY_CONFLICT")
        return job

    def find_by_either(self, name: str) -> Job:
        """The job of that id, or that a request with this key began.

        Raises:
            JobNotFoundError: there is none.
        """
        return self._keys[name][1] if name in self._keys else self.find(name)

    def keep_key(self, key: str, asked: bytes, job: Job) -> None:
        """From here on the key stands for the job."""
        if key:
            self._keys[key] = asked, job

    def forget_key(self, key: str) -> None:
        """The same request, sent again, is to be run anew."""
        self._keys.pop(key, None)

    def open(self, call: PrefabCall | None, **how: Any) -> Job:
        """A new job; `how` are the arguments of `Job`."""
        job = Job(f"fake-job-{next(self._numbers)}", call, self.news, **how)
        self._jobs[job.id] = job
        if job.parent is not None:
            job.parent.children.append(job)
        return job

    def open_batch(self, *, is_submitted: bool) -> Job:
        """A new job that stands for several calls."""
        batch = self.open(None, is_submitted=is_submitted)
        batch.is_batch = True
        if not is_submitted:
            batch.started_at = batch.created_at
        return batch

    def refuse(self, job: Job, fault: GatewayError) -> None:
        """A call of a batch that is not run."""
        with self.news:
            job.outcome, job.ended_at = Outcome(fault=fault), moment()
            job.status = JobStatus.FAILED

    def start(self, job: Job, work: Work, retry: Retry | None = None) -> None:
        """Run a call beside what asks for it."""
        in_thread(lambda: self._run(job, work, retry or Retry()))

    def start_all(self, works: list[tuple[Job, Work]], retry: Retry | None = None) -> None:
        """Run calls, begun one after the other."""
        for job, work in works:
            self.start(job, work, retry)
            if len(works) > 1:
                job.wait(TURN)

    def expire_after(self, job: Job, seconds: float | None) -> None:
        """Have a job, or every call of a batch, end by then, whether anybody waits for it or not."""
        if seconds is not None:
            for one in (job, *job.children):
                one.ends = time.monotonic() + seconds
            in_thread(lambda: self.wait(job, seconds))

    def wait(self, job: Job, seconds: float | None) -> None:
        """Wait for the end of a job, which comes in `seconds` at the latest; None for as long as it takes."""
        if not job.wait(seconds):
            self.expire(job)

    def expire(self, job: Job) -> None:
        """The time of a job, or of every call of a batch, is over."""
        for child in job.children:
            self.expire(child)
        if not job.is_batch:
            self._end(job, outcomes.too_late())
            job.stop()

    def cancel(self, job: Job) -> bool:
        """End a job, or every call of a batch; False if it had ended."""
        if job.is_batch:
            return any([self.cancel(child) for child in job.children])
        canceled = self._end(job, outcomes.canceled())
        job.stop()
        return canceled

    def see_off(self, job: Job) -> None:
        """Wait a moment for the functions of a job that was canceled to leave."""
        for one in (job, *job.children):
            if one.thread is not None and one.thread is not threading.current_thread():
                one.thread.join(FAREWELL)

    def _run(self, job: Job, work: Work, retry: Retry) -> None:
        failures = 0
        job.thread = threading.current_thread()
        while job.begin(failures + 1):
            outcome = self._attempt(job, work)
            if outcome is None:
                return
            failures += 1
            rest = retry.wait(failures) if _is_worth_retrying(outcome) else None
            if rest is None or time.monotonic() + rest >= job.ends:
                self._end(job, outcome)
                return
            job.put_back(outcomes.retry(outcome, failures, moment(time.time() + rest)))
            job.wait(rest)

    def _attempt(self, job: Job, work: Work) -> Outcome | None:
        """What comes of an attempt; None if the job has ended meanwhile."""
        is_told = job.is_submitted or job.is_stream

        def store(name: str, data: bytes) -> str:
            return self._store(job.id, name, data)

        call = Call(work, emit=job.emit if is_told else None, fold=job.is_submitted, log=job.log, store=store)
        job.stop = call.stop
        if job.has_ended:  # since before there was anything to stop
            call.stop()
        try:
            with kept(job.log):
                return call.run()
        except Stopped:
            self._end(job, outcomes.canceled())
        except KeyboardInterrupt as interrupt:
            job.interrupt = interrupt
            self._end(job, outcomes.canceled())
        return None

    def _end(self, job: Job, outcome: Outcome) -> bool:
        with self.news:
            if not job.end(outcome):
                return False
            if (batch := job.parent) is not None:
                self._count(batch, job)
            return True

    def _count(self, batch: Job, latest: Job) -> None:
        """One more call of a batch has ended."""
        ended = Counter(child.status for child in batch.children if child.has_ended)
        if batch.is_submitted:
            batch.say(outcomes.progress(latest.id, latest.status, ended.total(), len(batch.children)))
        if ended.total() == len(batch.children):
            self.close_batch(batch)

    def close_batch(self, batch: Job) -> None:
        """All calls of a batch have ended."""
        ended = Counter(child.status for child in batch.children)
        status = JobStatus.SUCCEEDED if JobStatus.SUCCEEDED in ended else JobStatus.FAILED
        if set(ended) == {JobStatus.CANCELED}:
            status = JobStatus.CANCELED
        batch.end_batch(status, outcomes.summed_up(ended) if batch.is_submitted else None)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    """Have something done by a thread that nobody has to wait for, with the context variables of this one."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    return thread


def _is_worth_retrying(outcome: Outcome) -> bool:
    if outcome.fault is not None:
        kind = type(outcome.fault)
        return kind is ServiceUnavailableError or isinstance(outcome.fault, _WORTH_RETRYING)
    return outcome.error is not None
