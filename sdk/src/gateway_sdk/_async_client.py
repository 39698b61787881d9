"""The client: run, batch, stream, jobs. The file operations are in its base class."""

from __future__ import annotations

from collections.abc import Coroutine

from . import _wire
from ._async_files import AsyncFiles
from ._async_job import AsyncBatchJob, AsyncJob
from ._async_stream import AsyncEventStream
from ._results import parse_batch, parse_results
from ._typing import Any, Literal, overload
from .models import BatchResult, PrefabCall, PrefabResult


class AsyncGatewayClient(AsyncFiles):
    """Calls prefabs through the gateway.

    It only holds who is calling: making one costs microseconds and opens nothing, so make one per request. All clients
    of a process share their connections. It may be used from several threads.

    Args:
        internal_token: the caller's `X-Internal-Token`. Not given: `X_INTERNAL_TOKEN` of the environment, which is set
            inside a running prefab; else none is sent.
        base_url: the gateway's address. Not given: `GATEWAY_BASE_URL` of the environment, else the in-cluster address.
        timeout: seconds. Bounds a whole `run` or `run_batch`, and is told the gateway, which stops the function then.
            For a stream it bounds the silence between events, for files the silence on the wire.
        max_retries: further tries after a failure that cannot have run a function twice.
        transport: an httpx transport to use instead of the network, for tests.

    Example:
        async with AsyncGatewayClient(internal_token=token) as client:
            result = await client.run("translator", "1.0.0", "translate", {"text": "Hello", "target": "zh"})
            print(result.get_function_result())
    """

    @overload
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: dict[str, Any],
        files: dict[str, list[str]] | None = None,
        stream: Literal[False] = False,
    ) -> Coroutine[Any, Any, PrefabResult]: ...

    @overload
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: dict[str, Any],
        files: dict[str, list[str]] | None = None,
        *,
        stream: Literal[True],
    ) -> AsyncEventStream: ...

    @overload
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: dict[str, Any],
        files: dict[str, list[str]] | None,
        stream: Literal[True],
    ) -> AsyncEventStream: ...

    @overload
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: dict[str, Any],
        files: dict[str, list[str]] | None = None,
        stream: bool = False,
    ) -> Coroutine[Any, Any, PrefabResult] | AsyncEventStream: ...

    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: dict[str, Any],
        files: dict[str, list[str]] | None = None,
        stream: bool = False,
    ) -> Coroutine[Any, Any, PrefabResult] | AsyncEventStream:
        """Call one function.

        A function that raised gives a FAILED result; what the gateway refused, and what went wrong on the way, raises.
        With `stream=True` the blocking client sends the call at once, the asynchronous one when the iteration (or the
        `with` block) begins; that is where a refusal is raised.

        Args:
            prefab_id: such as "translator".
            version: "X.Y.Z".
            function_name: the function in that prefab.
            parameters: its arguments by name.
            files: input files, {key: [s3 URL, ...]}.
            stream: give the events as they come instead of the result at the end.

        Raises:
            AuthenticationError, PrefabNotFoundError, ValidationError, MissingSecretError, QuotaExceededError: refused.
            DeadlineExceededError: `timeout` is over; the function has been stopped.
            ServiceUnavailableError: no answer, after `max_retries` further tries.

        Example:
            result = await client.run("translator", "1.0.0", "translate", {"text": "Hello", "target": "zh"})
        """
        body = _wire.run_body([PrefabCall(prefab_id, version, function_name, parameters, files)], stream)
        if stream:
            events = AsyncEventStream(self, body)
            # sync: events._open()
            return events
        return self._run(body)

    async def _run(self, body: bytes) -> PrefabResult:
        answer = await self._run_to_its_end(body)
        return parse_results(answer, 1)[0]

    async def _run_to_its_end(self, body: bytes) -> dict[str, Any]:
        key = _wire.new_key()
        try:
            return await self._ask("POST", _wire.RUN, body, deadline=self.timeout, key=key)
        except Exception:  # an answer, or none to be had: the retries are over, and nothing waits to be ended
            raise
        except BaseException:  # Ctrl-C, or the task was cancelled: nobody wants the answer any more
            self._leave_soon(None, key)
            raise

    async def run_batch(self, calls: list[PrefabCall]) -> BatchResult:
        """Call several functions at once. One that fails, or is refused, leaves the others alone: look at each result.

        Raises:
            AuthenticationError, QuotaExceededError: refused as a whole.
            DeadlineExceededError: no answer within `timeout`. A call that has not ended by then has failed with
                DEADLINE_EXCEEDED in its own result, and the others stand.
            ServiceUnavailableError: no answer, after `max_retries` further tries.

        Example:
            batch = await client.run_batch([PrefabCall("translator", "1.0.0", "translate", {"text": "Hello"})])
            failed = batch.get_failed()
        """
        body = _wire.run_body(calls, False)
        answer = await self._run_to_its_end(body)
        batch = parse_batch(answer, len(calls))
        if len(calls) == 1:
            batch.results[0].job_id = batch.results[0].job_id or batch.job_id
        return batch

    async def submit(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: dict[str, Any],
        files: dict[str, list[str]] | None = None,
        *,
        attempts: int | None = None,
        retry_delay: float | None = None,
        priority: int = 0,
        deadline: float | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """Have one function run whether anybody waits for it or not. It is safe with the gateway when this returns.

        Args:
            prefab_id, version, function_name, parameters, files: as of `run`.
            attempts: how often the function may be tried, 1 to 10; None as its manifest says, else once.
            retry_delay: seconds before the second attempt; each further one waits twice as long.
            priority: -10 to 10, among your own jobs: the higher, the earlier.
            deadline: seconds from now in which the job has to end, waiting included; None for no such bound.
            idempotency_key: your own name of this submission: with the same key it is the same job, for a day.

        Raises:
            AuthenticationError, PrefabNotFoundError, ValidationError, MissingSecretError, QuotaExceededError: refused.
            ConflictError: the key was used with another submission.
            ServiceUnavailableError: no answer, after `max_retries` further tries.

        Example:
            job = await client.submit("translator", "1.0.0", "translate", {"text": "Hello"}, attempts=3)
            result = await job.result(timeout=600)
        """
        call = PrefabCall(prefab_id, version, function_name, parameters, files)
        body = _wire.submit_body([call], attempts, retry_delay, priority)
        return AsyncJob(self, await self._submit(body, deadline, idempotency_key))

    async def submit_batch(
        self,
        calls: list[PrefabCall],
        *,
        attempts: int | None = None,
        retry_delay: float | None = None,
        priority: int = 0,
        deadline: float | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncBatchJob:
        """Have several functions run as one job. A call that is refused leaves the others alone: look at each result.

        Args:
            calls: at least one.
            attempts, retry_delay, priority, deadline, idempotency_key: as of `submit`, for each of the calls.

        Raises:
            AuthenticationError: refused as a whole.
            ServiceUnavailableError: no answer, after `max_retries` further tries.

        Example:
            job = await client.submit_batch([PrefabCall("translator", "1.0.0", "translate", {"text": "Hello"})])
            batch = await job.result()
        """
        body = _wire.submit_body(calls, attempts, retry_delay, priority)
        return AsyncBatchJob(self, await self._submit(body, deadline, idempotency_key))

    async def _submit(self, body: bytes, deadline: float | None, key: str | None) -> str:
        key = key or _wire.new_key()
        answer = await self._ask("POST", _wire.JOBS, body, key=key, cancel_after=deadline)
        return _wire.text_field(answer, "job_id", "POST /v1/jobs")

    def job(self, job_id: str) -> AsyncJob:
        """A job that was submitted before, perhaps by another process. Asks the gateway nothing yet.

        Example:
            result = await client.job("0199a4e2-...").result(timeout=60)
        """
        return AsyncJob(self, job_id)

    async def get_job(self, job_id: str) -> dict[str, Any]:
        """What the gateway has recorded about a job: {"id", "status", "result"?, "error"?, ...}.

        Raises:
            JobNotFoundError: there is no such job, or it is someone else's.

        Example:
            job = await client.get_job(result.job_id)
        """
        return await self._ask("GET", f"/v1/jobs/{_wire.segment(job_id)}")

    async def cancel_job(self, job_id: str) -> dict[str, Any]:
        """Stop a job. A job that has ended stays as it is.

        Raises:
            JobNotFoundError: there is no such job, or it is someone else's.

        Example:
            await client.cancel_job(stream.job_id)
        """
        return await self._ask("POST", f"/v1/jobs/{_wire.segment(job_id)}/cancel", b"", content_type=None)
