"""Requests and answers as the gateway in memory sees them: the part of `testing.FakeGateway` that knows HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .._failures import error_from_reply
from ..exceptions import (
    AgentContextRequiredError,
    AuthenticationError,
    ConflictError,
    DeadlineExceededError,
    GatewayError,
    InternalServerError,
    MissingSecretError,
    PermissionDeniedError,
    PrefabNotFoundError,
    QuotaExceededError,
    RuntimeCrashedError,
    ServiceUnavailableError,
    ValidationError,
)

_STATUS: dict[type[GatewayError], int] = {
    AuthenticationError: 401,
    PermissionDeniedError: 403,
    AgentContextRequiredError: 400,
    MissingSecretError: 400,
    PrefabNotFoundError: 404,
    ValidationError: 422,
    QuotaExceededError: 429,
    ConflictError: 409,
    ServiceUnavailableError: 503,
    RuntimeCrashedError: 502,
    DeadlineExceededError: 504,
    InternalServerError: 500,
    GatewayError: 418,  # one by which the client knows no kind of error
}
_BY_CODE = {"PAYLOAD_TOO_LARGE": 413, "IDEMPOTENCY_CONFLICT": 422}


class Asked:
    """A request as the fake sees it: `headers` in lower case, `query` without repeats.

    `agent` is who asks; None for a caller outside an agent.
    """

    agent: str | None = None

    def __init__(self, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
        parts = urlsplit(url)
        self.method = method
        self.path = unquote(parts.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers = headers
        self.body = body
        self.host = f"http://{headers.get('host', 'fake-gateway.test')}"

    def json(self) -> dict[str, Any]:
        """The body as an object.

        Raises:
            ValidationError: it is none.
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise ValidationError(f"the body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ValidationError("the body is no JSON object")
        return value


class Answer:
    """An answer; the body of a stream is an iterator."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes | Iterator[bytes] = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value).encode())


def error_answer(error: GatewayError, job_id: str | None = None) -> Answer:
    """An error as the gateway sends it; `job_id` is the job that it ended.

    Raises:
        GatewayError: the error itself, where no answer tells a client of it: a connection that broke, bytes that did
            not arrive whole, details that are no JSON.
    """
    detail = detail_of(error)
    if named := error.job_id or job_id:
        detail["job_id"] = named
    wait = error.details.get("retry_after")
    try:
        answer = json_answer({"detail": detail}, status_of(error), {} if wait is None else {"retry-after": str(wait)})
    except (TypeError, ValueError):  # details that JSON cannot hold
        raise error from None
    assert isinstance(answer.body, bytes)
    if type(error_from_reply(answer.status, answer.headers, answer.body, "")) is not type(error):
        raise error
    return answer


def detail_of(error: GatewayError) -> dict[str, Any]:
    """What the gateway tells of an error."""
    return {"error_code": error.error_code, "message": error.message, **error.details}


def status_of(error: GatewayError) -> int:
    """The HTTP status that an error has."""
    by_kind = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    return error.status_code or _BY_CODE.get(error.error_code, by_kind)


def refusal(pointer: str, message: str, sentence: str = "") -> ValidationError:
    """What a request is refused with that is wrong in one place; `sentence` tells it by itself."""
    return refusals([(pointer, message)], sentence=sentence)


def refusals(problems: list[tuple[str, str]], *, of: str = "", sentence: str = "") -> ValidationError:
    """The same for several places, as (pointer, message); `of` is the function whose arguments they are."""
    told = "; ".join(f"{pointer or 'the body'} {message}" for pointer, message in problems)
    errors = [{"pointer": pointer, "message": message} for pointer, message in problems]
    message = sentence or f"{of + ': ' if of else ''}The input is not valid: {told}."
    return ValidationError(message, details={"errors": errors})
