"""Submitting over HTTP: what is accepted here is run whether anybody waits for it or not."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway_server.api.asgi import JSON, Receive, Reply, Send, send_reply
from gateway_server.api.asking import Deadline, Preference, read_deadline, read_headers
from gateway_server.api.auth import Authenticator
from gateway_server.api.faults import send_fault
from gateway_server.api.intake import HungUp, Intake
from gateway_server.api.replies import Recorded
from gateway_server.calls.events import Events
from gateway_server.calls.inputs import RunRequest, Submission, parse_run, parse_submission
from gateway_server.calls.jobs import Jobs
from gateway_server.calls.requests import AlreadyKnown, RequestKey, request_key
from gateway_server.calls.submissions import Accepted, Submissions
from gateway_server.errors import GatewayFault, MethodNotAllowed, ServiceUnavailable
from gateway_server.models import JobStatus, Principal
from gateway_server.settings import Settings

PATH = "/v1/jobs"


class Submitting:
    """An ASGI application for `PATH` without GET, and the part of the run routes for callers who prefer a job."""

    def __init__(
        self,
        *,
        settings: Settings,
        authenticator: Authenticator,
        submissions: Submissions,
        jobs: Jobs,
        events: Events,
        recorded: Recorded,
        intake: Intake,
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._submissions = submissions
        self._jobs = jobs
        self._events = events
        self._recorded = recorded
        self._intake = intake

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One submission."""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(scope["path"], scope["method"], ["GET", "POST"])
            headers = read_headers(scope)
            principal = await self._authenticator.identify(headers, scope.get("client"))
            async with self._intake.body(receive, principal.user) as body:
                job = await self._take(principal, headers, body)
                await send_reply(_accepted(*job), send)
        except GatewayFault as fault:
            await send_fault(fault, send)
        except HungUp:
            return

    async def _take(self, principal: Principal, headers: Mapping[str, str], body: bytes) -> Accepted:
        settings = self._settings
        deadline = read_deadline(headers.get("cancel-after"))
        key = request_key(principal, headers.get("idempotency-key"), b"submit", body)
        request, submission = parse_submission(
            body, size_limit=settings.request_limit, batch_limit=settings.batch_limit
        )
        return await self._submit(principal, request, submission, deadline, key)

    async def run(
        self,
        principal: Principal,
        body: bytes,
        deadline: Deadline,
        key: RequestKey | None,
        preference: Preference,
    ) -> Reply:
        """A run whose caller takes a job for an answer: the answer itself if there is one soon enough.

        Raises:
            GatewayFault: the refusal.
        """
        settings = self._settings
        request = parse_run(body, size_limit=settings.request_limit, batch_limit=settings.batch_limit)
        job_id, status = await self._submit(principal, request, Submission(), deadline, key)
        if preference.wait and await self._ends(job_id, preference.wait):
            return await self._recorded.reply(await self._jobs.find(job_id, principal))
        return _accepted(job_id, status, (b"preference-applied", b"respond-async"))

    async def _ends(self, job_id: str, seconds: float) -> bool:
        """Whether a job ends soon enough. Where the gateway stops first, the job goes on in its next life: a refusal
        would have callers send it once more."""
        try:
            return await self._events.wait_for_end(job_id, seconds)
        except ServiceUnavailable:
            return False

    async def _submit(
        self,
        principal: Principal,
        request: RunRequest,
        submission: Submission,
        deadline: Deadline,
        key: RequestKey | None,
    ) -> Accepted:
        """The job of this request: a new one, or the one that it began when it came before."""
        try:
            return await self._submissions.submit(principal, request, submission, deadline=deadline, key=key)
        except AlreadyKnown as known:
            job = await self._jobs.find(known.job_id, principal)
        except GatewayFault:  # perhaps it was not refused when it came for the first time
            found = None if key is None else await self._jobs.find_by_key(key)
            if found is None:
                raise
            job = found
        return Accepted(job.id, job.status)


def _accepted(job_id: str, status: JobStatus, *headers: tuple[bytes, bytes]) -> Reply:
    body = orjson.dumps({"job_id": job_id, "status": status})
    place = f"/v1/jobs/{job_id}".encode()
    return Reply(202, [*JSON, (b"location", place), (b"x-job-id", job_id.encode()), *headers], body)
