"""Jobs over HTTP: look one up, read its log, list them, cancel one. Submitting and events are served elsewhere."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from gateway_server.api.auth import Identify
from gateway_server.api.exchange import Exchanges
from gateway_server.api.paths import REST
from gateway_server.api.replies import Recorded
from gateway_server.calls.dispatcher import Dispatcher
from gateway_server.calls.events import Events
from gateway_server.calls.jobs import Job, Jobs, is_id
from gateway_server.calls.requests import place
from gateway_server.calls.running import RunningCalls
from gateway_server.errors import Invalid, JobNotFound, Problem
from gateway_server.identity import access
from gateway_server.models import JobStatus, Principal, Scope, rfc3339_at

LONGEST_WAIT = 60.0
WAIT = Query(0, ge=0, le=LONGEST_WAIT, description="Seconds to wait for its end.")


class JobModel(BaseModel):
    """A job as its owner sees it."""

    id: str
    status: JobStatus
    prefab_id: str | None
    version: str | None
    function_name: str | None
    created_at: str
    started_at: str | None
    ended_at: str | None
    attempt: int
    """How many attempts have begun."""
    interruptions: int
    """How many of them were cut by the end of a gateway."""
    user: str
    agent: str | None
    parent_id: str | None
    root_id: str
    charged: bool
    """Whether it counts among the calls of its user; a refusal does not, nor a failure of the gateway."""
    result: Any = None
    error: dict[str, Any] | None = None
    children: list["JobModel"] | None = None
    """The calls of a batch."""


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobModel]
    next_cursor: str | None = None


class Accepted(BaseModel):
    """A job that has not ended."""

    job_id: str
    status: JobStatus


class CancelAnswer(BaseModel):
    """What a cancel found."""

    job_id: str
    status: JobStatus
    canceled: bool
    """Whether anything was still running."""


def routes(
    *,
    jobs: Jobs,
    running: RunningCalls,
    dispatcher: Dispatcher,
    events: Events,
    recorded: Recorded,
    exchanges: Exchanges,
    identify: Identify,
) -> APIRouter:
    """The routes of jobs."""
    router = APIRouter(tags=["jobs"])
    caller: Principal = Depends(identify)

    @router.get("/v1/jobs", response_model=JobPage, response_model_exclude_none=False)
    async def list_jobs(
        principal: Principal = caller,
        status: JobStatus | None = None,
        prefab_id: str | None = None,
        cursor: Annotated[str | None, Query(description="`next_cursor` of the answer before.")] = None,
        limit: int = Query(50, ge=1, le=1000),
        all_users: bool = False,
        user: Annotated[str | None, Query(description="For an admin: whose jobs are meant.")] = None,
    ) -> JobPage:
        """Jobs of the caller; of everybody for an admin who says so. Calls of a batch stand in the batch."""
        whose = access.acting_caller(principal, user)
        if all_users:
            access.require_scope(principal, Scope.ADMIN)
        found = await jobs.list(
            None if all_users else whose,
            key_id=access.only_key(principal),
            status=status,
            prefab_id=prefab_id,
            before=_last_seen(cursor),
            limit=limit + 1,
        )
        page = found[:limit]
        return JobPage(jobs=[_model(job) for job in page], next_cursor=page[-1].id if len(found) > limit else None)

    @router.get("/v1/jobs/{job_id}", response_model=JobModel, response_model_exclude_none=False)
    async def get_job(
        job_id: str,
        principal: Principal = caller,
        wait: float = WAIT,
    ) -> Response:
        """A job; one that succeeded carries its result while that is kept."""
        job = await jobs.find(job_id, principal)
        if wait and job.ended_at is None:
            await events.wait_for_end(job_id, wait)
            job = await jobs.find(job_id, principal)
        model = _model(job)
        if job.is_batch:
            model.children = [_model(child) for child in await jobs.children(job_id)]
        # The result goes out as the text that came in: reading it would change large numbers and fail at deep nesting.
        rest = model.model_dump_json(exclude={"result"}).encode()
        body = rest[:-1] + b',"result":' + (job.result or b"null") + b"}"
        return Response(body, media_type="application/json")

    @router.get(
        "/v1/jobs/{job_id}/result",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/RunAnswer"}}}},
            202: {"model": Accepted, "description": "It has not ended."},
        },
    )
    async def get_result(job_id: str, principal: Principal = caller, wait: float = WAIT) -> Response:
        """What a run would have been answered with: results, or an error; 202 while the job has not ended."""
        job = await jobs.find(job_id, principal)
        if wait and job.ended_at is None and await events.wait_for_end(job_id, wait):
            job = await jobs.find(job_id, principal)
        if job.ended_at is None:
            accepted = Accepted(job_id=job.id, status=job.status)
            return Response(accepted.model_dump_json(), 202, media_type="application/json")
        status, headers, body = await recorded.reply(job)
        return Response(body, status, {name.decode(): value.decode() for name, value in headers})

    _add_logs(router, jobs, running, caller)
    _add_cancel(router, jobs, running, dispatcher, exchanges, caller)
    return router


def _add_logs(router: APIRouter, jobs: Jobs, running: RunningCalls, caller: Principal) -> None:
    @router.get("/v1/jobs/{job_id}/logs", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def get_logs(job_id: str, principal: Principal = caller) -> Response:
        """What the functions of a job printed, with their secrets masked."""
        await jobs.find(job_id, principal)
        live = running.find(job_id)
        body = await jobs.log(job_id)
        if live is not None and running.find(job_id) is None:  # it ended meanwhile, and its output has been stored
            live, body = None, await jobs.log(job_id)
        if live is not None:
            body += live.log.read(live.masker)
        return Response(body, media_type="text/plain; charset=utf-8", headers={"x-content-type-options": "nosniff"})


def _add_cancel(
    router: APIRouter,
    jobs: Jobs,
    running: RunningCalls,
    dispatcher: Dispatcher,
    exchanges: Exchanges,
    caller: Principal,
) -> None:
    job_id_or_key = f"/v1/jobs/{{job_id{REST}}}"  # there may be slashes in a key

    @router.post(f"{job_id_or_key}/cancel", response_model=CancelAnswer)
    @router.delete(job_id_or_key, response_model=CancelAnswer)
    async def cancel_job(job_id: str, principal: Principal = caller) -> CancelAnswer:
        """Ends a job with everything below it; one that has ended stays as it is.

        In the place of its id, a request may be named by its Idempotency-Key.
        """
        live = exchanges.cancel(principal, job_id)
        known = live.job_id if live is not None else ""
        is_over = CancelAnswer(job_id=known or job_id, status=JobStatus.CANCELED, canceled=True)
        if live is not None and (live.job_id or principal.job_id is not None):
            return is_over
        if principal.job_id is not None:  # code inside a call may end what it began, and look at nothing
            call = running.find(job_id)
            if call is None or not access.may_end_call(principal, call.caller_id):
                raise JobNotFound(f"There is no running job {job_id[:60]} of this call.")
            return CancelAnswer(job_id=job_id, status=JobStatus.CANCELED, canceled=running.cancel(job_id))
        job = await jobs.find_by_place(place(principal, job_id))  # a run may wait for a job that it did not begin
        if job is None and live is not None:
            return is_over
        job = job or await jobs.find(job_id, principal)
        canceled = await dispatcher.cancel(job) or live is not None
        if not canceled:
            job = await jobs.find(job.id, principal)
        if canceled and job.user != principal.user:
            await jobs.record_cancel(job, principal)
        return CancelAnswer(job_id=job.id, status=JobStatus.CANCELED if canceled else job.status, canceled=canceled)


def _last_seen(cursor: str | None) -> str | None:
    """The id of the last job of the part before, which may have been forgotten since.

    Raises:
        Invalid: the cursor is no id of a job.
    """
    if cursor and not is_id(cursor):
        message = "The cursor does not belong to this listing; begin again without one."
        raise Invalid(message, [Problem("/cursor", message)])
    return cursor or None


def _model(job: Job) -> JobModel:
    return JobModel(
        id=job.id,
        status=job.status,
        prefab_id=job.prefab_id,
        version=job.version,
        function_name=job.function_name,
        created_at=_moment(job.created_at) or "",
        started_at=_moment(job.started_at),
        ended_at=_moment(job.ended_at),
        attempt=job.attempt,
        interruptions=job.interruptions,
        user=job.user,
        agent=job.agent,
        parent_id=job.parent_id,
        root_id=job.root_id,
        error=job.error,
        charged=job.charged,
    )


def _moment(posix: float | None) -> str | None:
    return None if posix is None else rfc3339_at(posix)
