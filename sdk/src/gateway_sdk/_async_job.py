"""Jobs that were submitted: they run whether anybody waits for them or not."""

from __future__ import annotations

import time

from . import _wire
from ._aio import sleep
from ._async_job_events import AsyncJobEvents
from ._async_session import GRACE, AsyncSession
from ._request import Request
from ._results import parse_batch, parse_results
from ._typing import Any
from .exceptions import DeadlineExceededError, InternalServerError, ServiceUnavailableError
from .models import BatchResult, JobStatus, PrefabResult

# Seconds that the gateway is asked to hold one look at a job that has not ended.
_LOOK = 25.0
_PAUSE = 0.5  # seconds before the next try while the gateway cannot be reached


class AsyncJobHandle:
    """What every job has. The gateway keeps the job; this only knows its id.

    Attributes:
        id: quote it to support, or make a handle of it anywhere else with `client.job(id)`.
    """

    def __init__(self, session: AsyncSession, job_id: str) -> None:
        self.id = job_id
        self._session = session
        self._path = f"/v1/jobs/{_wire.segment(job_id)}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def status(self) -> JobStatus:
        """Where the job stands.

        Raises:
            JobNotFoundError: there is no such job, or it is someone else's.

        Example:
            if await job.status() == "running":
                await job.cancel()
        """
        job = await self._session._ask("GET", self._path)
        return JobStatus(_wire.text_field(job, "status", f"GET {self._path}"))

    def events(self, after: int = 0) -> AsyncJobEvents:
        """The job's events from its first on, as they come; a cut connection is made anew where it broke.

        Leaving the loop early leaves the job alone.

        Args:
            after: the `id` of the last event that has been seen, where an earlier look is to be continued.

        Raises (while iterating):
            JobNotFoundError: there is no such job, or it is someone else's.
            ServiceUnavailableError: the gateway was not there for a minute.

        Example:
            async for event in job.events():
                print(event.type, event.data)
        """
        return AsyncJobEvents(self._session, self.id, after)

    async def logs(self) -> str:
        """What the job's functions have printed so far, secrets masked.

        Raises:
            JobNotFoundError: there is no such job, or it is someone else's.

        Example:
            print(await job.logs())
        """
        request = Request("GET", f"{self._session.base_url}{self._path}/logs", self._session._headers())
        _, body = await self._session._as_caller(request)
        return body.decode("utf-8", "replace")

    async def cancel(self) -> bool:
        """End the job with everything that it called. False if it had ended already, otherwise than by this.

        Raises:
            JobNotFoundError: there is no such job, or it is someone else's.

        Example:
            await job.cancel()
        """
        answer = await self._session._ask("POST", f"{self._path}/cancel", b"", content_type=None)
        # Asked again after an answer that was lost, the gateway says only where the job stands.
        return answer.get("canceled") is True or answer.get("status") == JobStatus.CANCELED

    async def _answer(self, timeout: float | None) -> dict[str, Any]:
        """What a run would have been answered with, once it is there."""
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK if ends is None else max(0.0, ends - time.monotonic())
            wait = min(left, _LOOK, self._session.timeout / 2)
            try:
                place = _wire.path(f"{self._path}/result", wait=f"{wait:.3f}")
                answer = await self._session._ask("GET", place, silence=min(self._session.timeout, wait + GRACE))
                if "results" in answer:
                    return answer
            except ServiceUnavailableError as error:
                is_final = error.job_id is not None or isinstance(error, InternalServerError)
                if is_final or (ends is not None and time.monotonic() + _PAUSE >= ends):
                    raise  # how the job ended, an answer that is none, or no time left to look again
                await sleep(_PAUSE)
            if ends is not None and time.monotonic() >= ends:
                message = f"the job has not ended within {timeout:g} s; it goes on"
                raise DeadlineExceededError(message, job_id=self.id)


class AsyncJob(AsyncJobHandle):
    """One call that was submitted.

    Example:
        job = await client.submit("video-to-audio", "1.0.0", "extract", {}, {"input": [url]})
        result = await job.result(timeout=600)
    """

    async def result(self, timeout: float | None = None) -> PrefabResult:
        """Wait for the end of the job; give what `run` would have given.

        Args:
            timeout: seconds to wait; None for as long as it takes. When they are over the job goes on.

        Raises:
            DeadlineExceededError: it has not ended in that time, or the job's own deadline has passed.
            RuntimeCrashedError: the process that ran the function died.
            JobNotFoundError: there is no such job, or it is someone else's.

        Example:
            result = await job.result(timeout=600)
        """
        return parse_results(await self._answer(timeout), 1)[0]


class AsyncBatchJob(AsyncJobHandle):
    """Several calls that were submitted together; each has a job of its own, too.

    Example:
        job = await client.submit_batch([PrefabCall("translator", "1.0.0", "translate", {"text": "Hello"})])
        batch = await job.result()
    """

    async def result(self, timeout: float | None = None) -> BatchResult:
        """Wait for the end of every call; give what `run_batch` would have given.

        Args:
            timeout: seconds to wait; None for as long as it takes. When they are over the job goes on.

        Raises:
            DeadlineExceededError: not all have ended in that time.
            JobNotFoundError: there is no such job, or it is someone else's.

        Example:
            batch = await job.result()
        """
        answer = await self._answer(timeout)
        return parse_batch(answer, len(answer["results"]))
