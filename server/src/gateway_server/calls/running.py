"""What runs right now, so that it can be canceled and its output be seen before it has ended."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway_server.calls.logs import NOTHING_TO_MASK, Log, Masker


@dataclass(kw_only=True, eq=False)
class Running:
    """One call in the middle of it."""

    job_id: str
    user: str
    parent_id: str | None
    """The batch that it came in."""
    caller_id: str | None
    """The job whose function made this call."""
    task: asyncio.Task[object]
    log: Log
    masker: Masker = NOTHING_TO_MASK
    began: float | None = None
    """When it had its worker, on the monotonic clock."""
    canceled: bool = False
    expired: bool = False

    def ran(self) -> float:
        """Seconds with a worker so far."""
        return 0.0 if self.began is None else time.monotonic() - self.began

    def expire(self) -> None:
        """Ends the call: its time is over."""
        self.expired = True
        self.task.cancel()

    def cancel(self) -> None:
        """Ends the call; its record will say so."""
        if not self.canceled:
            self.canceled = True
            self.task.cancel()


class RunningCalls:
    """Every call between its admission and its end."""

    def __init__(self) -> None:
        self._calls: dict[str, Running] = {}
        self._below: dict[str, set[str]] = {}
        self._batches: dict[str, bool] = {}  # open batch -> whether it was canceled

    def __len__(self) -> int:
        return len(self._calls)

    def enter(self, call: Running) -> None:
        """Registers a call while it runs; it has to `leave`."""
        self._calls[call.job_id] = call
        if self._has_ended(call.caller_id):
            call.cancel()
        for place in (call.parent_id, call.caller_id):
            if place is not None:
                self._below.setdefault(place, set()).add(call.job_id)

    def leave(self, call: Running) -> None:
        """A call is over. So are the calls that its function made: nobody waits for them any more."""
        for place in (call.parent_id, call.caller_id):
            if place is not None:
                self._take_away(place, call.job_id)
        del self._calls[call.job_id]
        if call.job_id in self._below:
            self.cancel(call.job_id)

    @contextmanager
    def batch(self, job_id: str, caller_id: str | None) -> Iterator[None]:
        """Registers a batch while its calls run, below the job whose function sent it."""
        self._batches[job_id] = self._has_ended(caller_id)
        if caller_id is not None:
            self._below.setdefault(caller_id, set()).add(job_id)
        try:
            yield
        finally:
            if caller_id is not None:
                self._take_away(caller_id, job_id)
            del self._batches[job_id]

    def _take_away(self, place: str, job_id: str) -> None:
        below = self._below[place]
        below.discard(job_id)
        if not below:
            del self._below[place]

    def _has_ended(self, caller_id: str | None) -> bool:
        return caller_id is not None and caller_id not in self._calls

    def is_canceled(self, batch_id: str) -> bool:
        """Whether the calls of a batch that have not begun should not begin."""
        return self._batches.get(batch_id, False)

    async def end_all_of(self, user: str) -> None:
        """Cancels every call of a user and waits until their processes and records are done with."""
        while calls := [call for call in self._calls.values() if call.user == user]:
            for call in calls:
                call.cancel()
            await asyncio.wait([call.task for call in calls], timeout=1)

    def find(self, job_id: str) -> Running | None:
        """The call, if it still runs."""
        return self._calls.get(job_id)

    def below(self, job_id: str) -> list[Running]:
        """The calls of a batch, or those that a call's function made."""
        return [self._calls[child] for child in self._below.get(job_id, ()) if child in self._calls]

    def cancel(self, job_id: str) -> bool:
        """Cancels a call or batch with everything below it; False if nothing of it runs."""
        found = [*self.below(job_id), *filter(None, [self._calls.get(job_id)])]
        for call in found:
            call.cancel()
        batches = [batch for batch in (job_id, *self._below.get(job_id, ())) if batch in self._batches]
        for batch in batches:
            self._batches[batch] = True
        return bool(found or batches)
