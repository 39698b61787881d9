"""Which exception an answer means, and whether it is worth another try. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from ._typing import Any
from .exceptions import (
    AgentContextRequiredError,
    AgentNotFoundError,
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    DeadlineExceededError,
    GatewayError,
    InternalServerError,
    JobNotFoundError,
    MissingSecretError,
    OverloadedError,
    PermissionDeniedError,
    PrefabNotFoundError,
    QuotaExceededError,
    RemoteFileNotFoundError,
    RuntimeCrashedError,
    ServiceUnavailableError,
    ValidationError,
)

BY_CODE: dict[str, type[GatewayError]] = {
    "UNAUTHENTICATED": AuthenticationError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "MISSING_SECRET": MissingSecretError,
    "MISSING_AGENT_CONTEXT": AgentContextRequiredError,
    "NOT_FOUND": PrefabNotFoundError,
    "FILE_NOT_FOUND": RemoteFileNotFoundError,
    "JOB_NOT_FOUND": JobNotFoundError,
    "AGENT_NOT_FOUND": AgentNotFoundError,
    "PAYLOAD_TOO_LARGE": ValidationError,
    "HEADERS_TOO_LARGE": ValidationError,
    "VALIDATION_ERROR": ValidationError,
    "REQUEST_TIMEOUT": DeadlineExceededError,
    "QUOTA_EXCEEDED": QuotaExceededError,
    "RUNTIME_CRASHED": RuntimeCrashedError,
    "SERVICE_UNAVAILABLE": ServiceUnavailableError,
    "OVERLOADED": OverloadedError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "INTERNAL_SERVER_ERROR": InternalServerError,
    "IDEMPOTENCY_CONFLICT": ConflictError,
    "VERSION_EXISTS": ConflictError,
}

# For answers that name no code we know: those of proxies, and of gateways newer than this client.
BY_STATUS: dict[int, type[GatewayError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: PrefabNotFoundError,
    408: DeadlineExceededError,
    409: ConflictError,
    413: ValidationError,
    422: ValidationError,
    429: QuotaExceededError,
    500: InternalServerError,
    504: DeadlineExceededError,
}

LONGEST_QUOTA_WAIT = 5.0  # seconds; a quota that opens later is the caller's to wait for
LONGEST_WAIT = 30.0  # seconds
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 5.0


def error_from_reply(status: int, headers: Mapping[str, str], body: bytes, asked: str) -> GatewayError:
    """The exception for an answer that is no success. `asked` says what was asked, such as "GET http://host/path"."""
    detail = _detail(body)
    code = detail.get("error_code")
    code = code if isinstance(code, str) and code else None
    kind = BY_CODE.get(code or "") or BY_STATUS.get(status) or _by_range(status)
    wait = _retry_after(headers.get("retry-after"))
    if wait is not None:
        detail.setdefault("retry_after", wait)
    message = detail.get("message")
    if not isinstance(message, str) or not message:
        message = "" if code else _foreign_message(status, headers, body, asked)
    job_id = detail.get("job_id") or headers.get("x-job-id")
    return kind(
        message,
        error_code=code,
        status_code=status,
        details=detail,
        job_id=job_id if isinstance(job_id, str) else None,
    )


def _by_range(status: int) -> type[GatewayError]:
    return ServiceUnavailableError if status >= 500 else GatewayError


def _detail(body: bytes) -> dict[str, Any]:
    """The `detail` object of an error body; made up from what is there if the body has another shape."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(answer, dict):
        return {}
    detail = answer.get("detail")
    if isinstance(detail, dict):
        return dict(detail)
    if isinstance(detail, list):  # FastAPI's own validation errors
        return {"message": "the request was refused as invalid", "errors": [_violation(item) for item in detail]}
    made: dict[str, Any] = {key: answer[key] for key in ("error_code", "message") if key in answer}
    said = detail or answer.get("title") or answer.get("error")
    if isinstance(said, str):
        made.setdefault("message", said)
    return made


def _violation(item: object) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {"pointer": "", "message": str(item)}
    place = item.get("loc")
    pointer = "".join(f"/{part}" for part in place) if isinstance(place, list) else ""
    return {"pointer": pointer, "message": str(item.get("msg", ""))}


def _foreign_message(status: int, headers: Mapping[str, str], body: bytes, asked: str) -> str:
    if 300 <= status < 400:
        return f"HTTP {status} to {asked}: redirected to {headers.get('location', '?')}; is the address right?"
    text = " ".join(body[:2000].decode("utf-8", "replace").split())
    excerpt = "" if "<" in text[:20] else text[:200]
    return f"HTTP {status} to {asked}" + (f": {excerpt}" if excerpt else "; is this the address of the gateway?")


def _retry_after(value: str | None) -> float | None:
    # Only the form in seconds: the other one, a date, would need the two machines' clocks to agree.
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def retry_delay(error: GatewayError, attempt: int) -> float | None:
    """Seconds to wait before trying again after failure number `attempt` (from 0), or None: do not.

    A deadline that has passed, a crash and a long quota are final: the same call would end the same way.
    """
    if isinstance(error, QuotaExceededError):
        wait = error.retry_after
        return wait if wait is not None and wait <= LONGEST_QUOTA_WAIT else None
    may_retry = isinstance(error, ConnectionFailedError | OverloadedError) or type(error) is ServiceUnavailableError
    if not may_retry or not isinstance(error, ServiceUnavailableError):
        return None
    wait = error.retry_after
    if wait is not None:
        return wait if wait <= LONGEST_WAIT else None
    return backoff(attempt)


def backoff(attempt: int) -> float:
    """Seconds: doubling from 0.1 to 5, with half of it random so that clients do not come back together."""
    full = min(_FIRST_BACKOFF * 2.0**attempt, _LONGEST_BACKOFF)
    return full * (0.5 + os.urandom(1)[0] / 510)
