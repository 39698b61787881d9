"""What a run is answered with: from how it ended, or once more from its record."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway_server.api import sse
from gateway_server.api.asgi import JSON, Headers, Reply
from gateway_server.api.faults import answer
from gateway_server.calls.events import Events
from gateway_server.calls.jobs import Job, Jobs
from gateway_server.calls.outcomes import Outcome
from gateway_server.errors import IdempotencyConflict, NotFound, from_detail
from gateway_server.models import JobStatus
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.versions import Version

Item = tuple[bytes, bytes, bytes]
"""One result as JSON text, in parts: the one in the middle may be long, and is copied once."""


def single(outcome: Outcome, version: Version) -> Reply:
    """The answer to a run of one call."""
    echo = [(b"x-job-id", outcome.job_id.encode()), *version_headers(version)]
    if outcome.fault is not None:
        status, headers, body = answer(outcome.fault, job_id=outcome.job_id)
        return Reply(status, [*headers, *echo], body)
    succeeded = outcome.result is not None
    return Reply(200, [*JSON, *echo], _reply(outcome.job_id, [item(outcome, version)], int(succeeded)))


def batch(batch_id: str, items: Sequence[Item], succeeded: int) -> Reply:
    """The answer to a run of several."""
    return Reply(200, [*JSON, (b"x-job-id", batch_id.encode())], _reply(batch_id, items, succeeded))


def version_headers(version: Version) -> Headers:
    """Which version ran; whoever asked for the latest learns it, a stream included."""
    headers = [(b"x-prefab-version", version.version.encode())]
    if version.warning() is not None:
        headers.append((b"x-prefab-warning", b"deprecated" if version.yanked is None else b"yanked"))
    return headers


def item(outcome: Outcome, version: Version | None) -> Item:
    """One result; `version` is the one that ran, if any."""
    envelope = outcome.envelope if outcome.result is not None or outcome.files else None
    error = None if outcome.result is not None else outcome.told_error()
    warning = version.warning() if version else None
    return _item(outcome.job_id, envelope, error, version.version if version else None, warning)


def _item(
    job_id: str, envelope: bytes | None, error: Mapping[str, Any] | None, version: str | None, warning: str | None
) -> Item:
    """One result; `error` is None where the call succeeded."""
    tail = b',"job_id":"' + job_id.encode() + b'"'
    if version is not None:
        tail += b',"version":"' + version.encode() + b'"'
    if warning is not None:
        tail += b',"warning":' + orjson.dumps(warning)
    status = b"SUCCESS" if error is None else b"FAILED"
    told = b"null" if error is None else orjson.dumps(error, default=str)
    return b'{"status":"' + status + b'","output":', envelope or b"null", b',"error":' + told + tail + b"}"


def _reply(job_id: str, items: Sequence[Item], succeeded: int) -> bytes:
    overall = b"COMPLETED" if 0 < succeeded == len(items) else b"PARTIAL_SUCCESS" if succeeded else b"FAILED"
    parts = [b'{"job_id":"' + job_id.encode() + b'","status":"' + overall + b'","results":[']
    for one in items:
        parts += one
        parts.append(b",")
    if items:
        parts.pop()  # the comma after the last
    parts.append(b"]}")
    return b"".join(parts)


class Recorded:
    """Gives answers again."""

    def __init__(self, jobs: Jobs, events: Events, catalogue: Catalogue) -> None:
        self._jobs = jobs
        self._events = events
        self._catalogue = catalogue

    async def reply(self, job: Job, *, stream: bool | None = False) -> Reply:
        """What the run of a job that has ended was answered with; `stream` as the request said.

        Raises:
            IdempotencyConflict: that is not kept.
        """
        if job.is_batch:
            children = await self._jobs.children_with_results(job.id)
            items = [await self.item(child) for child in children]
            return batch(job.id, items, sum(child.status is JobStatus.SUCCEEDED for child in children))
        version = await self._version(job)
        echo = [(b"x-job-id", job.id.encode()), *(version_headers(version) if version else [])]
        if stream or (stream is None and version is not None and _streams(version, job)):
            texts = await self._events.recorded(job.id)
            if len(texts) < 2:  # but the end: what came before it was too long, or is too long ago
                raise IdempotencyConflict(f"The stream of the job {job.id} is not kept: it was too long.")
            return Reply(200, [*sse.HEADERS, *echo], b"".join(map(sse.frame, texts)))
        if job.is_fault and job.error is not None:
            status, headers, body = answer(from_detail(job.error), job_id=job.id)
            return Reply(status, [*headers, *echo], body)
        succeeded = job.status is JobStatus.SUCCEEDED
        return Reply(200, [*JSON, *echo], _reply(job.id, [await self.item(job)], int(succeeded)))

    async def item(self, job: Job) -> Item:
        """One result, of a job that has ended.

        Raises:
            IdempotencyConflict: it is not kept.
        """
        if job.status is JobStatus.SUCCEEDED and job.result is None:
            raise IdempotencyConflict(
                f"The job {job.id} has ended, and its answer is not kept: it was too long, or it is too long ago."
            )
        error = None if job.status is JobStatus.SUCCEEDED else job.error or {}
        if job.started_at is None:  # it was refused: nothing ran
            return _item(job.id, job.result, error, None, None)
        version = await self._version(job)
        return _item(job.id, job.result, error, job.version, version.warning() if version else None)

    async def _version(self, job: Job) -> Version | None:
        try:
            return await self._catalogue.find(job.prefab_id or "", job.version or "")
        except NotFound:  # it has been removed since
            return None


def _streams(version: Version, job: Job) -> bool:
    function = version.manifest.function(job.function_name or "") if version.manifest else None
    return function is not None and function.streaming
