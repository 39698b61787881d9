"""How a call of the gateway in memory ended, and the events that tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..exceptions import DeadlineExceededError, GatewayError
from ..models import JobStatus
from .wire import detail_of

Event = dict[str, Any]
"""As JSON has it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call ended: with a value, unless `error` or `fault` is there."""

    value: Any = None
    """The function's result as JSON has it, or the data of its done event."""
    is_streamed: bool = False
    """Whether it is the latter."""
    files: dict[str, list[str]] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    """The function failed, or the call was canceled."""
    fault: GatewayError | None = None
    """The gateway could not run it to its end."""
    is_canceled: bool = False
    was_begun: bool = True

    @property
    def succeeded(self) -> bool:
        """Whether the function ran to its end."""
        return self.error is None and self.fault is None

    @property
    def status(self) -> JobStatus:
        """What its record says."""
        if self.succeeded:
            return JobStatus.SUCCEEDED
        if self.is_canceled:
            return JobStatus.CANCELED
        if isinstance(self.fault, DeadlineExceededError):
            return JobStatus.TIMED_OUT if self.was_begun else JobStatus.EXPIRED
        return JobStatus.FAILED

    @property
    def envelope(self) -> dict[str, Any] | None:
        """The result with its files; None of a call that failed."""
        return {"status": "SUCCESS", "output": self.value, "files": self.files} if self.succeeded else None

    @property
    def told_error(self) -> dict[str, Any] | None:
        """What went wrong, wherever."""
        return self.error if self.fault is None else detail_of(self.fault)


def canceled(message: str = "The job was canceled.") -> Outcome:
    """A call that somebody ended."""
    return Outcome(error={"error_code": "CANCELED", "message": message}, is_canceled=True)


def too_late(message: str = "The call's time was over; the function was stopped.", *, begun: bool = True) -> Outcome:
    """A call whose deadline has passed."""
    return Outcome(fault=DeadlineExceededError(message), was_begun=begun)


def start(job_id: str, attempt: int | None = None) -> Event:
    """The first event; a job that was submitted has one for each attempt."""
    number = {} if attempt is None else {"attempt": attempt}
    return {"type": "start", "data": {"job_id": job_id, **number}}


def retry(outcome: Outcome, attempt: int, retry_at: str) -> Event:
    """An attempt has failed, and there will be another."""
    told = outcome.told_error or {}
    return {"type": "retry", "data": told.get("message"), "attempt": attempt, "retry_at": retry_at, "error": told}


def end(outcome: Outcome, job_id: str) -> Event:
    """The last event of a call."""
    if outcome.succeeded:
        data = outcome.value if outcome.is_streamed else outcome.envelope
        return {"type": "done", "data": data, "files": outcome.files}
    told = dict(outcome.told_error or {})
    message, code = told.pop("message", "The call failed."), told.pop("error_code", "PREFAB_ERROR")
    return {"type": "error", "data": message, "error_code": code, "job_id": job_id, "files": {}, "error": told}


def progress(job_id: str, status: JobStatus, ended: int, total: int) -> Event:
    """One more call of a batch has ended."""
    return {"type": "progress", "data": {"job_id": job_id, "status": status, "ended": ended, "total": total}}


def summed_up(ended: dict[JobStatus, int]) -> Event:
    """All calls of a batch have ended, so many in each way."""
    return {"type": "done", "data": {str(status): number for status, number in ended.items()}}
