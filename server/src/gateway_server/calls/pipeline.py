"""What happens to one call, from its arguments to its record."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from gateway_runtime.workspace import OUTPUTS
from gateway_server.calls import trees
from gateway_server.calls.events import Events, store
from gateway_server.calls.inputs import Validator
from gateway_server.calls.jobs import Ending, Jobs
from gateway_server.calls.logs import Log, Masker
from gateway_server.calls.outcomes import Outcome, of_cancel, of_fault, of_result
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.requests import RequestKey
from gateway_server.calls.running import Running, RunningCalls
from gateway_server.calls.vault import Vault
from gateway_server.engine.local.pool import LocalEngine
from gateway_server.engine.local.worker import Worker
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import (
    Canceled,
    DeadlineExceeded,
    GatewayFault,
    InternalError,
    Invalid,
    NotFound,
    Overloaded,
    ServiceUnavailable,
)
from gateway_server.files.library import Library
from gateway_server.files.outputs import collect, group
from gateway_server.files.records import StoredFile
from gateway_server.files.staging import stage
from gateway_server.identity import access
from gateway_server.identity.tokens import Tokens
from gateway_server.identity.users import Users
from gateway_server.models import Call, Event, Failure, JobStatus, Principal, Progress, Result
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.functions import Function
from gateway_server.prefabs.versions import Version
from gateway_server.settings import Settings
from gateway_server.store.database import Database

TOKEN_GRACE = 60.0
"""Seconds that a call's token outlives its deadline."""
MOST_VALIDATORS = 10_000
logger = logging.getLogger("gateway")
Emit = Callable[[Progress], Awaitable[None]]
Begun = Callable[[], Awaitable[None]]
Transcript = Callable[[Outcome], Sequence[bytes]]


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A call that nothing speaks against any more."""

    principal: Principal
    call: Call
    version: Version
    function: Function
    files: Mapping[str, Sequence[StoredFile]]
    secrets: Mapping[str, str]
    deadline: float
    """On the clock of the event loop."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """How one attempt is made."""

    attempt: int = 1
    """Its number, which the function can see."""
    fold: bool = False
    """Whether the result is to be that of a call without a stream, although its events are wanted."""


FIRST = Order()


class Pipeline:
    """Prepares calls (whatever is refused is refused there), admits them and runs them."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        catalogue: Catalogue,
        library: Library,
        vault: Vault,
        users: Users,
        quotas: Quotas,
        jobs: Jobs,
        events: Events,
        tokens: Tokens,
        engine: LocalEngine,
        running: RunningCalls,
    ) -> None:
        self._settings = settings
        self._database = database
        self._catalogue = catalogue
        self._library = library
        self._vault = vault
        self._users = users
        self._quotas = quotas
        self._jobs = jobs
        self._events = events
        self._tokens = tokens
        self._engine = engine
        self._running = running
        self._validators: dict[str, Validator] = {}
        self.new_log: Callable[[], Log] = lambda: Log(settings.log_limit)
        """Where what a call prints goes."""

    async def prepare(
        self,
        principal: Principal,
        call: Call,
        *,
        deadline: float | Invalid | None,
        is_charged: bool = False,
        is_queued: bool = False,
    ) -> Ready:
        """Checks everything that can be checked before the function runs, in an order that never changes.

        `deadline` is the caller's, on the clock of the event loop, or why it cannot be understood; `is_charged` says
        that the quota has been charged when the call was accepted, `is_queued` that it will wait for its place.

        Raises:
            GatewayFault: the refusal.
        """
        trees.check_depth(principal.depth, self._settings.nesting_limit)
        if principal.job_id is not None and self._running.find(principal.job_id) is None:
            raise Canceled("The call that made this one has ended.")
        version = await self._catalogue.find(call.prefab_id, call.version)
        access.may_call(principal, call.prefab_id)
        if call.version != version.version:  # it asked for the latest
            call = replace(call, version=version.version)
        function = _function(version, call)
        self._validator(version, function).check(call)
        files = await self._readable(principal, call) if call.files else {}
        if not is_charged:
            await self._database.read(lambda c: self._quotas.check(c, principal, waits=is_queued))
        secrets = await self._vault.unlock(principal.user, call.prefab_id, function.secrets)
        if isinstance(deadline, Invalid):
            raise deadline
        ends = self._deadline(principal, function, deadline)
        return Ready(
            principal=principal,
            call=call,
            version=version,
            function=function,
            files=files,
            secrets=secrets,
            deadline=ends,
        )

    async def admit(
        self,
        ready: Ready,
        job_id: str,
        *,
        key: RequestKey | None = None,
        parent_id: str | None = None,
        position: int | None = None,
    ) -> Ready:
        """Charges the quota and opens the record: from here on the call counts. The call that it gives
        ends earlier where less run time is left to the user.

        Raises:
            AlreadyKnown: the same request has been admitted before.
            IdempotencyConflict: the key came with another request.
            Unauthenticated: the user has been disabled or deleted meanwhile.
            NotFound: the version has been removed meanwhile.
            QuotaExceeded: another call took the last place meanwhile.
        """
        self.check_still(ready)

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
            seconds = await self._database.write(work, durable=False)
        except asyncio.CancelledError:
            # That write is on its way and cannot be called back; this one is behind it, and finds what it did.
            await asyncio.shield(self._database.write(undo, durable=False))
            raise
        return replace(ready, deadline=min(ready.deadline, moment + seconds))

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

    def check_still(self, ready: Ready) -> None:
        """Asks once more, right before the call is accepted, for what may have changed since it was prepared.

        Raises:
            Unauthenticated: the user has been disabled or deleted meanwhile.
            NotFound: the version has been removed meanwhile.
        """
        self._users.check_principal(ready.principal)
        if not self._catalogue.takes_calls(ready.version):
            name = f"{ready.version.prefab_id}@{ready.version.version}"
            raise NotFound(f"{name} is being removed.", prefab_id=ready.call.prefab_id, version=ready.call.version)

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
        with self._running.entered(call):
            try:
                outcome = await self.attempt(ready, call, emit=emit)
            except asyncio.CancelledError:
                outcome = of_cancel(job_id)
                await asyncio.shield(self._record(ready, call, outcome))
                if not call.canceled:
                    raise
                task.uncancel()
                return outcome
        await self._record(ready, call, outcome, transcript)
        return outcome

    async def attempt(
        self, ready: Ready, call: Running, *, emit: Emit | None = None, order: Order = FIRST, begun: Begun | None = None
    ) -> Outcome:
        """Runs a call within its time; whatever goes wrong becomes part of the outcome. `begun` is told once there is a
        worker."""
        call.masker = Masker(ready.secrets.values())
        try:
            async with asyncio.timeout_at(ready.deadline) as limit:
                return await self._on_a_worker(ready, call, emit, order, begun)
        except TimeoutError:
            if limit.expired():
                fault: GatewayFault = DeadlineExceeded("The call's time was over; the function was stopped.")
            else:  # not ours: a mistake below
                fault = InternalError("A part of the gateway timed out.")
        except Exception:  # a mistake of ours: whatever it is, the record must not stay open
            logger.exception("unexpected error in the call %s", call.job_id)
            fault = InternalError("The gateway made a mistake; its log tells more.")
        return of_fault(call.job_id, fault)

    async def _on_a_worker(
        self, ready: Ready, call: Running, emit: Emit | None, order: Order, begun: Begun | None
    ) -> Outcome:
        try:
            user, depth = ready.principal.user, ready.principal.depth
            deployment = ready.version.deployment
            assert deployment is not None
            async with self._engine.worker(deployment, user, depth=depth) as worker:
                call.began = asyncio.get_running_loop().time()
                if begun is not None:
                    await begun()
                if ready.files:
                    root_id = ready.principal.root_job_id or call.job_id
                    await self._library.hand(root_id, [file for files in ready.files.values() for file in files])
                    await stage(self._library.objects, ready.files, worker.workspace, worker.owner)
                last = await self._follow(worker, ready, call, emit, order)
                files = await self._outputs(worker, ready, call)
                return self._outcome(call, last, files)
        except ImportFailed as error:
            call.log.write(error.told["traceback"].encode("utf-8", "replace"))
            failure = {"error_code": "PREFAB_ERROR", **error.told}
            failure["message"] = f"The package could not be imported: {failure['message']}"
            return self._outcome(call, Failure(failure), {})
        except GatewayFault as fault:
            return of_fault(call.job_id, fault)

    async def _follow(
        self, worker: Worker, ready: Ready, call: Running, emit: Emit | None, order: Order
    ) -> Result | Failure:
        told = {
            "function": ready.call.function_name,
            "parameters": ready.call.parameters,
            "environment": {
                **ready.secrets,
                "X_INTERNAL_TOKEN": self._call_token(ready, call.job_id),
                "GATEWAY_JOB_ID": call.job_id,
                "GATEWAY_ATTEMPT": str(order.attempt),
            },
            "stream": emit is not None,
            "fold": order.fold,
        }
        last: Event | None = None
        async for event in worker.run(told, call.log.write):
            if isinstance(event, Progress):
                if emit is not None:
                    await emit(event)
            else:
                last = event
        assert last is not None
        return last  # type: ignore[return-value]

    def _call_token(self, ready: Ready, job_id: str) -> str:
        """A token of this call alone: it can run prefabs as the caller and use the files of its call tree."""
        ends = time.time() + ready.deadline - asyncio.get_running_loop().time()
        principal = replace(
            ready.principal,
            job_id=job_id,
            root_job_id=ready.principal.root_job_id or job_id,
            depth=ready.principal.depth + 1,
            deadline=ends,
            prefabs=None,  # the key's limit is on what its holder calls, not on what that is made of
        )
        return self._tokens.mint(principal, expires_at=ends + TOKEN_GRACE)

    async def _outputs(self, worker: Worker, ready: Ready, call: Running) -> dict[str, list[str]]:
        """What the function wrote, unless it left its folder so that nothing can be read there."""
        try:
            return await self._keep_outputs(worker, ready, call)
        except OSError as error:
            call.log.write(f"the outputs cannot be read: {error.strerror}\n".encode("utf-8", "replace"))
            return {}

    async def _keep_outputs(self, worker: Worker, ready: Ready, call: Running) -> dict[str, list[str]]:
        """What the function wrote, stored under the keys that the manifest declares."""
        if not os.listdir(worker.workspace / OUTPUTS):
            return {}
        limit = self._settings.file_limit
        collection = await asyncio.to_thread(collect, worker.workspace, owner=worker.owner, limit=limit)
        for line in collection.skipped:
            call.log.write(f"output left out: {line}\n".encode())
        stored = await self._library.store_outputs(
            user=ready.principal.user,
            job_id=call.job_id,
            root_id=ready.principal.root_job_id or call.job_id,
            key_id=ready.principal.key_id,
            outputs=group(collection.outputs, list(ready.function.outputs)),
        )
        return {key: [file.s3_url for file in files] for key, files in stored.items()}

    def _outcome(self, call: Running, last: Result | Failure, files: Mapping[str, Sequence[str]]) -> Outcome:
        if isinstance(last, Failure):
            told = {_storable(key): _storable(str(value)) for key, value in last.error.items() if key != "traceback"}
            error = {key: call.masker.text(value) for key, value in told.items()}
            return Outcome(job_id=call.job_id, error=error, files=files)
        return of_result(call.job_id, last, files)

    async def _record(
        self, ready: Ready, call: Running, outcome: Outcome, transcript: Transcript | None = None
    ) -> None:
        log, texts, ran = call.log.read(call.masker), transcript(outcome) if transcript else (), call.ran()

        def work(connection: Connection) -> None:
            self.close(connection, outcome, log, ran=ran, forget_key=_runs_anew(outcome))
            if texts:
                store(connection, call.job_id, b"\n".join(texts), ends=True)

        await self._database.write(work, durable=False)
        self._events.ended(call.job_id)

    def close(
        self,
        connection: Connection,
        outcome: Outcome,
        log: bytes = b"",
        *,
        ran: float = 0.0,
        forget_key: bool,
        refund: bool = False,
    ) -> bool:
        """Records, within a transaction, how a call ended, and takes the charge back where it never began (`refund`) or
        the end was ours; `ran` are its seconds with a worker. False if it has ended before."""
        ok = outcome.result is not None
        ending = Ending(
            status=outcome.status,
            error=None if ok else outcome.told_error(),
            is_fault=outcome.fault is not None,
            result=outcome.envelope() if ok or outcome.files else None,
            log=log,
            forget_key=forget_key,
        )
        if not self._jobs.close(connection, outcome.job_id, ending):
            return False
        refund = refund or isinstance(outcome.fault, ServiceUnavailable | Overloaded | InternalError)
        self._quotas.settle(connection, outcome.job_id, seconds=ran, refund=refund)
        return True

    async def _readable(self, principal: Principal, call: Call) -> dict[str, list[StoredFile]]:
        """The input files, if the caller has the right to all of them."""
        found = iter(await self._library.readable(principal, [url for urls in call.files.values() for url in urls]))
        return {key: [next(found) for _ in urls] for key, urls in call.files.items()}

    def _validator(self, version: Version, function: Function) -> Validator:
        assert version.deployment is not None
        key = f"{version.deployment.key}/{function.name}"
        validator = self._validators.get(key)
        if validator is None:
            if len(self._validators) >= MOST_VALIDATORS:  # of versions that are gone, mostly
                self._validators.clear()
            validator = self._validators[key] = Validator(function)
        return validator

    def _deadline(self, principal: Principal, function: Function, deadline: float | None) -> float:
        """The earliest of the caller's deadline, that of the call above, and the limits of function and gateway."""
        moment = asyncio.get_running_loop().time()
        left = min(
            deadline - moment if deadline is not None else math.inf,
            self._settings.call_timeout,
            function.timeout or math.inf,
            principal.deadline - time.time() if principal.deadline is not None else math.inf,
        )
        if left <= 0:
            raise DeadlineExceeded("The call's time was over before it began.")
        return moment + left


def _runs_anew(outcome: Outcome) -> bool:
    """Whether the same request, sent again, is not answered with this: nobody waited, or the fault was ours."""
    return outcome.canceled or (outcome.fault is not None and outcome.fault.status == 503)


def _storable(text: str) -> str:
    """The text with what is no Unicode replaced, such as the undecodable bytes of a file's name."""
    return text.encode("utf-8", "replace").decode()


def _function(version: Version, call: Call) -> Function:
    assert version.manifest is not None
    function = version.manifest.function(call.function_name)
    if function is None:
        names = ", ".join(function.name for function in version.manifest.functions)
        message = f"Prefab {call.prefab_id}@{call.version} has no function {call.function_name[:80]}; it has: {names}."
        raise NotFound(message, prefab_id=call.prefab_id, version=call.version)
    if function.disabled is not None:
        raise Invalid(f"The function {function.name} cannot be called: {function.disabled}")
    return function
