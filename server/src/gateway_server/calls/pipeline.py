"""What happens to one call, from its arguments to its record: prepared, admitted, tried, recorded."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from gateway_server.calls.attempts import Attempts, Emit
from gateway_server.calls.events import Events, store
from gateway_server.calls.jobs import KEPT_RESULT, Ending, Jobs
from gateway_server.calls.ledger import Ledger
from gateway_server.calls.logs import Log
from gateway_server.calls.outcomes import Outcome, of_cancel
from gateway_server.calls.preparation import Preparation, Ready
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.records import Opening
from gateway_server.calls.requests import RequestKey
from gateway_server.calls.running import Running, RunningCalls
from gateway_server.calls.standings import Standings
from gateway_server.errors import InternalError, Overloaded, ServiceUnavailable
from gateway_server.models import JobStatus, Principal
from gateway_server.store.database import Database

Transcript = Callable[[Outcome], Sequence[bytes]]
_OURS = (ServiceUnavailable, Overloaded, InternalError)


class Pipeline:
    """Takes calls from one step to the next."""

    def __init__(
        self,
        *,
        log_limit: int,
        database: Database,
        preparation: Preparation,
        attempts: Attempts,
        quotas: Quotas,
        jobs: Jobs,
        events: Events,
        running: RunningCalls,
        ledger: Ledger,
        standings: Standings,
    ) -> None:
        self._ledger = ledger
        self._standings = standings
        self.prepare = preparation.prepare
        self.check_still = preparation.check_still
        self.check_caller = preparation.check_caller
        self.attempt: Callable[..., Awaitable[Outcome]] = attempts.make
        self.new_log: Callable[[], Log] = lambda: Log(log_limit)
        """Where what a call prints goes."""
        self._database = database
        self._quotas = quotas
        self._jobs = jobs
        self._events = events
        self._running = running

    def tell(self, told: Callable[[Ready, Running, Outcome], None]) -> None:
        """Has `told` hear of each attempt that is over, from now on."""
        attempt = self.attempt

        async def telling(ready: Ready, call: Running, **options: Any) -> Outcome:
            outcome = await attempt(ready, call, **options)
            told(ready, call, outcome)
            return outcome

        self.attempt = telling

    async def admit(
        self,
        ready: Ready,
        job_id: str,
        *,
        key: RequestKey | None = None,
        parent_id: str | None = None,
        position: int | None = None,
        is_told: bool = False,
    ) -> Ready:
        """Charges the quota and opens the record: from here on the call counts. The call that it gives
        ends earlier where less run time is left to the user. `is_told` says that the caller hears the id of the job
        before its end.

        Raises:
            AlreadyKnown: the same request has been admitted before.
            IdempotencyConflict: the key came with another request.
            Unauthenticated: the user has been disabled or deleted meanwhile.
            NotFound: the version has been removed meanwhile.
            QuotaExceeded: another call took the last place meanwhile.
            ServiceUnavailable: nothing can be recorded at the moment.
        """
        self.check_still(ready)
        if key is None or await self._ledger.is_new(key, self._jobs.knows):
            if key is not None:
                self.check_still(ready)  # there was a wait
            if self._begins(ready, job_id, key, parent_id, position, is_told):
                return ready
        moment = asyncio.get_running_loop().time()
        wanted = max(ready.deadline - moment, 0.0)

        def work(connection: Connection) -> float:
            return self.accept(
                connection, ready, job_id, key=key, parent_id=parent_id, position=position, seconds=wanted
            )

        def undo(connection: Connection) -> None:
            outcome = of_cancel(job_id, "The caller hung up before the function began.")
            self.close(connection, outcome, forget_key=True, refund=True)

        try:
            writing = self._database.hand_over(self._ledger.after(work), durable=False)
            self._ledger.hold(key, writing)
            seconds = await self._standings.decided(ready.principal.user, writing)
        except asyncio.CancelledError:
            # That write is on its way and cannot be called back; this one is behind it, and finds what it did.
            await asyncio.shield(self._database.write(undo, durable=False))
            raise
        return replace(ready, deadline=min(ready.deadline, moment + seconds))

    def _begins(
        self,
        ready: Ready,
        job_id: str,
        key: RequestKey | None,
        parent_id: str | None,
        position: int | None,
        is_told: bool,
    ) -> bool:
        """Begins a new call without the database, if it is far from every limit; says whether it did."""
        principal, call = ready.principal, ready.call
        if not self._standings.still_has_room(principal):
            return False
        opening = Opening(  # by position: this is done for every call
            job_id,
            parent_id,
            position,
            principal.root_job_id or parent_id or job_id,
            principal.depth,
            principal.user,
            principal.agent,
            principal.key_id,
            call.prefab_id,
            call.version,
            call.function_name,
            key.key if key is not None else None,
            key.digest if key is not None else None,
            time.time(),
        )
        if not self._ledger.begin(opening, is_told=is_told):
            return False
        self._standings.charge(principal.user)
        return True

    async def open_batch(self, principal: Principal, batch_id: str, key: RequestKey | None) -> None:
        """Opens the record of a batch, whose calls are admitted one by one.

        Raises:
            AlreadyKnown: the same request has been admitted before.
            IdempotencyConflict: the key came with another request.
            Unauthenticated: the user has been disabled or deleted while the request came in.
        """
        is_below = principal.job_id is not None or principal.tree_id is not None  # the database counts those
        is_new = not is_below and (key is None or await self._ledger.is_new(key, self._jobs.knows))
        self.check_caller(principal)
        if is_new:
            opening = Opening(
                id=batch_id,
                parent_id=None,
                position=None,
                root_id=batch_id,
                depth=principal.depth,
                user=principal.user,
                agent=principal.agent,
                key_id=principal.key_id,
                prefab_id=None,
                version=None,
                function_name=None,
                request_key=key.key if key is not None else None,
                request_digest=key.digest if key is not None else None,
                created_at=time.time(),
            )
            if self._ledger.begin(opening, is_told=True):  # its calls name it in their records
                return

        def work(connection: Connection) -> None:
            self._jobs.open(connection, job_id=batch_id, principal=principal, call=None, key=key)

        try:
            writing = self._database.hand_over(self._ledger.after(work), durable=False)
            self._ledger.hold(key, writing)
            await writing
        except asyncio.CancelledError:  # that write cannot be called back, so the record has to be closed
            await asyncio.shield(self.close_batch(batch_id, JobStatus.CANCELED))
            raise

    async def close_batch(self, batch_id: str, status: JobStatus) -> None:
        """Records that all calls of a batch have ended."""
        ending = Ending(status=status, forget_key=status is JobStatus.CANCELED)
        if not self._ledger.has_begun(batch_id):
            await self._database.write(lambda c: self._jobs.close(c, batch_id, ending), durable=False)
        elif not self._ledger.end(batch_id, ending, charged=True, events=b""):
            await self._ledger.written(batch_id)
        self._events.ended(batch_id)

    async def begin(self, ready: Ready, job_id: str) -> Ready:
        """Reserves run time and a place for an attempt at a job that was charged before, as `admit` does.

        Raises:
            QuotaExceeded: there is none now.
        """
        moment = asyncio.get_running_loop().time()
        wanted = max(ready.deadline - moment, 0.0)
        work = lambda c: self._quotas.begin(c, ready.principal, job_id, wanted)  # noqa: E731
        return replace(ready, deadline=min(ready.deadline, moment + await self._database.write(work, durable=False)))

    def pause(self, connection: Connection, job_id: str, ran: float) -> None:
        """Settles the run time of an attempt, in seconds, within the transaction that puts its job back."""
        self._quotas.settle(connection, job_id, seconds=ran)

    def accept(
        self,
        connection: Connection,
        ready: Ready,
        job_id: str,
        *,
        key: RequestKey | None,
        parent_id: str | None = None,
        position: int | None = None,
        status: JobStatus = JobStatus.RUNNING,
        seconds: float | None = None,
    ) -> float:
        """Opens the record and charges the quota, within a transaction; a request that comes again is not charged.
        Gives how long the call may run, which would like to run for `seconds`, or None where it only waits."""
        moment = time.time()
        self._jobs.open(
            connection,
            job_id=job_id,
            principal=ready.principal,
            call=ready.call,
            parent_id=parent_id,
            position=position,
            key=key,
            status=status,
            started=status is not JobStatus.QUEUED,
            charged_at=moment,
        )
        return self._quotas.reserve(connection, ready.principal, job_id, moment, seconds)

    async def run(
        self,
        ready: Ready,
        job_id: str,
        *,
        emit: Emit | None = None,
        transcript: Transcript | None = None,
        parent_id: str | None = None,
    ) -> Outcome:
        """Runs an admitted call to its end and closes its record; events go to `emit` where a stream is wanted, and
        what `transcript` gives of them is stored with the record."""
        task = asyncio.current_task()
        assert task is not None
        call = Running(
            job_id=job_id,
            user=ready.principal.user,
            parent_id=parent_id,
            caller_id=ready.principal.job_id,
            task=task,
            log=self.new_log(),
        )
        self._running.enter(call)
        try:
            outcome = await self.attempt(ready, call, emit=emit)
        except asyncio.CancelledError:
            outcome = of_cancel(job_id)
            await asyncio.shield(self._record(ready, call, outcome))
            if not call.canceled:
                raise
            task.uncancel()
            return outcome
        finally:
            self._running.leave(call)
        await self._record(ready, call, outcome, transcript)
        return outcome

    async def _record(
        self, ready: Ready, call: Running, outcome: Outcome, transcript: Transcript | None = None
    ) -> None:
        log, told = call.log.read(call.masker), b"\n".join(transcript(outcome)) if transcript else b""
        ending, is_ours = _ending(outcome, log, forget_key=_runs_anew(outcome)), _is_ours(outcome)
        if self._ledger.has_begun(call.job_id):
            if not self._ledger.end(call.job_id, ending, charged=not is_ours, events=told):
                await self._ledger.written(call.job_id)
        else:
            ran = call.ran()

            def work(connection: Connection) -> None:
                self._close(connection, outcome, ending, ran=ran, refund=is_ours)
                if told:
                    store(connection, call.job_id, told, ends=True)

            await self._database.write(work, durable=False)
        self._events.ended(call.job_id)

    def close(
        self,
        connection: Connection,
        outcome: Outcome,
        log: bytes = b"",
        *,
        ran: float = 0.0,
        forget_key: bool = False,
        is_submitted: bool = False,
        refund: bool = False,
    ) -> bool:
        """Records, within a transaction, how a call ended, and takes the charge back where it never began (`refund`) or
        the end was ours; `ran` are its seconds with a worker. False if it has ended before."""
        ending = _ending(outcome, log, is_kept_whole=is_submitted, forget_key=forget_key)
        return self._close(connection, outcome, ending, ran=ran, refund=refund or _is_ours(outcome))

    def _close(self, connection: Connection, outcome: Outcome, ending: Ending, *, ran: float, refund: bool) -> bool:
        if not self._jobs.close(connection, outcome.job_id, ending):
            return False
        self._quotas.settle(connection, outcome.job_id, seconds=ran, refund=refund)
        return True


def _ending(outcome: Outcome, log: bytes, *, is_kept_whole: bool = False, forget_key: bool) -> Ending:
    ok = outcome.result is not None
    is_short = outcome.result is None or len(outcome.result) <= KEPT_RESULT
    return Ending(  # by position: this is done for every call
        outcome.status,
        None if ok else outcome.told_error(),
        outcome.fault is not None,
        outcome.envelope if (ok or outcome.files) and (is_kept_whole or is_short) else None,
        log,
        is_kept_whole,
        forget_key,
    )


def _is_ours(outcome: Outcome) -> bool:
    """Whether the end was no fault of the call, so that nobody is charged for it."""
    return outcome.fault is not None and isinstance(outcome.fault, _OURS)


def _runs_anew(outcome: Outcome) -> bool:
    """Whether the same request, sent again, is not answered with this: nobody waited, or the fault was ours."""
    return outcome.canceled or (outcome.fault is not None and outcome.fault.status == 503)
