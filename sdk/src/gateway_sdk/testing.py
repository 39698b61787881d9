"""A gateway in memory, for the tests of programs that use the SDK. No network, no server.

Example:
    from gateway_sdk.testing import FakeGateway

    def test_greeting():
        fake = FakeGateway()

        @fake.prefab("translator", "1.0.0")
        def translate(text, target="zh"):
            return {"success": True, "translated_text": "你好"}

        assert greet(fake.client()) == "你好"
        assert fake.calls[0].parameters == {"text": "Hello"}
"""

from __future__ import annotations

import inspect
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from itertools import count
from typing import Any, TypeVar

import httpx

from . import _wire
from ._async_client import AsyncGatewayClient
from ._client import GatewayClient
from ._fake_events import awaited, fold, one_by_one, until_terminal
from ._fake_store import Answer, Asked, FakeStore, json_answer
from .exceptions import (
    AuthenticationError,
    DeadlineExceededError,
    GatewayError,
    JobNotFoundError,
    PrefabNotFoundError,
    QuotaExceededError,
    RemoteFileNotFoundError,
    ValidationError,
)
from .models import PrefabCall, StoredFile

__all__ = ["FakeGateway", "Output"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_STATUS = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "MISSING_SECRET": 400,
    "MISSING_AGENT_CONTEXT": 400,
    "NOT_FOUND": 404,
    "FILE_NOT_FOUND": 404,
    "JOB_NOT_FOUND": 404,
    "VALIDATION_ERROR": 422,
    "QUOTA_EXCEEDED": 429,
    "RUNTIME_CRASHED": 502,
    "SERVICE_UNAVAILABLE": 503,
    "OVERLOADED": 503,
    "DEADLINE_EXCEEDED": 504,
}


class Output:
    """What a function of the fake returns when it also writes files.

    Args:
        value: the return value.
        files: {key: {name: bytes}}.

    Example:
        >>> Output({"success": True}, files={"output": {"report.txt": b"..."}}).value
        {'success': True}
    """

    def __init__(self, value: Any, files: dict[str, dict[str, bytes]] | None = None) -> None:
        self.value = value
        self.files = files or {}


class FakeGateway:
    """A gateway whose prefabs are Python functions of your test.

    What a function returns, raises or yields becomes what the gateway would make of it: an exception is a FAILED
    result, a `GatewayError` is raised by the client, a generator can be streamed. A function with a parameter `files`
    gets the URLs of its input files there; their bytes are in `fake.files`.

    Args:
        user, agent: who calls; `agent=None` refuses file operations as outside an agent.
        tokens: the tokens that are accepted; None accepts all, and none at all.
        api_keys: {API key: the token it is converted to}.
        quota: calls that are allowed before QUOTA_EXCEEDED.
        part_size: bytes of one part of a large upload.

    Attributes:
        calls: every call that reached a function, as `PrefabCall` with the version that ran.
        files: the bytes of every file by s3 URL.
        cancelled: the ids of the jobs that were cancelled.

    Example:
        fake = FakeGateway()
        fake.prefab("translator", "1.0.0")(translate)
        result = fake.client().run("translator", "1.0.0", "translate", {"text": "Hello"})
    """

    def __init__(
        self,
        *,
        user: str = "user",
        agent: str | None = "agent",
        tokens: set[str] | None = None,
        api_keys: dict[str, str] | None = None,
        quota: int | None = None,
        part_size: int = 8 * 1024 * 1024,
    ) -> None:
        self.calls: list[PrefabCall] = []
        self.cancelled: list[str] = []
        self.tokens = tokens
        self.api_keys = api_keys or {}
        self.quota = quota
        self._store = FakeStore(user, agent, part_size)
        self._functions: dict[tuple[str, str], dict[str, Callable[..., Any]]] = {}
        self._deprecated: dict[tuple[str, str], str] = {}
        self._failures: list[GatewayError] = []
        self._jobs: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, Answer] = {}
        self._submitted: dict[str, Answer] = {}
        self._numbers = count(1)

    @property
    def files(self) -> dict[str, bytes]:
        """The bytes of every file by s3 URL."""
        return self._store.files

    @property
    def unfinished_uploads(self) -> int:
        """How many large uploads have begun and neither been completed nor given up."""
        return self._store.unfinished

    def client(self, internal_token: str | None = "fake-token", **settings: Any) -> GatewayClient:  # noqa: S107
        """A client of this gateway. `settings` are the client's own, such as `timeout`."""
        return GatewayClient(internal_token, "http://fake-gateway.test", transport=_Transport(self), **settings)

    def async_client(self, internal_token: str | None = "fake-token", **settings: Any) -> AsyncGatewayClient:  # noqa: S107
        """An asynchronous client of this gateway."""
        return AsyncGatewayClient(internal_token, "http://fake-gateway.test", transport=_Transport(self), **settings)

    def prefab(
        self, prefab_id: str, version: str, name: str | None = None, *, deprecated: str | None = None
    ) -> Callable[[_Function], _Function]:
        """Make a function callable through the gateway, under `name` or its own.

        `deprecated` says of the version what to use instead: results have it in their `warning`.
        """

        def register(function: _Function) -> _Function:
            self._functions.setdefault((prefab_id, version), {})[name or function.__name__] = function
            if deprecated is not None:
                self._deprecated[prefab_id, version] = deprecated
            return function

        return register

    def put(self, name: str, data: bytes) -> StoredFile:
        """Put a file into the store, as an input for calls."""
        url = self._store.new_url("inputs", name)
        self.files[url] = data
        return StoredFile(url, filename=name, size=len(data))

    def fail_next(self, *errors: GatewayError) -> None:
        """Have the next runs refused, one after the other."""
        self._failures.extend(errors)

    def answer(self, asked: Asked) -> Answer:
        """The answer to one request."""
        try:
            signed = self._store.signed(asked)
            if signed is not None:
                return signed
            if (asked.method, asked.path) == ("POST", _wire.CONVERT_KEY):
                return self._convert(asked)
            self._check_token(asked)
            return self._store.answer(asked) or self._route(asked)
        except GatewayError as error:
            return error_answer(error)

    def _route(self, asked: Asked) -> Answer:
        if (asked.method, asked.path) == ("POST", _wire.RUN):
            return self._run(asked)
        if (asked.method, asked.path) == ("POST", _wire.JOBS):
            return self._submit(asked)
        if asked.path.startswith("/v1/jobs/"):
            return self._job(asked)
        return json_answer({"detail": "Not Found"}, 404)

    def _check_token(self, asked: Asked) -> None:
        if self.tokens is not None and asked.headers.get("x-internal-token") not in self.tokens:
            raise AuthenticationError("the internal token is missing, wrong or has expired")

    def _convert(self, asked: Asked) -> Answer:
        token = self.api_keys.get(asked.headers.get("authorization", "").removeprefix("Bearer "))
        if token is None:
            raise AuthenticationError("the API key is not known")
        return json_answer({"internal_token": token})

    def _job(self, asked: Asked) -> Answer:
        job_id, _, action = asked.path.removeprefix("/v1/jobs/").partition("/")
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFoundError(f"there is no job {job_id}")
        if action == "cancel":
            canceled = job["status"] == "running"
            if canceled:
                job["status"] = "canceled"
                self.cancelled.append(job_id)
            return json_answer({"job_id": job_id, "status": job["status"], "canceled": canceled})
        if action == "result":
            return self._submitted.get(job_id) or json_answer({"job_id": job_id, "status": job["status"]}, 202)
        if action == "events":
            return self._job_events(job_id, int(asked.headers.get("last-event-id", 0)))
        if action == "logs":
            return Answer(200, {"content-type": "text/plain; charset=utf-8"}, b"")
        return json_answer(job)

    def _submit(self, asked: Asked) -> Answer:
        """A job that has run by the time that its submission is answered; `result` and `events` tell of it."""
        key = asked.headers.get("idempotency-key", "")
        if key in self._kept:
            return self._kept[key]
        try:
            answer = self._run(Asked(asked.method, _wire.RUN, {}, _as_run(asked.json())))
        except DeadlineExceededError as error:
            answer = error_answer(error)
        body = json.loads(answer.body) if isinstance(answer.body, bytes) else {}
        job_id = body.get("job_id") or body["detail"]["job_id"]
        self._submitted[job_id] = answer
        accepted = json_answer({"job_id": job_id, "status": "queued"}, 202)
        if key:
            self._kept[key] = accepted
        return accepted

    def _job_events(self, job_id: str, after: int) -> Answer:
        """A start and an end, with their numbers."""
        answer = self._submitted.get(job_id)
        body = json.loads(answer.body) if answer is not None and isinstance(answer.body, bytes) else {}
        last = (body.get("results") or [{}])[-1]
        end: dict[str, Any] = {"type": "done", "data": last.get("output")}
        if last.get("status") == "FAILED":
            error = last["error"]
            end = {"type": "error", "data": error["message"], "error_code": error["error_code"]}
        events = [{"type": "start", "data": {"job_id": job_id, "attempt": 1}}, end]
        frames = [f"id: {n}\ndata: {json.dumps(event)}\n\n".encode() for n, event in enumerate(events, 1) if n > after]
        return Answer(200, {"content-type": "text/event-stream"}, b"".join(frames))

    def _run(self, asked: Asked) -> Answer:
        key = asked.headers.get("idempotency-key", "")
        if key in self._kept:
            return self._kept[key]
        wish = asked.json()
        calls = [_call(item) for item in wish.get("calls") or []]
        if not calls:
            raise ValidationError("calls must hold at least one call")
        if self._failures:
            raise self._failures.pop(0)
        limit = _milliseconds(asked.headers.get("cancel-after"))
        if len(calls) == 1:
            answer = self._single(calls[0], bool(wish.get("stream")), limit)
        else:
            answer = json_answer(self._batch(calls, limit))
        if key and isinstance(answer.body, bytes):
            self._kept[key] = answer
        return answer

    def _single(self, call: PrefabCall, stream: bool, limit: float | None) -> Answer:
        call = self._resolved(call)
        job_id, begun = self._begin(call)
        about = self._about(call)
        headers = {"x-job-id": job_id, "x-prefab-version": about["version"]}
        if "warning" in about:
            headers["x-prefab-warning"] = "deprecated"
        if stream:
            return Answer(200, {"content-type": "text/event-stream", **headers}, self._frames(job_id, begun))
        result = self._finish(job_id, begun, limit) | about
        status = "COMPLETED" if result["status"] == "SUCCESS" else "FAILED"
        return json_answer({"job_id": job_id, "status": status, "results": [result]}, headers=headers)

    def _batch(self, calls: list[PrefabCall], limit: float | None) -> dict[str, Any]:
        results = []
        for call in map(self._resolved, calls):
            try:
                results.append(self._finish(*self._begin(call), limit) | self._about(call))
            except GatewayError as error:
                refusal = {"error_code": error.error_code, "message": error.message, **error.details}
                results.append({"status": "FAILED", "output": None, "error": refusal})
        good = sum(result["status"] == "SUCCESS" for result in results)
        status = "COMPLETED" if good == len(results) else "PARTIAL_SUCCESS" if good else "FAILED"
        return {"job_id": self._new_job(), "status": status, "results": results}

    def _resolved(self, call: PrefabCall) -> PrefabCall:
        """The call with the version that `latest` stands for."""
        versions = [version for prefab_id, version in self._functions if prefab_id == call.prefab_id]
        if call.version != "latest" or not versions:
            return call
        newest = max(versions, key=lambda version: [int(number) for number in re.findall(r"\d+", version)])
        return PrefabCall(call.prefab_id, newest, call.function_name, call.parameters, call.files)

    def _about(self, call: PrefabCall) -> dict[str, str]:
        """What a result says of the version that ran."""
        reason = self._deprecated.get((call.prefab_id, call.version))
        name = f"{call.prefab_id}@{call.version}"
        warning = {} if reason is None else {"warning": f"{name} is deprecated: {reason}"}
        return {"version": call.version, **warning}

    def _new_job(self) -> str:
        job_id = f"fake-job-{next(self._numbers)}"
        self._jobs[job_id] = {"id": job_id, "status": "running"}
        return job_id

    def _begin(self, call: PrefabCall) -> tuple[str, Iterator[dict[str, Any]]]:
        """Check a call, in the order of the real gateway, and prepare to run it."""
        function = self._functions.get((call.prefab_id, call.version), {}).get(call.function_name)
        if function is None:
            where = {"prefab_id": call.prefab_id, "version": call.version}
            name = f"{call.prefab_id}@{call.version} {call.function_name}"
            raise PrefabNotFoundError(f"there is no {name}", details=where)
        signature = inspect.signature(function)
        extra = {"files": call.files or {}} if "files" in signature.parameters else {}
        try:
            bound = signature.bind(**call.parameters, **extra)
        except TypeError as error:
            violation = {"pointer": "/parameters", "message": str(error)}
            raise ValidationError("the arguments do not fit", details={"errors": [violation]}) from error
        for url in (url for urls in (call.files or {}).values() for url in urls):
            if url.startswith("s3://fake/") and url not in self.files:
                raise RemoteFileNotFoundError(f"there is no file {url}")
        if self.quota is not None and len(self.calls) >= self.quota:
            numbers = {"limit": self.quota, "used": len(self.calls), "quota_type": "calls_per_day"}
            raise QuotaExceededError(f"the quota of {self.quota} calls is used up", details=numbers)
        self.calls.append(call)
        return self._new_job(), self._events(lambda: function(*bound.args, **bound.kwargs))

    def _events(self, function: Callable[[], Any]) -> Iterator[dict[str, Any]]:
        """What a call says: `start`, then what it yields, one terminal event. A plain function's is its envelope."""
        yield {"type": "start", "data": None}
        try:
            value = function()
            if inspect.iscoroutine(value):
                value = awaited(value)
            if isinstance(value, AsyncGenerator):
                value = one_by_one(value)
            if isinstance(value, Generator):
                yield from until_terminal(value)
                return
        except GatewayError:
            raise
        except Exception as error:
            failure = {"error_code": "PREFAB_ERROR", "type": type(error).__name__, "message": str(error)}
            yield {"type": "error", "data": str(error), "error_code": "PREFAB_ERROR", "error": failure}
            return
        output = value if isinstance(value, Output) else Output(value)
        files = {key: [self._write(name, data) for name, data in named.items()] for key, named in output.files.items()}
        yield {"type": "done", "data": {"status": "SUCCESS", "output": output.value, "files": files}, "plain": True}

    def _write(self, name: str, data: bytes) -> str:
        url = self._store.new_url("results", name)
        self.files[url] = data
        return url

    def _finish(self, job_id: str, events: Iterator[dict[str, Any]], limit: float | None) -> dict[str, Any]:
        """Collect the events of a call into its result."""
        start = time.monotonic()
        seen = list(events)
        if limit is not None and time.monotonic() - start > limit:
            self._jobs[job_id]["status"] = "timed_out"
            raise DeadlineExceededError("the function took longer than its deadline", job_id=job_id)
        last = seen[-1]
        result: dict[str, Any] = {"status": "SUCCESS", "output": None, "error": None, "job_id": job_id}
        if last["type"] == "error":
            code = last.get("error_code", "PREFAB_ERROR")
            result |= {"status": "FAILED", "error": last.get("error") or {"error_code": code, "message": last["data"]}}
        elif last.get("plain"):
            result["output"] = last["data"]
        else:
            result["output"] = {"status": "SUCCESS", "output": fold(seen), "files": last.get("files", {})}
        self._jobs[job_id]["status"] = "succeeded" if result["status"] == "SUCCESS" else "failed"
        return result

    def _frames(self, job_id: str, events: Iterator[dict[str, Any]]) -> Iterator[bytes]:
        job = self._jobs[job_id]
        try:
            for event in events:
                if job["status"] != "running":
                    return
                if event["type"] in ("done", "error"):
                    job["status"] = "succeeded" if event["type"] == "done" else "failed"
                shown = {name: value for name, value in event.items() if name not in ("plain", "error", "returned")}
                yield b"data: " + json.dumps(shown, ensure_ascii=False).encode() + b"\n\n"
        except GatewayError as error:
            job["status"] = "failed"
            frame = {"type": "error", "data": error.message, "error_code": error.error_code}
            yield b"data: " + json.dumps(frame).encode() + b"\n\n"


def error_answer(error: GatewayError) -> Answer:
    """An error as the gateway sends it."""
    status = error.status_code or _STATUS.get(error.error_code, 500)
    detail = {**error.details, "error_code": error.error_code, "message": error.message}
    if error.job_id:
        detail["job_id"] = error.job_id
    wait = error.details.get("retry_after")
    return json_answer({"detail": detail}, status, {} if wait is None else {"retry-after": str(wait)})


def _call(item: dict[str, Any]) -> PrefabCall:
    inputs = item.get("inputs") or {}
    return PrefabCall(
        item["prefab_id"], item["version"], item["function_name"], inputs.get("parameters") or {}, inputs.get("files")
    )


def _as_run(wish: dict[str, Any]) -> bytes:
    return json.dumps(wish if "calls" in wish else {"calls": [wish]}).encode()


def _milliseconds(value: str | None) -> float | None:
    return int(value.removesuffix("ms")) / 1000 if value else None


class _Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The way from a client to the fake."""

    def __init__(self, fake: FakeGateway) -> None:
        self._fake = fake

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request, request.read())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request, await request.aread())

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        answer = self._fake.answer(Asked(request.method, str(request.url), dict(request.headers), body))
        if isinstance(answer.body, bytes):
            return httpx.Response(answer.status, headers=answer.headers, content=answer.body)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Frames(answer.body))


class _Frames(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[bytes]:
        return self._frames

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for frame in self._frames:
            yield frame
