"""How one call ended, from its last event to what is told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway_server.calls.texts import check_result
from gateway_server.errors import Canceled, DeadlineExceeded, GatewayFault, RuntimeCrashed
from gateway_server.models import JobStatus, Result

Files = Mapping[str, Sequence[str]]


@dataclass(kw_only=True)
class Outcome:
    """How a call ended. Exactly one of `result`, `error` and `fault` is there."""

    job_id: str
    result: bytes | None = None
    """JSON text: the function's result, or the data of its done event."""
    streamed: bool = False
    files: Files
    error: Mapping[str, Any] | None = None
    """The function failed, or the call was canceled."""
    fault: GatewayFault | None = None
    """The gateway could not run the function to its end."""
    canceled: bool = False
    begun: bool = True
    """Whether the function was tried at all."""
    _envelope: bytes | None = None

    @property
    def status(self) -> JobStatus:
        """What its record says."""
        if self.result is not None:
            return JobStatus.SUCCEEDED
        if self.canceled:
            return JobStatus.CANCELED
        if isinstance(self.fault, DeadlineExceeded):
            return JobStatus.TIMED_OUT if self.begun else JobStatus.EXPIRED
        return JobStatus.FAILED

    @property
    def envelope(self) -> bytes:
        """The result with its files, as JSON text."""
        if self._envelope is None:
            self._envelope = self._written()
        return self._envelope

    def _written(self) -> bytes:
        if self.result is not None and not self.files:
            return b'{"status":"SUCCESS","output":' + self.result + b',"files":{}}'
        status = b"FAILED" if self.result is None else b"SUCCESS"
        files = orjson.dumps(self.files)
        return b'{"status":"' + status + b'","output":' + (self.result or b"null") + b',"files":' + files + b"}"

    def told_error(self) -> dict[str, Any]:
        """What went wrong, wherever, as data."""
        return dict(self.fault.detail() if self.fault is not None else self.error or {})


def of_result(job_id: str, last: Result, files: Files) -> Outcome:
    """A call whose function answered, if it is an answer."""
    try:
        check_result(last.json)
    except RuntimeCrashed as fault:
        return Outcome(job_id=job_id, fault=fault, files={})
    return Outcome(job_id=job_id, result=last.json, streamed=last.streamed, files=files)


def of_fault(job_id: str, fault: GatewayFault, *, begun: bool = True) -> Outcome:
    """A call that the gateway could not run to its end."""
    return Outcome(job_id=job_id, fault=fault, files={}, begun=begun)


def of_cancel(job_id: str, message: str = "The job was canceled.") -> Outcome:
    """A call that somebody ended."""
    return Outcome(job_id=job_id, error=Canceled(message).detail(), files={}, canceled=True)
