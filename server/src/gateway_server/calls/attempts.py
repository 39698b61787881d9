"""One attempt at a call: on a worker, within its time, from its order to what it wrote."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway_runtime.workspace import OUTPUTS, opened
from gateway_server.calls.deadlines import Deadlines
from gateway_server.calls.logs import Masker
from gateway_server.calls.outcomes import Outcome, of_fault, of_result
from gateway_server.calls.preparation import Ready
from gateway_server.calls.running import Running
from gateway_server.calls.texts import check_event
from gateway_server.engine.local.pool import LocalEngine
from gateway_server.engine.local.worker import NotBegun, Worker
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import DeadlineExceeded, GatewayFault, InternalError, ServiceUnavailable
from gateway_server.files.library import Library
from gateway_server.files.outputs import collect, group
from gateway_server.files.staging import stage
from gateway_server.identity.tokens import Tokens
from gateway_server.models import Failure, Progress, Result

FILE_COST = 200
"""How many events an output takes as much of the gateway's time as."""
logger = logging.getLogger("gateway")
Emit = Callable[[list[Progress]], Awaitable[None]]
"""Takes events in their order, as many as have come since it took the last ones."""
Begun = Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """How one attempt is made."""

    attempt: int = 1
    """Its number, which the function can see."""
    fold: bool = False
    """Whether the result is to be that of a call without a stream, although its events are wanted."""


FIRST = Order()


class Attempts:
    """Makes attempts."""

    def __init__(
        self, *, file_limit: int, outputs_limit: int | None, library: Library, tokens: Tokens, engine: LocalEngine
    ) -> None:
        """`outputs_limit` are the bytes that a function may leave, besides its inputs."""
        self._file_limit = file_limit
        self._outputs_limit = outputs_limit
        self._library = library
        self._tokens = tokens
        self._engine = engine
        self._deadlines = Deadlines()

    async def make(
        self, ready: Ready, call: Running, *, emit: Emit | None = None, order: Order = FIRST, begun: Begun | None = None
    ) -> Outcome:
        """Runs a call within its time; whatever goes wrong becomes part of the outcome. `begun` is told once there is a
        worker."""
        if ready.secrets:
            call.masker = Masker(ready.secrets.values())
        self._deadlines.watch(call, ready.deadline)
        again = False
        fault: GatewayFault
        try:
            while True:
                try:
                    return await self._on_a_worker(ready, call, emit, order, begun, again=again)
                except NotBegun:  # a call before it took too long, or ended the worker
                    again, call.began = True, None
        except ImportFailed as error:
            call.log.write(error.told["traceback"].encode("utf-8", "replace"))
            failure = {"error_code": "PREFAB_ERROR", **error.told}
            failure["message"] = f"The package could not be imported: {failure['message']}"
            return self._outcome(call, Failure(failure), {})
        except GatewayFault as told:
            return of_fault(call.job_id, told)
        except asyncio.CancelledError:
            if not call.expired or call.canceled:
                raise
            call.task.uncancel()
            fault = DeadlineExceeded("The call's time was over; the function was stopped.")
        except Exception:  # a mistake of ours: whatever it is, the record must not stay open
            logger.exception("unexpected error in the call %s", call.job_id)
            fault = InternalError("The gateway made a mistake; its log tells more.")
        finally:
            self._deadlines.forget(call)
        return of_fault(call.job_id, fault)

    async def _on_a_worker(
        self, ready: Ready, call: Running, emit: Emit | None, order: Order, begun: Begun | None, *, again: bool
    ) -> Outcome:
        user, depth, alone = ready.principal.user, ready.principal.depth, again or emit is not None or bool(ready.files)
        deployment = ready.version.deployment
        assert deployment is not None
        with await self._engine.worker(deployment, user, depth=depth, alone=alone, again=again) as worker:
            call.began = time.monotonic()
            if begun is not None:
                await begun()
            if ready.files:
                root_id = ready.principal.root_job_id or call.job_id
                await self._library.hand(root_id, [file for files in ready.files.values() for file in files])
                worker.has_files = True
                self._check_room(ready)
                await stage(self._library.objects, ready.files, worker.workspace, worker.owner)
                await worker.measure_inputs()
            token = self._call_token(ready, call.job_id)
            try:
                told = _told(ready, call, order, token, is_stream=emit is not None)
                last = await worker.run(told, call.log.write, emit and _checked(emit), alone=alone)
            finally:
                self._tokens.end_call(token)
            files = await self._outputs(worker, ready, call) if last.has_files or ready.files else {}
            return self._outcome(call, last, files)

    def _check_room(self, ready: Ready) -> None:
        """Refuses inputs for which there is no room: the same file may be named as often as the caller likes.

        Raises:
            ServiceUnavailable: there is none.
        """
        if sum(file.size for files in ready.files.values() for file in files) > self._engine.room():
            raise ServiceUnavailable("There is no room for the inputs of the call.")

    def _call_token(self, ready: Ready, job_id: str) -> str:
        """A token of this attempt alone: it can run prefabs as the caller and use the files of its call tree."""
        deadline = time.time() + ready.deadline - time.monotonic()
        return self._tokens.mint_for_call(ready.principal, job_id, deadline=deadline)

    async def _outputs(self, worker: Worker, ready: Ready, call: Running) -> dict[str, list[str]]:
        """What the function wrote, unless it left its folder so that nothing can be read there."""
        try:
            return await self._keep_outputs(worker, ready, call)
        except OSError as error:
            call.log.write(f"the outputs cannot be read: {error.strerror}\n".encode("utf-8", "replace"))
            return {}

    async def _keep_outputs(self, worker: Worker, ready: Ready, call: Running) -> dict[str, list[str]]:
        """What the function wrote, stored under the keys that the manifest declares."""
        with opened(worker.workspace, OUTPUTS) as folder, os.scandir(folder) as entries:
            if next(entries, None) is None:
                return {}
        limit, most = self._file_limit, self._outputs_limit
        if most is not None:
            most += worker.given
        collection = await asyncio.to_thread(collect, worker.workspace, owner=worker.owner, limit=limit, most=most)
        for line in collection.skipped:
            call.log.write(f"output left out: {line}\n".encode())
        stored = await self._library.store_outputs(
            user=ready.principal.user,
            job_id=call.job_id,
            root_id=ready.principal.root_job_id or call.job_id,
            key_id=ready.principal.key_id,
            outputs=group(collection.outputs, list(ready.function.outputs)),
            pace=partial(worker.keep_pace, FILE_COST),
        )
        return {key: [file.s3_url for file in files] for key, files in stored.items()}

    def _outcome(self, call: Running, last: Result | Failure, files: Mapping[str, Sequence[str]]) -> Outcome:
        if isinstance(last, Failure):
            told = {_storable(key): _storable(str(value)) for key, value in last.error.items() if key != "traceback"}
            error = {key: call.masker.text(value) for key, value in told.items()}
            return Outcome(job_id=call.job_id, error=error, files=files)
        return of_result(call.job_id, last, files)


def _told(ready: Ready, call: Running, order: Order, token: str, *, is_stream: bool) -> dict[str, Any]:
    """What the worker is told."""
    return {
        "function": ready.call.function_name,
        "parameters": ready.call.parameters,
        "environment": {
            **ready.secrets,
            "X_INTERNAL_TOKEN": token,
            "GATEWAY_JOB_ID": call.job_id,
            "GATEWAY_ATTEMPT": str(order.attempt),
        },
        "stream": is_stream,
        "fold": order.fold,
    }


def _checked(emit: Emit) -> Emit:
    """Lets through only what is an event."""

    async def check(events: list[Progress]) -> None:
        for event in events:
            check_event(event.json)
        await emit(events)

    return check


def _storable(text: str) -> str:
    """The text with what is no Unicode replaced, such as the undecodable bytes of a file's name."""
    return text.encode("utf-8", "replace").decode()
