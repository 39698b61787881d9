"""Runs submitted jobs: takes them from the queue in fair turns, tries them as often as they may be, ends their records.

Users take turns, and none of them holds every place, so that a thousand jobs of one do not keep another's one waiting.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Set
from contextlib import suppress
from functools import partial

from sqlalchemy import Connection, func, select

from gateway_server.calls import events as event_log
from gateway_server.calls.attempts import Order as Attempt
from gateway_server.calls.events import Events
from gateway_server.calls.jobs import Ending, Job, Jobs
from gateway_server.calls.outcomes import Outcome, of_cancel, of_fault
from gateway_server.calls.pipeline import Pipeline
from gateway_server.calls.queue import AT_ONCE, LEASE, Leased, Queue, below
from gateway_server.calls.running import Running, RunningCalls
from gateway_server.errors import (
    DeadlineExceeded,
    GatewayFault,
    InternalError,
    Overloaded,
    QuotaExceeded,
    RuntimeCrashed,
    ServiceUnavailable,
)
from gateway_server.identity.tokens import Tokens
from gateway_server.models import JobStatus, Progress, rfc3339_at
from gateway_server.store import schema
from gateway_server.store.database import Database

MOST_INTERRUPTIONS = 10
"""Attempts that a gateway's end may cut before the job is given up: perhaps it is the job that ends the gateway."""
SHARE = 0.75
"""The part of the places that one user's jobs may take, and of the workers that jobs may take from calls."""
LOOK_EVERY = 5.0
"""Seconds after which the queue is looked at although nobody told of anything."""
SHORT_REST, LONGEST_REST = 2.0, 60.0
"""Seconds before a job is looked at again that could not even be tried."""
_WORTH_RETRYING = (RuntimeCrashed, ServiceUnavailable, Overloaded, InternalError, DeadlineExceeded)
_jobs = schema.jobs
logger = logging.getLogger("gateway")


class Dispatcher:
    """The part of a gateway that works through the queue."""

    def __init__(
        self,
        *,
        workers: int,
        database: Database,
        pipeline: Pipeline,
        queue: Queue,
        jobs: Jobs,
        events: Events,
        running: RunningCalls,
        tokens: Tokens,
    ) -> None:
        self._places = max(1, int(workers * SHARE))
        self._share = max(1, int(self._places * SHARE))
        self._database = database
        self._pipeline = pipeline
        self._queue = queue
        self._jobs = jobs
        self._events = events
        self._running = running
        self._tokens = tokens
        self._turns: dict[str, None] = {}
        """Users whose jobs may be waiting, in the order of their turns."""
        self._at_work: Counter[str] = Counter()
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._to_cancel: set[str] = set()
        self._news = asyncio.Event()
        self._look_at = 0.0
        self._loops: list[asyncio.Task[None]] = []
        self._drained_at: float | None = None

    async def start(self) -> None:
        """Takes over what a former life of this gateway left, and begins."""
        await self._queue.take_over(alone=True)
        for job_id in await self._queue.canceled():  # the word was given before the gateway died
            await self._cancel_waiting(job_id)
        self._loops = [asyncio.create_task(self._serve()), asyncio.create_task(self._beat())]

    def pause(self, seconds: float) -> None:
        """Begins nothing more; what runs may go on for so long."""
        for loop in self._loops[:1]:
            loop.cancel()
        if self._drained_at is None:
            self._drained_at = asyncio.get_running_loop().time() + seconds

    async def stop(self) -> None:
        """Waits for what runs, as long as `pause` said, and leaves the rest to the gateway's next life."""
        self.pause(0)
        assert self._drained_at is not None
        if self._attempts:
            left = self._drained_at - asyncio.get_running_loop().time()
            await asyncio.wait(list(self._attempts.values()), timeout=max(0.0, left))
        for loop in self._loops:
            loop.cancel()
        rest = list(self._attempts.values())
        for task in rest:
            task.cancel()
        await asyncio.gather(*self._loops, *rest, return_exceptions=True)

    def notify(self, user: str) -> None:
        """A job of this user may begin."""
        self._turns.setdefault(user)
        self._news.set()

    async def cancel(self, job: Job) -> bool:
        """Ends a job, or every call of a batch, wherever it stands; False if it has ended."""
        if not job.is_batch:
            return await self._cancel_one(job.id) or self._running.cancel(job.id)
        calls = await self._database.read(lambda c: below(c, job.id))
        return any([self._running.cancel(job.id), *[await self._cancel_one(call) for call in calls]])

    async def _cancel_one(self, job_id: str) -> bool:
        is_marked = await self._queue.mark_canceled(job_id)  # from here on it is not forgotten, whatever happens to us
        attempt = self._attempts.get(job_id)
        if attempt is not None:
            self._to_cancel.add(job_id)
            if not self._running.cancel(job_id):  # the attempt is just ending: what comes of it?
                await asyncio.wait([attempt])
                return await self._cancel_waiting(job_id)
            return True
        return await self._cancel_waiting(job_id) or (is_marked and await self._queue.mark_canceled(job_id))

    async def _cancel_waiting(self, job_id: str) -> bool:
        def work(connection: Connection) -> bool:
            if not self._queue.drop_waiting(connection, job_id):
                return False
            told = connection.execute(
                select(_jobs.c.attempt, _jobs.c.interruptions).where(_jobs.c.id == job_id)
            ).first()
            never_ran = told is None or told.attempt <= told.interruptions
            self._close(connection, of_cancel(job_id), refund=never_ran)
            return True

        if not await self._database.write(work):
            return False
        await self._tell_end(job_id)
        return True

    async def _serve(self) -> None:
        while True:
            try:
                if time.monotonic() >= self._look_at:
                    self._look_at = time.monotonic() + LOOK_EVERY
                    self._turns |= dict.fromkeys(await self._queue.users())
                self._news.clear()
                await self._fill()
                await self._rest()
            except Exception:  # the next round tries again; no job is lost for it
                logger.exception("the queue of jobs could not be read")
                await asyncio.sleep(1)

    async def _rest(self) -> None:
        """Waits until somebody tells of news, or it is time to look at the queue."""
        moment = await self._queue.next_moment(after=time.time())
        if moment is not None:  # a job that rests becomes free: its user may have lost the turn meanwhile
            self._look_at = min(self._look_at, time.monotonic() + max(0.05, moment - time.time()))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._look_at - time.monotonic())):
                await self._news.wait()

    async def _fill(self) -> None:
        """Gives every free place to the next in turn."""
        while len(self._attempts) < self._places and self._turns:
            user = next(iter(self._turns))
            del self._turns[user]
            if self._at_work[user] >= self._share:
                continue  # has its next turn when one of its jobs ends
            leased = await self._queue.take(user)
            if leased is None:
                continue
            self._turns.setdefault(user)  # behind the others
            self._at_work[user] += 1
            task = self._attempts[leased.job_id] = asyncio.create_task(self._attempt(leased))
            task.add_done_callback(partial(self._left, leased))

    def _left(self, leased: Leased, task: asyncio.Task[None]) -> None:
        if self._attempts.get(leased.job_id) is task:  # else the next attempt has begun already
            del self._attempts[leased.job_id]
            self._to_cancel.discard(leased.job_id)
        if not task.cancelled() and task.exception() is not None:  # it is given back when the leases are renewed
            logger.error("the job %s could not be brought to an end", leased.job_id, exc_info=task.exception())
        user = leased.order.principal.user
        self._at_work[user] -= 1
        if not self._at_work[user]:
            del self._at_work[user]
        self.notify(user)

    async def _beat(self) -> None:
        """Keeps the leases, and looks after what nobody works on."""
        strays: Set[str] = frozenset()
        while True:
            await asyncio.sleep(LEASE / 3)
            try:
                leased = await self._queue.renew()
                for job_id in (job_id for job_id, canceled in leased.items() if canceled):
                    await self._cancel_one(job_id)
                await self._free(strays & leased.keys())
                strays = leased.keys() - self._attempts.keys()
                if await self._queue.take_over(alone=False) or strays:
                    self._look_at = 0.0
                    self._news.set()
                for job_id in await self._queue.canceled():
                    await self._cancel_waiting(job_id)
                await self._expire()
            except Exception:  # as in the other loop
                logger.exception("the leases of jobs could not be renewed")

    async def _free(self, strays: Set[str]) -> None:
        """Gives jobs back that this gateway leased, and that it lost by a failure of its own."""
        for job_id in strays - self._attempts.keys():
            await self._database.write(lambda c, j=job_id: self._queue.put_back(c, j, AT_ONCE, interrupted=True))  # type: ignore[misc]

    async def _expire(self) -> None:
        """Ends what waited until its time was over."""
        for job_id in await self._queue.overdue():

            def work(connection: Connection, job_id: str = job_id) -> bool:
                if not self._queue.drop_waiting(connection, job_id):
                    return False
                begun = bool(connection.execute(select(_jobs.c.attempt).where(_jobs.c.id == job_id)).scalar())
                return self._close(connection, _over(job_id, begun=begun))

            if await self._database.write(work):
                await self._tell_end(job_id)

    async def _attempt(self, leased: Leased) -> None:
        """One attempt, from the lease to what comes of it."""
        task = asyncio.current_task()
        assert task is not None
        order = leased.order
        call = Running(
            job_id=leased.job_id,
            user=order.principal.user,
            parent_id=order.parent_id,
            caller_id=None,
            task=task,
            log=self._pipeline.new_log(),
        )
        begun = asyncio.Event()
        with self._events.written(leased.job_id):
            self._running.enter(call)
            try:
                if leased.job_id in self._to_cancel:
                    call.cancel()
                outcome = await self._try(leased, call, begun)
            except asyncio.CancelledError:
                if not call.canceled:  # the gateway stops
                    await asyncio.shield(self._put_back(leased, call, 0, interrupted=True))
                    raise
                task.uncancel()
                outcome = of_cancel(leased.job_id)
            finally:
                self._running.leave(call)
        await asyncio.shield(self._conclude(leased, call, outcome, begun.is_set()))
        if leased.job_id in self._to_cancel:  # it may have come too late for this attempt, and the job wait for another
            await self._cancel_waiting(leased.job_id)

    async def _try(self, leased: Leased, call: Running, begun: asyncio.Event) -> Outcome:
        if leased.interruptions >= MOST_INTERRUPTIONS:
            text = f"The gateway ended {leased.interruptions} times during this job; it is not tried again."
            return of_fault(leased.job_id, RuntimeCrashed(text))
        moment = time.time()
        if leased.deadline is not None and leased.deadline <= moment:
            return _over(leased.job_id, begun=leased.attempt > 1)
        clock = asyncio.get_running_loop().time()
        deadline = None if leased.deadline is None else clock + leased.deadline - moment
        try:
            self._tokens.check(leased.order.principal)
            ready = await self._pipeline.prepare(
                leased.order.principal, leased.order.call, deadline=deadline, is_charged=True
            )
            ready = await self._pipeline.begin(ready, leased.job_id)
        except GatewayFault as fault:
            return of_fault(leased.job_id, fault)

        async def emit(events: list[Progress]) -> None:
            for event in events:
                await self._events.append(leased.job_id, event.json)

        async def running() -> None:
            begun.set()
            await self._events.append(leased.job_id, event_log.started(leased.job_id, leased.attempt))
            await self._database.write(
                lambda c: self._jobs.set_status(c, leased.job_id, JobStatus.RUNNING), durable=False
            )

        attempt = Attempt(attempt=leased.attempt, fold=True)
        return await self._pipeline.attempt(ready, call, emit=emit, order=attempt, begun=running)

    async def _conclude(self, leased: Leased, call: Running, outcome: Outcome, begun: bool) -> None:
        """Tries again, where that is to be, or ends the job."""
        await self._events.settle(leased.job_id)
        fault = outcome.fault
        if not begun and call.began is None and isinstance(fault, ServiceUnavailable | Overloaded | QuotaExceeded):
            # Nothing was tried: it waits for a place, for run time, or for what does not answer.
            await self._put_back(leased, call, min(fault.retry_after or SHORT_REST, LONGEST_REST), untried=True)
            return
        rest = None
        if leased.interruptions < MOST_INTERRUPTIONS and _is_worth_retrying(outcome):
            rest = leased.order.retry.wait(leased.attempt - leased.interruptions)
        if rest is not None and (leased.deadline is None or time.time() + rest < leased.deadline):
            await self._put_back(leased, call, rest, failed=outcome)
            return
        log, ran = call.log.read(call.masker), call.ran()
        is_first = leased.attempt - leased.interruptions <= 1
        refund = outcome.canceled and call.began is None and is_first  # nothing has run but what we cut

        def work(connection: Connection) -> bool:
            if not self._queue.drop(connection, leased.job_id):
                return False
            return self._close(connection, outcome, log, ran=ran, refund=refund)

        if await self._database.write(work):
            await self._tell_end(leased.job_id)

    async def _put_back(
        self,
        leased: Leased,
        call: Running,
        rest: float,
        *,
        interrupted: bool = False,
        untried: bool = False,
        failed: Outcome | None = None,
    ) -> None:
        """Gives a job back to the queue, to be tried again after `rest` seconds."""
        await self._events.settle(leased.job_id)
        log, at, ran = call.log.read(call.masker), time.time() + rest, call.ran()
        body = None
        if failed is not None:
            body = event_log.retried(failed.told_error(), leased.attempt, rfc3339_at(at))

        def work(connection: Connection) -> int | None:
            if not self._queue.put_back(connection, leased.job_id, at if rest else AT_ONCE, interrupted=interrupted):
                return None
            if untried:
                self._jobs.take_attempt_back(connection, leased.job_id)
            self._pipeline.pause(connection, leased.job_id, ran)
            self._jobs.keep_log(connection, leased.job_id, log)
            return event_log.store(connection, leased.job_id, body) if body else None

        first = await self._database.write(work)
        if first is not None and body is not None:
            self._events.told(leased.job_id, first, body, ends=False)

    def _close(
        self, connection: Connection, outcome: Outcome, log: bytes = b"", *, ran: float = 0.0, refund: bool = False
    ) -> bool:
        """Ends a job, and with the last of its calls the batch, within the transaction that takes it from the queue."""
        row = connection.execute(select(_jobs).where(_jobs.c.id == outcome.job_id)).first()
        if row is None or not self._pipeline.close(connection, outcome, log, ran=ran, is_submitted=True, refund=refund):
            return False
        event_log.store(connection, outcome.job_id, event_log.ended(outcome), ends=True)
        if row.parent_id is not None:
            self._close_batch(connection, row.parent_id, outcome)
        return True

    def _close_batch(self, connection: Connection, batch_id: str, latest: Outcome) -> None:
        counts = connection.execute(
            select(_jobs.c.status, func.count()).where(_jobs.c.parent_id == batch_id).group_by(_jobs.c.status)
        ).all()
        done = {JobStatus(status): count for status, count in counts if JobStatus(status).is_final}
        total = sum(count for _, count in counts)
        event_log.store(connection, batch_id, event_log.advanced(latest, sum(done.values()), total))
        if sum(done.values()) == total:
            close_batch(connection, self._jobs, batch_id, done)

    async def _tell_end(self, job_id: str) -> None:
        """Wakes whoever follows a job that has ended, or the batch that it belongs to."""
        self._events.ended(job_id)
        parent = await self._database.read(
            lambda c: c.execute(select(_jobs.c.parent_id).where(_jobs.c.id == job_id)).scalar()
        )
        if parent is not None:
            self._events.ended(parent)


def _over(job_id: str, *, begun: bool) -> Outcome:
    """The end of a job whose time was over while nobody was at it."""
    when = "between two attempts" if begun else "before it began"
    return of_fault(job_id, DeadlineExceeded(f"The job's time was over {when}."), begun=begun)


def _is_worth_retrying(outcome: Outcome) -> bool:
    return (outcome.error is not None and not outcome.canceled) or isinstance(outcome.fault, _WORTH_RETRYING)


def close_batch(connection: Connection, jobs: Jobs, batch_id: str, done: dict[JobStatus, int]) -> None:
    """Ends a batch whose calls have ended, so many in each way."""
    status = JobStatus.SUCCEEDED if JobStatus.SUCCEEDED in done else JobStatus.FAILED
    if set(done) == {JobStatus.CANCELED}:
        status = JobStatus.CANCELED
    jobs.close(connection, batch_id, Ending(status=status))
    event_log.store(connection, batch_id, event_log.summed_up(done), ends=True)
