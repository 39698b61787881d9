"""The run routes, served before the web framework: the one path on which every microsecond is somebody's."""

import asyncio
import re
from typing import Any

import orjson
from sqlalchemy import Connection

from gateway_server.api import sse
from gateway_server.api.auth import Authenticator
from gateway_server.api.exchange import Exchange, Exchanges, Receive, Send
from gateway_server.api.faults import JSON, answer, logger, unexpected
from gateway_server.calls.inputs import RunRequest, parse_run
from gateway_server.calls.jobs import Ending, Jobs, new_id
from gateway_server.calls.pipeline import Outcome, Pipeline
from gateway_server.calls.running import RunningCalls
from gateway_server.errors import Canceled, GatewayFault, Invalid, MethodNotAllowed, PayloadTooLarge, Problem
from gateway_server.models import Call, JobStatus, Principal, Progress
from gateway_server.prefabs.versions import Version
from gateway_server.settings import Settings
from gateway_server.store.database import Database

PATHS = frozenset({"/v1/internal/run", "/v1/run"})
START_AFTER = 0.05
"""Seconds after which a stream says start by itself, if the function has not said so."""
Deadline = float | Invalid | None
"""On the clock of the event loop; None where the caller said nothing."""
Answered = tuple[Outcome, Version | None]
"""How a call of a batch ended, and the version that ran, if one did."""
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s)?\Z")


class RunRoutes:
    """An ASGI application for the paths of `PATHS`, method POST."""

    def __init__(
        self,
        *,
        settings: Settings,
        authenticator: Authenticator,
        pipeline: Pipeline,
        jobs: Jobs,
        running: RunningCalls,
        database: Database,
        exchanges: Exchanges,
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._pipeline = pipeline
        self._jobs = jobs
        self._running = running
        self._database = database
        self._exchanges = exchanges

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"{scope['path']} takes POST.")
            principal = await self._authenticator.identify(headers, scope.get("client"))
            body = await _read_body(receive, self._settings.request_limit)
            deadline = _deadline(headers.get("cancel-after"))
            key = _checked_key(headers.get("idempotency-key"))

            async def produce(exchange: Exchange) -> None:
                await self._answer(principal, body, deadline, exchange)

            exchange = self._exchanges.begin(principal, key, body, produce)
        except GatewayFault as fault:
            await _send_fault(fault, send)
            return
        except _HungUp:
            return
        await exchange.follow(receive, send)

    async def _answer(self, principal: Principal, body: bytes, deadline: Deadline, exchange: Exchange) -> None:
        request = parse_run(body, size_limit=self._settings.request_limit, batch_limit=self._settings.batch_limit)
        if len(request.calls) > 1:
            await self._batch(principal, request, deadline, exchange)
            return
        (call,) = request.calls
        if isinstance(call, GatewayFault):
            raise call
        ready = await self._pipeline.prepare(principal, call, deadline=deadline)
        job_id = exchange.job_id = new_id()
        await self._pipeline.admit(ready, job_id)
        exchange.worth_keeping = True
        if ready.function.streaming if request.stream is None else request.stream:
            await self._stream(job_id, exchange, ready)
            return
        outcome = await self._pipeline.run(ready, job_id)
        echo = [(b"x-job-id", job_id.encode()), *_version_headers(ready.version)]
        if outcome.fault is not None:
            status, headers, text = answer(outcome.fault, job_id=job_id)
            exchange.worth_keeping = outcome.fault.status != 503
            exchange.begin(status, [*headers, *echo])
            await exchange.write(text)
            return
        exchange.begin(200, [*JSON, *echo])
        overall = b"COMPLETED" if outcome.result is not None else b"FAILED"
        await exchange.write(_reply(job_id, overall, [_item(outcome, ready.version)]))

    async def _stream(self, job_id: str, exchange: Exchange, ready: Any) -> None:
        headers = [*sse.HEADERS, (b"x-job-id", job_id.encode()), *_version_headers(ready.version)]
        exchange.begin(200, headers, is_stream=True)
        teller = _Teller(job_id, exchange)
        timer = asyncio.get_running_loop().call_later(START_AFTER, teller.say_start)
        try:
            outcome = await self._pipeline.run(ready, job_id, emit=teller.emit)
        finally:
            timer.cancel()
        teller.say_start()
        exchange.write_nowait(sse.end(outcome))  # without a wait, in which the run could be ended a second time

    async def _batch(self, principal: Principal, request: RunRequest, deadline: Deadline, exchange: Exchange) -> None:
        if isinstance(deadline, Invalid):
            raise deadline
        batch_id = new_id()
        await self._open_batch(principal, batch_id)
        exchange.worth_keeping = True
        places = asyncio.Semaphore(self._settings.batch_concurrency)

        async def one(call: Call | GatewayFault) -> Answered:
            async with places:
                job_id = new_id()
                try:
                    return await self._batch_item(principal, call, deadline, batch_id, job_id)
                except Exception:  # a mistake of ours with one call must not take the others with it
                    logger.exception("unexpected error in the call %s of a batch", job_id)
                    return Outcome(job_id=job_id, fault=unexpected(), files={}), None

        tasks = [asyncio.create_task(one(call)) for call in request.calls]
        try:
            with self._running.batch(batch_id, principal.job_id):
                answered = await asyncio.gather(*tasks)
                canceled = self._running.is_canceled(batch_id)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.shield(self._close_batch(batch_id, JobStatus.CANCELED))
            raise
        succeeded = sum(outcome.result is not None for outcome, _ in answered)
        status = JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED
        await self._close_batch(batch_id, JobStatus.CANCELED if canceled else status)
        overall = b"COMPLETED" if succeeded == len(answered) else b"PARTIAL_SUCCESS" if succeeded else b"FAILED"
        exchange.begin(200, [*JSON, (b"x-job-id", batch_id.encode())])
        await exchange.write(_reply(batch_id, overall, [_item(*item) for item in answered]))

    async def _batch_item(
        self, principal: Principal, call: Call | GatewayFault, deadline: float | None, batch_id: str, job_id: str
    ) -> Answered:
        """One call of a batch; what would be an HTTP error of a single call is this item's result."""
        try:
            if isinstance(call, GatewayFault):
                raise call
            if self._running.is_canceled(batch_id):
                raise Canceled("The batch was canceled before this call began.")
            ready = await self._pipeline.prepare(principal, call, deadline=deadline)
            await self._pipeline.admit(ready, job_id, batch_id)
        except GatewayFault as fault:
            known = call if isinstance(call, Call) else None
            await self._record_refusal(principal, known, job_id, batch_id, fault)
            return Outcome(job_id=job_id, fault=fault, files={}), None
        return await self._pipeline.run(ready, job_id, parent_id=batch_id), ready.version

    async def _record_refusal(
        self, principal: Principal, call: Call | None, job_id: str, batch_id: str, fault: GatewayFault
    ) -> None:
        def work(connection: Connection) -> None:
            self._jobs.open(
                connection, job_id=job_id, principal=principal, call=call, parent_id=batch_id, started=False
            )
            self._jobs.close(connection, job_id, Ending(status=JobStatus.FAILED, error=fault.detail()))

        await self._database.write(work, durable=False)

    async def _open_batch(self, principal: Principal, batch_id: str) -> None:
        def work(connection: Connection) -> None:
            self._jobs.open(connection, job_id=batch_id, principal=principal, call=None, parent_id=None)

        try:
            await self._database.write(work, durable=False)
        except asyncio.CancelledError:  # that write cannot be called back, so the record has to be closed
            await asyncio.shield(self._close_batch(batch_id, JobStatus.CANCELED))
            raise

    async def _close_batch(self, batch_id: str, status: JobStatus) -> None:
        ending = Ending(status=status)
        await self._database.write(lambda c: self._jobs.close(c, batch_id, ending), durable=False)


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
            self._exchange.write_nowait(sse.start(self._job_id))

    async def emit(self, event: Progress) -> None:
        """An event of the function; its own start takes the place of ours where it comes in time."""
        if event.is_start and not self._started:
            self._started = True
        else:
            self.say_start()
        await self._exchange.write(sse.frame(event.json))


def parse_duration(text: str | None) -> float | None:
    """Seconds of a `Cancel-After` header such as ``90s`` or ``1500ms``.

    Raises:
        Invalid: it has another form.
    """
    if text is None:
        return None
    match = _DURATION.match(text.strip())
    if match is None:
        problem = Problem("/headers/Cancel-After", "must be a duration such as 90s or 1500ms")
        raise Invalid(f"The header Cancel-After {problem.message}.", [problem])
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _deadline(text: str | None) -> Deadline:
    """When a request ends that says how long it may take: for a batch, one moment for all of its calls."""
    try:
        seconds = parse_duration(text)
    except Invalid as invalid:  # told when everything else is in order
        return invalid
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def _checked_key(key: str | None) -> str | None:
    if key is not None and not 0 < len(key) <= 255:
        raise Invalid("An Idempotency-Key has 1 to 255 characters.", [Problem("/headers/Idempotency-Key", "too long")])
    return key


def _version_headers(version: Version) -> list[tuple[bytes, bytes]]:
    """Which version ran; whoever asked for the latest learns it, a stream included."""
    headers = [(b"x-prefab-version", version.version.encode())]
    if version.warning() is not None:
        headers.append((b"x-prefab-warning", b"deprecated" if version.yanked is None else b"yanked"))
    return headers


def _item(outcome: Outcome, version: Version | None) -> bytes:
    """One result; `version` is the one that ran, if any."""
    tail = b',"job_id":"' + outcome.job_id.encode() + b'"'
    if version is not None:
        tail += b',"version":"' + version.version.encode() + b'"'
        if (warning := version.warning()) is not None:
            tail += b',"warning":' + orjson.dumps(warning)
    tail += b"}"
    if outcome.result is not None:
        return b'{"status":"SUCCESS","output":' + outcome.envelope() + b',"error":null' + tail
    error = orjson.dumps(outcome.told_error(), default=str)
    output = b"null"
    if outcome.files:  # what the function wrote before it failed stays
        output = b'{"status":"FAILED","output":null,"files":' + orjson.dumps(outcome.files) + b"}"
    return b'{"status":"FAILED","output":' + output + b',"error":' + error + tail


def _reply(job_id: str, status: bytes, items: list[bytes]) -> bytes:
    head = b'{"job_id":"' + job_id.encode() + b'","status":"' + status + b'","results":['
    return head + b",".join(items) + b"]}"


class _HungUp(Exception):
    """The caller left before the request was whole."""


async def _read_body(receive: Receive, limit: int) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        body += message.get("body", b"")
        if len(body) > limit:
            raise PayloadTooLarge(f"The request has more than {limit} bytes. Pass large data as files.")
        if not message.get("more_body"):
            return body


async def _send_fault(fault: GatewayFault, send: Send) -> None:
    status, headers, body = answer(fault)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
