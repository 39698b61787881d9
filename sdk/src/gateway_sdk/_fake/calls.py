"""The calls and jobs of the gateway in memory over HTTP: the half of `testing.FakeGateway` that knows no files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from .. import _wire
from ..exceptions import GatewayError, QuotaExceededError
from ..models import JobStatus, PrefabCall
from .answers import events_answer, model, run_answer, stream_answer
from .job import Job, moment
from .jobs import Jobs, Work, in_thread
from .prefabs import FakePrefabs, Ready
from .requests import Wish
from .store import FakeStore
from .wire import Answer, Asked, json_answer, refusal, status_of

LONGEST_LOOK = 60.0
"""Seconds that a request may wait for the end of a job."""


class FakeCalls:
    """Runs what is asked for, and tells of it.

    Args:
        quota: tells how many calls are allowed; None for any number.

    Attributes:
        calls: every call that reached a function, with the version that ran.
        cancelled: the ids of the jobs that were cancelled.
    """

    def __init__(self, prefabs: FakePrefabs, store: FakeStore, quota: Callable[[], int | None]) -> None:
        self.calls: list[PrefabCall] = []
        self.cancelled: list[str] = []
        self._quota = quota
        self._prefabs = prefabs
        self._store = store
        self._jobs = Jobs(store.keep_result)
        self._lock = threading.Lock()  # a call is admitted whole before the next one

    def answer(self, asked: Asked) -> Answer | None:
        """The answer to a request about calls and jobs, None if it is about something else.

        Raises:
            GatewayError: the refusal.
        """
        if (asked.method, asked.path) == ("POST", _wire.RUN):
            return self._run(asked)
        if (asked.method, asked.path) == ("POST", _wire.JOBS):
            return self._submit(asked)
        if asked.path.startswith(_wire.JOBS + "/"):
            return self._job(asked, asked.path.removeprefix(_wire.JOBS + "/"))
        return None

    def _job(self, asked: Asked, place: str) -> Answer:
        if is_cancel(asked):
            return self._cancel(place.removesuffix("/cancel"))  # there may be slashes in a key
        job_id, _, what = place.partition("/")
        job = self._jobs.find(job_id)
        if what == "result":
            if not job.wait(_seconds(asked)):
                return json_answer({"job_id": job_id, "status": job.status}, 202)
            return run_answer(job)
        if what == "events":
            return events_answer(job, _number(asked.headers.get("last-event-id", "")))
        if what == "logs":
            return Answer(200, {"content-type": "text/plain; charset=utf-8"}, _log(job).encode("utf-8", "replace"))
        job.wait(_seconds(asked))
        return json_answer(model(job, self._store.user, asked.agent))

    def _cancel(self, name: str) -> Answer:
        job = self._jobs.find_by_either(name)
        canceled = self._jobs.cancel(job)
        if canceled:
            self.cancelled.append(job.id)
            self._jobs.see_off(job)
        status = JobStatus.CANCELED if canceled else job.status
        return json_answer({"job_id": job.id, "status": status, "canceled": canceled})

    def _submit(self, asked: Asked) -> Answer:
        wish, digest = Wish(asked), b"submit" + asked.body
        with self._lock:
            job = self._jobs.find_by_key(wish.key, digest)
            if job is None:
                job, works = self._admit(wish, is_submitted=True)
                self._jobs.keep_key(wish.key, digest, job)
                self._jobs.expire_after(job, wish.seconds)
                in_thread(lambda: self._jobs.start_all(works, wish.retry))
        return json_answer({"job_id": job.id, "status": JobStatus.QUEUED}, 202)

    def _run(self, asked: Asked) -> Answer:
        wish, digest = Wish(asked), b"run" + asked.body
        ends = None if wish.seconds is None else time.monotonic() + wish.seconds
        works: list[tuple[Job, Work]] = []
        with self._lock:
            job = self._jobs.find_by_key(wish.key, digest)
            if job is None:
                job, works = self._admit(wish, is_submitted=False)
                self._jobs.keep_key(wish.key, digest, job)
        if wish.is_stream:
            self._jobs.expire_after(job, wish.seconds)
            self._jobs.start_all(works)
            return stream_answer(job)
        self._jobs.start_all(works)
        self._jobs.wait(job, None if ends is None else ends - time.monotonic())
        if _runs_anew(job):
            self._jobs.forget_key(wish.key)
        return run_answer(job)

    def _admit(self, wish: Wish, *, is_submitted: bool) -> tuple[Job, list[tuple[Job, Work]]]:
        """The job of a request, and what is to be run for it.

        Raises:
            GatewayError: the refusal; in a batch a call that is refused is that call's result.
        """
        if len(wish.calls) == 1:
            ready = self._admit_call(wish.calls[0])
            job = self._jobs.open(ready.call, is_submitted=is_submitted, is_stream=wish.is_stream)
            job.about = ready.about
            return job, [(job, ready.work)]
        batch = self._jobs.open_batch(is_submitted=is_submitted)
        works = []
        for call in wish.calls:
            known = None if isinstance(call, GatewayError) else call
            try:
                ready = self._admit_call(call)
            except GatewayError as error:
                self._jobs.refuse(self._jobs.open(known, parent=batch), error)
                continue
            child = self._jobs.open(ready.call, parent=batch, is_submitted=is_submitted)
            child.about = ready.about
            works.append((child, ready.work))
        if not works:
            self._jobs.close_batch(batch)
        return batch, works

    def _admit_call(self, call: PrefabCall | GatewayError) -> Ready:
        """Check a call, in the order of the real gateway."""
        if isinstance(call, GatewayError):
            raise call
        ready = self._prefabs.ready(call)
        for url in (url for urls in (call.files or {}).values() for url in urls):
            self._store.read(url)
        if (limit := self._quota()) is not None and len(self.calls) >= limit:
            raise _used_up(limit, len(self.calls))
        self.calls.append(ready.call)
        return ready


def is_cancel(asked: Asked) -> bool:
    """Whether a job is to be ended."""
    return asked.method == "POST" and asked.path.startswith(_wire.JOBS + "/") and asked.path.endswith("/cancel")


def _used_up(limit: int, used: int) -> QuotaExceededError:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    details = {
        "limit": limit,
        "used": used,
        "quota_type": "calls_per_day",
        "reset_at": moment(midnight.timestamp()),
        "retry_after": int((midnight - now).total_seconds()) + 1,
    }
    return QuotaExceededError(f"the quota of {limit} calls is used up", details=details)


def _runs_anew(job: Job) -> bool:
    """Whether the same request, sent again, is not answered with this: nobody waited, or it is the gateway's fault."""
    fault = job.outcome.fault if job.outcome is not None else None
    return job.status is JobStatus.CANCELED or (fault is not None and status_of(fault) == 503)


def _seconds(asked: Asked) -> float:
    """How long the end of a job is to be waited for."""
    text = asked.query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_LOOK:
        raise refusal("/wait", f"must be a number of seconds from 0 to {LONGEST_LOOK:g}")
    return seconds


def _number(text: str) -> int:
    """The number of the last event that a reader has seen."""
    if text and not (text.isascii() and text.isdigit()):
        raise refusal("/headers/Last-Event-ID", "must be the number of an event of this job")
    return int(text or 0)


def _log(job: Job) -> str:
    """What the function of a job printed, or those of a batch one after the other."""
    below = [f"--- {child.id}\n{_log(child)}" for child in job.children if child.logged]
    return "".join(job.logged + below)
