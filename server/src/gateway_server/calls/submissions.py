"""Jobs that are taken in now and run later: accepted means that nothing but their end takes them away."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection

from gateway_server.calls.dispatcher import Dispatcher, close_batch
from gateway_server.calls.inputs import RunRequest, Submission
from gateway_server.calls.jobs import Jobs, new_id
from gateway_server.calls.ledger import Ledger
from gateway_server.calls.pipeline import Pipeline
from gateway_server.calls.preparation import Ready
from gateway_server.calls.queue import Order, Queue
from gateway_server.calls.requests import RequestKey
from gateway_server.calls.standings import Standings
from gateway_server.errors import GatewayFault, Invalid, NotFound, QuotaExceeded
from gateway_server.identity import access
from gateway_server.models import Call, JobStatus, Principal
from gateway_server.store.database import Database

T = TypeVar("T")


class Accepted(NamedTuple):
    """What was taken in."""

    job_id: str
    status: JobStatus


class Submissions:
    """Takes jobs in."""

    def __init__(
        self,
        *,
        database: Database,
        pipeline: Pipeline,
        standings: Standings,
        ledger: Ledger,
        jobs: Jobs,
        queue: Queue,
        dispatcher: Dispatcher,
    ) -> None:
        self._standings = standings
        self._ledger = ledger
        self._database = database
        self._pipeline = pipeline
        self._jobs = jobs
        self._queue = queue
        self._dispatcher = dispatcher

    async def submit(
        self,
        principal: Principal,
        request: RunRequest,
        submission: Submission,
        *,
        deadline: float | Invalid | None,
        key: RequestKey | None,
    ) -> Accepted:
        """Takes in a call, or several as a batch. `deadline` is on the event loop's clock.

        Raises:
            GatewayFault: the refusal; in a batch a call that is refused is that call's result.
            AlreadyKnown: the same request has been taken before.
        """
        access.require_person(principal)
        ends = _posix(deadline)
        job_id, status = new_id(), JobStatus.QUEUED
        if len(request.calls) > 1:
            status = await self._submit_batch(principal, request, submission, job_id, deadline, ends, key)
        else:
            (call,) = request.calls
            if isinstance(call, GatewayFault):
                raise call
            ready = await self._pipeline.prepare(principal, call, deadline=deadline, is_queued=True)
            self._pipeline.check_still(ready)
            await self._write(principal, key, lambda c: self._take_in(c, ready, submission, job_id, ends, key))
        self._dispatcher.notify(principal.user)
        return Accepted(job_id, status)

    def _take_in(
        self,
        connection: Connection,
        ready: Ready,
        submission: Submission,
        job_id: str,
        ends: float | None,
        key: RequestKey | None,
        *,
        parent_id: str | None = None,
        position: int | None = None,
    ) -> None:
        self._pipeline.accept(
            connection, ready, job_id, key=key, parent_id=parent_id, position=position, status=JobStatus.QUEUED
        )
        retry = submission.retry or ready.function.retry
        order = Order(principal=ready.principal, call=ready.call, retry=retry, parent_id=parent_id)
        self._queue.add(connection, job_id, order, priority=submission.priority, deadline=ends)

    async def _submit_batch(
        self,
        principal: Principal,
        request: RunRequest,
        submission: Submission,
        batch_id: str,
        deadline: float | Invalid | None,
        ends: float | None,
        key: RequestKey | None,
    ) -> JobStatus:
        if isinstance(deadline, Invalid):
            raise deadline
        prepared = [await self._prepared(principal, call, deadline) for call in request.calls]
        prepared = [self._still(ready) for ready in prepared]
        self._pipeline.check_caller(principal)

        def work(connection: Connection) -> JobStatus:
            status = JobStatus.QUEUED
            self._jobs.open(
                connection, job_id=batch_id, principal=principal, call=None, key=key, status=status, started=False
            )
            refused: Counter[JobStatus] = Counter()
            for position, (call, ready) in enumerate(zip(request.calls, prepared, strict=True)):
                fault = ready
                if isinstance(ready, Ready):
                    try:
                        with connection.begin_nested():
                            where = {"parent_id": batch_id, "position": position}
                            self._take_in(connection, ready, submission, new_id(), ends, None, **where)  # type: ignore[arg-type]
                        continue
                    except QuotaExceeded as full:
                        fault = full
                assert isinstance(fault, GatewayFault)
                known = call if isinstance(call, Call) else None
                ended = self._jobs.refuse(connection, principal, known, fault, parent_id=batch_id, position=position)
                refused[ended] += 1
            if refused.total() == len(prepared):
                close_batch(connection, self._jobs, batch_id, refused)
            return JobStatus.FAILED if refused.total() == len(prepared) else status

        return await self._write(principal, key, work)

    async def _write(self, principal: Principal, key: RequestKey | None, work: Callable[[Connection], T]) -> T:
        """Has the database decide; it does so even if the caller hangs up meanwhile."""
        writing = self._database.hand_over(self._ledger.after(work))
        self._ledger.hold(key, writing)
        return await self._standings.decided(principal.user, writing)

    def _still(self, ready: Ready | GatewayFault) -> Ready | GatewayFault:
        try:
            if isinstance(ready, Ready):
                self._pipeline.check_still(ready)
        except NotFound as fault:
            return fault
        return ready

    async def _prepared(
        self, principal: Principal, call: Call | GatewayFault, deadline: float | None
    ) -> Ready | GatewayFault:
        if isinstance(call, GatewayFault):
            return call
        try:
            return await self._pipeline.prepare(principal, call, deadline=deadline, is_queued=True)
        except GatewayFault as fault:
            return fault


def _posix(deadline: float | Invalid | None) -> float | None:
    if deadline is None or isinstance(deadline, Invalid):
        return None
    return time.time() + deadline - asyncio.get_running_loop().time()
