"""What the gateway in memory answers about jobs, from their records."""

from __future__ import annotations

from typing import Any

from .feed import Feed
from .job import Job
from .wire import Answer, error_answer, json_answer

_EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


def run_answer(job: Job) -> Answer:
    """What the run of a job that has ended is answered with.

    Raises:
        GatewayError: where no answer tells a client of how it ended.
        KeyboardInterrupt: the function raised one.
    """
    for one in (job, *job.children):
        if one.interrupt is not None:
            raise one.interrupt
    headers = _headers(job)
    if job.outcome is not None and job.outcome.fault is not None:
        answer = error_answer(job.outcome.fault, job.id)
        answer.headers |= headers
        return answer
    results = [_result(one) for one in (job.children if job.is_batch else [job])]
    good = sum(result["status"] == "SUCCESS" for result in results)
    status = "COMPLETED" if good == len(results) else "PARTIAL_SUCCESS" if good else "FAILED"
    return json_answer({"job_id": job.id, "status": status, "results": results}, headers=headers)


def stream_answer(job: Job) -> Answer:
    """The events of a run as they come."""
    return Answer(200, {**_EVENTS, **_headers(job)}, Feed(job, is_numbered=False))


def events_answer(job: Job, after: int) -> Answer:
    """The events of a job behind the first `after`, with their numbers."""
    return Answer(200, dict(_EVENTS), Feed(job, after, is_numbered=True))


def _headers(job: Job) -> dict[str, str]:
    headers = {"x-job-id": job.id}
    if "version" in job.about:
        headers["x-prefab-version"] = job.about["version"]
    if "warning" in job.about:
        headers["x-prefab-warning"] = "deprecated"
    return headers


def _result(job: Job) -> dict[str, Any]:
    outcome = job.outcome
    assert outcome is not None, "a result is asked for of what has ended"
    status = "SUCCESS" if outcome.succeeded else "FAILED"
    return {
        "status": status,
        "output": outcome.envelope,
        "error": outcome.told_error,
        "job_id": job.id,
        **job.about,
    }


def model(job: Job, user: str, agent: str | None) -> dict[str, Any]:
    """The record of a job as its owner sees it."""
    outcome, call = job.outcome, job.call
    return {
        "id": job.id,
        "status": job.status,
        "prefab_id": call.prefab_id if call else None,
        "version": call.version if call else None,
        "function_name": call.function_name if call else None,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "attempt": job.attempt,
        "interruptions": 0,
        "user": user,
        "agent": agent,
        "parent_id": job.parent.id if job.parent else None,
        "root_id": job.parent.id if job.parent else job.id,
        "charged": job.started_at is not None and not job.is_batch,
        "error": outcome.told_error if outcome else None,
        "children": [model(child, user, agent) | {"result": None} for child in job.children] if job.is_batch else None,
        "result": outcome.envelope if outcome else None,
    }
