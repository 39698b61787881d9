"""What the gateway refuses or fails with. One class a code; the HTTP layer turns them into answers.

GatewayFault
├── Unauthenticated 401            ├── MissingSecret 400
├── PermissionDenied 403           ├── MissingAgentContext 400
├── NotFound 404                   ├── Invalid 422
│   ├── FileNotFound               ├── PayloadTooLarge 413
│   ├── JobNotFound                ├── QuotaExceeded 429
│   ├── AgentNotFound              ├── IdempotencyConflict 422
│   └── UserNotFound               ├── RuntimeCrashed 502
├── VersionExists 409              ├── VersionInUse 409
├── MethodNotAllowed 405           ├── Canceled 409
├── RequestTimeout 408             ├── HeadTooLarge 431
├── ServiceUnavailable 503         ├── Overloaded 503
├── DeadlineExceeded 504           └── InternalError 500

Failures of user code are no faults: they are data in a result.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong with an input: a JSON pointer to it, and what to do."""

    pointer: str
    message: str


class GatewayFault(Exception):
    """The root: a message for people, a code and extra members for programs."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_SERVER_ERROR"
    usual_wait: ClassVar[float | None] = None
    """Seconds after which another try is worth it, where nobody knows better."""

    def __init__(self, message: str, *, retry_after: float | None = None, **members: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = self.usual_wait if retry_after is None else retry_after
        self.members = members

    def detail(self) -> dict[str, Any]:
        """The error as callers see it."""
        return {"error_code": self.code, "message": self.message, **self.members}


class Unauthenticated(GatewayFault):
    """Nobody we know."""

    status, code = 401, "UNAUTHENTICATED"


class PermissionDenied(GatewayFault):
    """Somebody we know, who may not do this."""

    status, code = 403, "PERMISSION_DENIED"


class MissingAgentContext(GatewayFault):
    """The operation belongs to an agent, and the token names none."""

    status, code = 400, "MISSING_AGENT_CONTEXT"


class MissingSecret(GatewayFault):
    """The function needs a secret that the caller has not set."""

    status, code = 400, "MISSING_SECRET"

    def __init__(self, prefab_id: str, secret_name: str, instructions: str | None) -> None:
        message = f"The secret {secret_name} of prefab {prefab_id} is not set."
        if instructions:
            message += f" {instructions}"
        message += f" Set it with: gateway secret set {prefab_id} {secret_name}"
        super().__init__(message, prefab_id=prefab_id, secret_name=secret_name, instructions=instructions)


class NotFound(GatewayFault):
    """No such prefab, version or function."""

    status, code = 404, "NOT_FOUND"


class FileNotFound(NotFound):
    """No such file, or none that this caller may know of."""

    code = "FILE_NOT_FOUND"


class JobNotFound(NotFound):
    """No such job, or none of this caller's."""

    code = "JOB_NOT_FOUND"


class AgentNotFound(NotFound):
    """No such agent."""

    code = "AGENT_NOT_FOUND"


class UserNotFound(NotFound):
    """No user of that name."""

    code = "USER_NOT_FOUND"


class Invalid(GatewayFault):
    """The input is wrong; every violation is told."""

    status, code = 422, "VALIDATION_ERROR"

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message, errors=[problem._asdict() for problem in self.problems])


class MethodNotAllowed(GatewayFault):
    """The address exists, and does not take this method."""

    status, code = 405, "METHOD_NOT_ALLOWED"
    allowed = ""
    """As the header Allow has it."""

    def __init__(self, path: str, method: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"{path} does not take {method}; it takes {self.allowed}.")


class RequestTimeout(GatewayFault):
    """The request did not come to its end."""

    status, code = 408, "REQUEST_TIMEOUT"


class HeadTooLarge(GatewayFault):
    """More headers than anybody needs."""

    status, code = 431, "HEADERS_TOO_LARGE"


class PayloadTooLarge(GatewayFault):
    """More bytes than the limit."""

    status, code = 413, "PAYLOAD_TOO_LARGE"


class VersionExists(GatewayFault):
    """This version was published with other content; versions never change."""

    status, code = 409, "VERSION_EXISTS"


class VersionInUse(GatewayFault):
    """Calls of the version run, so it cannot be removed."""

    status, code = 409, "VERSION_IN_USE"


class IdempotencyConflict(GatewayFault):
    """The same key came with another body."""

    status, code = 422, "IDEMPOTENCY_CONFLICT"


class QuotaExceeded(GatewayFault):
    """The caller has used up what it was given. `reset_at` is None where no time will help."""

    status, code = 429, "QUOTA_EXCEEDED"

    def __init__(
        self,
        message: str,
        *,
        limit: int,
        used: float,
        quota_type: str,
        subject: str = "user",
        reset_at: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            message,
            retry_after=retry_after,
            limit=limit,
            used=used,
            quota_type=quota_type,
            subject=subject,
            reset_at=reset_at,
        )


class Canceled(GatewayFault):
    """Somebody ended it."""

    status, code = 409, "CANCELED"


class RuntimeCrashed(GatewayFault):
    """The process that ran the function died."""

    status, code = 502, "RUNTIME_CRASHED"


class ServiceUnavailable(GatewayFault):
    """Something that the gateway needs does not answer."""

    status, code = 503, "SERVICE_UNAVAILABLE"
    usual_wait = 2.0


class Overloaded(GatewayFault):
    """More work than the gateway takes at once."""

    status, code = 503, "OVERLOADED"
    usual_wait = 2.0


class DeadlineExceeded(GatewayFault):
    """The call's time was over."""

    status, code = 504, "DEADLINE_EXCEEDED"


class InternalError(GatewayFault):
    """A mistake of the gateway itself."""


def from_detail(detail: dict[str, Any]) -> GatewayFault:
    """A fault once more, from what `detail` gave and was stored."""
    known = {kind.code: kind for kind in _kinds(GatewayFault)}
    fault = GatewayFault.__new__(known.get(detail["error_code"], InternalError))
    members = {name: value for name, value in detail.items() if name not in ("error_code", "message")}
    GatewayFault.__init__(fault, detail["message"], **members)
    return fault


def _kinds(above: type[GatewayFault]) -> Iterable[type[GatewayFault]]:
    for kind in above.__subclasses__():
        yield kind
        yield from _kinds(kind)
