"""The run routes, served before the web framework: the one path on which every microsecond is somebody's."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

from sqlalchemy import Connection

from gateway_server.api import replies, sse
from gateway_server.api.asgi import Receive, Reply, Send, send_reply
from gateway_server.api.asking import Deadline, Preference, read_deadline, read_headers, read_preference
from gateway_server.api.auth import Authenticator
from gateway_server.api.direct import Direct
from gateway_server.api.exchange import Exchange, Exchanges
from gateway_server.api.faults import logger, send_fault, unexpected
from gateway_server.api.intake import HungUp, Intake
from gateway_server.api.replies import Recorded
from gateway_server.api.submitting import Submitting
from gateway_server.calls.events import Events
from gateway_server.calls.inputs import RunRequest, parse_run
from gateway_server.calls.jobs import Jobs, new_id
from gateway_server.calls.outcomes import Outcome, of_fault
from gateway_server.calls.pipeline import Pipeline
from gateway_server.calls.preparation import Ready
from gateway_server.calls.requests import AlreadyKnown, RequestKey, request_key
from gateway_server.calls.running import RunningCalls
from gateway_server.errors import Canceled, DeadlineExceeded, GatewayFault, Invalid, MethodNotAllowed
from gateway_server.models import Call, JobStatus, Principal, Progress
from gateway_server.settings import Settings
from gateway_server.store.database import Database

PATHS = frozenset({"/v1/internal/run", "/v1/run"})
START_AFTER = 0.05
"""Seconds after which a stream says start by itself, if the function has not said so."""
LOOK_EVERY = 5.0
Item = tuple[replies.Item, bool]
"""One result of a batch, and whether it is a success."""


class RunRoutes:
    """An ASGI application for the paths of `PATHS`, method POST."""

    def __init__(
        self,
        *,
        settings: Settings,
        authenticator: Authenticator,
        pipeline: Pipeline,
        jobs: Jobs,
        events: Events,
        running: RunningCalls,
        database: Database,
        exchanges: Exchanges,
        recorded: Recorded,
        submitting: Submitting,
        intake: Intake,
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._pipeline = pipeline
        self._jobs = jobs
        self._events = events
        self._running = running
        self._database = database
        self._exchanges = exchanges
        self._recorded = recorded
        self._submitting = submitting
        self._intake = intake

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(scope["path"], scope["method"], ["POST"])
            headers = read_headers(scope)
            principal = await self._authenticator.identify(headers, scope.get("client"))
            async with self._intake.body(receive, principal.user) as body:
                await self._serve(principal, headers, body, receive, send)
        except GatewayFault as fault:
            await send_fault(fault, send)
        except HungUp:
            return

    def direct(self, request: Direct) -> None:
        """One request that its connection answers itself."""
        try:
            principal = self._authenticator.recall(request.headers)
            if principal is None or "prefer" in request.headers:
                request.attend(asyncio.create_task(self._introduce(request, principal)))
            else:
                request.follow(self._exchange(principal, request.headers, request.body))
        except GatewayFault as fault:
            request.refuse(fault)
        except Exception:  # a mistake of ours must not leave the caller waiting
            logger.exception("unexpected error before a run")
            request.refuse(unexpected())

    async def _introduce(self, request: Direct, principal: Principal | None) -> None:
        """Finds out who calls where that takes longer, or takes the call for a job."""
        try:
            if principal is None:
                principal = await self._authenticator.identify(request.headers, request.client)
            if (preference := self._wish(principal, request.headers)) is not None:
                request.reply(await self._submit(principal, request.headers, request.body, preference))
            else:
                request.follow(self._exchange(principal, request.headers, request.body))
        except GatewayFault as fault:
            request.refuse(fault)
        except Exception:  # a mistake of ours must not leave the caller waiting
            logger.exception("unexpected error before a run")
            request.refuse(unexpected())

    async def _serve(
        self, principal: Principal, headers: Mapping[str, str], body: bytes, receive: Receive, send: Send
    ) -> None:
        if (preference := self._wish(principal, headers)) is not None:
            await send_reply(await self._submit(principal, headers, body, preference), send)
        else:
            await self._exchange(principal, headers, body).follow(receive, send)

    def _wish(self, principal: Principal, headers: Mapping[str, str]) -> Preference | None:
        """How the caller would take a job for an answer, if so; inside a call that cannot be met."""
        preference = read_preference(headers.get("prefer"))
        return preference if preference.asynchronous and principal.job_id is None else None

    async def _submit(
        self, principal: Principal, headers: Mapping[str, str], body: bytes, preference: Preference
    ) -> Reply:
        deadline = read_deadline(headers.get("cancel-after"))
        key = request_key(principal, headers.get("idempotency-key"), b"run", body)
        return await self._submitting.run(principal, body, deadline, key, preference)

    def _exchange(self, principal: Principal, headers: Mapping[str, str], body: bytes) -> Exchange:
        """The answer to a request, which is begun, or has been before."""
        deadline = read_deadline(headers.get("cancel-after"))
        key = request_key(principal, headers.get("idempotency-key"), b"run", body)

        return self._exchanges.begin(principal, key, partial(self._answer, principal, body, deadline, key))

    async def _answer(
        self, principal: Principal, body: bytes, deadline: Deadline, key: RequestKey | None, exchange: Exchange
    ) -> None:
        """Runs what is asked for, or answers once more what has been run for the same key."""
        settings = self._settings
        request = parse_run(body, size_limit=settings.request_limit, batch_limit=settings.batch_limit)
        while True:
            try:
                await self._run(principal, request, deadline, key, exchange)
                return
            except AlreadyKnown as known:
                job_id = known.job_id
            except GatewayFault:  # perhaps it was not refused when it came for the first time
                first = None if key is None else await self._jobs.find_by_key(key)
                if first is None:
                    raise
                job_id = first.id
            await self._wait(job_id, deadline)
            assert key is not None
            job = await self._jobs.find_by_key(key)
            if job is not None and job.ended_at is not None:
                exchange.job_id = job.id
                exchange.give(await self._recorded.reply(job, stream=request.stream))
                return

    async def _wait(self, job_id: str, deadline: Deadline) -> None:
        """Until a job has ended that another connection, or another gateway, is at."""
        loop = asyncio.get_running_loop()
        end = deadline if isinstance(deadline, float) else inf
        while not await self._events.wait_for_end(job_id, min(LOOK_EVERY, end - loop.time())):
            if end <= loop.time():
                raise DeadlineExceeded("The time was over before the call ended that this request began before.")

    async def _run(
        self, principal: Principal, request: RunRequest, deadline: Deadline, key: RequestKey | None, exchange: Exchange
    ) -> None:
        if len(request.calls) > 1:
            await self._batch(principal, request, deadline, key, exchange)
            return
        (call,) = request.calls
        if isinstance(call, GatewayFault):
            raise call
        ready = await self._pipeline.prepare(principal, call, deadline=deadline)
        job_id = new_id()
        is_stream = ready.function.streaming if request.stream is None else request.stream
        ready = await self._pipeline.admit(ready, job_id, key=key, is_told=is_stream)
        exchange.job_id = job_id
        if is_stream:
            await self._stream(job_id, exchange, ready)
            return
        exchange.give(replies.single(await self._pipeline.run(ready, job_id), ready.version))

    async def _stream(self, job_id: str, exchange: Exchange, ready: Ready) -> None:
        headers = [*sse.HEADERS, (b"x-job-id", job_id.encode()), *replies.version_headers(ready.version)]
        exchange.begin(200, headers, is_stream=True)
        teller = _Teller(job_id, exchange)
        timer = asyncio.get_running_loop().call_later(START_AFTER, teller.say_start)
        try:
            outcome = await self._pipeline.run(ready, job_id, emit=teller.emit, transcript=teller.transcript)
        finally:
            timer.cancel()
        teller.say_start()
        exchange.write_nowait(sse.frame(sse.end(outcome)))  # without a wait, in which the run could be ended once more

    async def _batch(
        self, principal: Principal, request: RunRequest, deadline: Deadline, key: RequestKey | None, exchange: Exchange
    ) -> None:
        if isinstance(deadline, Invalid):
            raise deadline
        batch_id = new_id()
        await self._pipeline.open_batch(principal, batch_id, key)
        exchange.job_id = batch_id
        answered: dict[int, Item] = {}
        left = enumerate(request.calls)

        async def some() -> None:
            """One call after another, of those that nobody has begun."""
            for position, call in left:
                own = None if key is None else key.of_item(position)
                try:
                    item = await self._batch_item(principal, call, deadline, batch_id, position, own)
                except Exception:  # a mistake of ours with one call must not take the others with it
                    logger.exception("unexpected error in a call of the batch %s", batch_id)
                    item = replies.item(of_fault(new_id(), unexpected()), None), False
                answered[position] = item

        count = min(self._settings.batch_concurrency, len(request.calls))
        tasks = [asyncio.create_task(some()) for _ in range(count)]
        try:
            with self._running.batch(batch_id, principal.job_id):
                await asyncio.gather(*tasks)
                canceled = self._running.is_canceled(batch_id)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.shield(self._pipeline.close_batch(batch_id, JobStatus.CANCELED))
            raise
        items = [answered[position] for position in range(len(request.calls))]
        succeeded = sum(ok for _, ok in items)
        status = JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED
        await self._pipeline.close_batch(batch_id, JobStatus.CANCELED if canceled else status)
        exchange.give(replies.batch(batch_id, [text for text, _ in items], succeeded))

    async def _batch_item(
        self,
        principal: Principal,
        call: Call | GatewayFault,
        deadline: float | None,
        batch_id: str,
        position: int,
        key: RequestKey | None,
    ) -> Item:
        """One call of a batch; what would be an HTTP error of a single call is this item's result."""
        job_id = new_id()
        try:
            if isinstance(call, GatewayFault):
                raise call
            if self._running.is_canceled(batch_id):
                raise Canceled("The batch was canceled before this call began.")
            ready = await self._pipeline.prepare(principal, call, deadline=deadline)
            ready = await self._pipeline.admit(ready, job_id, key=key, parent_id=batch_id, position=position)
        except AlreadyKnown as known:  # the batch was cut, and this call of it was not
            return await self._item_again(known.job_id, deadline, batch_id)
        except GatewayFault as fault:
            known_call = call if isinstance(call, Call) else None
            await self._record_refusal(principal, known_call, fault, batch_id, position, job_id)
            return replies.item(of_fault(job_id, fault), None), False
        outcome: Outcome = await self._pipeline.run(ready, job_id, parent_id=batch_id)
        return replies.item(outcome, ready.version), outcome.result is not None

    async def _item_again(self, job_id: str, deadline: float | None, batch_id: str) -> Item:
        """What a call of a batch that was cut has come to meanwhile."""
        try:
            await self._wait(job_id, deadline)
            job = await self._jobs.adopt(job_id, batch_id)
            return await self._recorded.item(job), job.status is JobStatus.SUCCEEDED
        except GatewayFault as fault:
            return replies.item(of_fault(job_id, fault), None), False

    async def _record_refusal(
        self, principal: Principal, call: Call | None, fault: GatewayFault, batch_id: str, position: int, job_id: str
    ) -> None:
        def work(connection: Connection) -> None:
            self._jobs.refuse(connection, principal, call, fault, parent_id=batch_id, position=position, job_id=job_id)

        await self._database.write(work, durable=False)


class _Teller:
    """Tells one stream's events, start first and once."""

    def __init__(self, job_id: str, exchange: Exchange) -> None:
        self._job_id = job_id
        self._exchange = exchange
        self._started = False

    def say_start(self) -> None:
        """Says start unless it has been said."""
        if not self._started:
            self._started = True
            self._exchange.write_nowait(sse.frame(sse.start(self._job_id)))

    async def emit(self, events: list[Progress]) -> None:
        """Events of the function; its own start takes the place of ours where it comes in time."""
        if not self._started:
            if events[0].is_start:
                self._started = True
            else:
                self.say_start()
        await self._exchange.write(*(sse.frame(event.json) for event in events))

    def transcript(self, outcome: Outcome) -> Sequence[bytes]:
        """Every event as JSON text, to the terminal one; none where nobody can ask again, or they are too long."""
        if not self._exchange.keyed or not self._exchange.joinable:
            return ()
        start = [] if self._started else [sse.start(self._job_id)]
        return [*start, *map(sse.text, self._exchange.chunks), sse.end(outcome)]
