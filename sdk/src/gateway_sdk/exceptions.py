"""Everything the SDK raises. One root, so that `except GatewayError` catches all of it.

GatewayError
├── AuthenticationError              401  no token, a wrong one, or one that has expired
│   └── PermissionDeniedError        403  known, but not allowed to do this
├── AgentContextRequiredError        400  a file operation outside an agent
├── MissingSecretError               400  .prefab_id .secret_name .instructions
├── PrefabNotFoundError              404  .prefab_id .version; also an unknown function
│   ├── RemoteFileNotFoundError      404  no such file in the store
│   ├── JobNotFoundError             404
│   └── AgentNotFoundError           404
├── ValidationError                  422, 413, and what is refused before anything is sent; .errors
├── QuotaExceededError               429  .used .limit .quota_type .reset_at .retry_after
├── ConflictError                    409, 422  a reused idempotency key, a version that exists
├── ServiceUnavailableError          502-504  .retry_after; retried by the client where that is safe
│   ├── ConnectionFailedError        nobody answered, or the connection broke
│   ├── OverloadedError              503
│   ├── RuntimeCrashedError          502  the process that ran the function died
│   ├── DeadlineExceededError        504  `timeout` is over
│   └── InternalServerError          500
├── TransferError                    the bytes of a file did not arrive whole
└── LocalFileError                   a file of this machine cannot be sent
    ├── LocalFileNotFoundError       also a FileNotFoundError
    ├── LocalIsADirectoryError       also an IsADirectoryError
    ├── LocalPermissionError         also a PermissionError
    └── LocalFileChangedError        it changed while it was being sent

`str(error)` is a sentence for a person. Programs read `.error_code`, `.status_code` and the fields above. Every error
can be pickled and copied, so it survives process pools and task queues.
"""

from __future__ import annotations

from ._typing import Any

__all__ = [
    "AgentContextRequiredError",
    "AgentNotFoundError",
    "AuthenticationError",
    "ConflictError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "GatewayError",
    "InternalServerError",
    "JobNotFoundError",
    "LocalFileChangedError",
    "LocalFileError",
    "LocalFileNotFoundError",
    "LocalIsADirectoryError",
    "LocalPermissionError",
    "MissingSecretError",
    "OverloadedError",
    "PermissionDeniedError",
    "PrefabNotFoundError",
    "QuotaExceededError",
    "RemoteFileNotFoundError",
    "RuntimeCrashedError",
    "ServiceUnavailableError",
    "TransferError",
    "ValidationError",
]


class GatewayError(Exception):
    """Something went wrong between this program and the gateway.

    Attributes:
        message: what happened, as a sentence.
        error_code: the gateway's name for it, such as "QUOTA_EXCEEDED".
        status_code: the HTTP status, or None where no answer was received.
        details: the gateway's whole `detail` object, {} if there was none.
        job_id: the job that it concerns, for support; None where there is none.

    Example:
        >>> str(GatewayError("the call was refused", job_id="7f3a"))
        'the call was refused (job 7f3a)'
    """

    default_code = "GATEWAY_ERROR"

    def __init__(
        self,
        message: str = "",
        *,
        error_code: str | None = None,
        status_code: int | None = None,
        details: dict[str, Any] | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = dict(details or {})
        self.error_code = error_code or self.default_code
        self.message = message or self._default_message()
        self.status_code = status_code
        self.job_id = job_id

    def _default_message(self) -> str:
        """Used where the gateway sent no message: the first line of the class's own description."""
        return (type(self).__doc__ or self.error_code).splitlines()[0].rstrip(".")

    def __str__(self) -> str:
        return f"{self.message} (job {self.job_id})" if self.job_id else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[GatewayError], state: dict[str, Any]) -> GatewayError:
    # Not through __init__: subclasses may be called differently, and the built-in bases have rules of their own.
    error = kind.__new__(kind, state.get("message", ""))
    error.__dict__.update(state)
    error.args = (state.get("message", ""),)
    return error


class AuthenticationError(GatewayError):
    """The gateway does not accept this token or API key."""

    default_code = "UNAUTHENTICATED"


class PermissionDeniedError(AuthenticationError):
    """The caller is known but not allowed to do this."""

    default_code = "PERMISSION_DENIED"


class AgentContextRequiredError(GatewayError):
    """Files can only be used inside an agent, in a call that came through the gateway."""

    default_code = "MISSING_AGENT_CONTEXT"


class MissingSecretError(GatewayError):
    """The function needs a secret that has not been set."""

    default_code = "MISSING_SECRET"

    @property
    def prefab_id(self) -> str | None:
        """The prefab that needs the secret."""
        return _text(self.details.get("prefab_id"))

    @property
    def secret_name(self) -> str | None:
        """The name under which the secret must be set."""
        return _text(self.details.get("secret_name"))

    @property
    def instructions(self) -> str | None:
        """How to get one, in the words of the prefab's author."""
        return _text(self.details.get("instructions"))


class PrefabNotFoundError(GatewayError):
    """There is no such prefab, version or function."""

    default_code = "NOT_FOUND"

    @property
    def prefab_id(self) -> str | None:
        """The prefab that was asked for."""
        return _text(self.details.get("prefab_id"))

    @property
    def version(self) -> str | None:
        """The version that was asked for."""
        return _text(self.details.get("version"))


class RemoteFileNotFoundError(PrefabNotFoundError):
    """There is no such file in the store."""

    default_code = "FILE_NOT_FOUND"


class JobNotFoundError(PrefabNotFoundError):
    """There is no such job."""

    default_code = "JOB_NOT_FOUND"


class AgentNotFoundError(PrefabNotFoundError):
    """There is no such agent."""

    default_code = "AGENT_NOT_FOUND"


class ValidationError(GatewayError):
    """The call does not fit what the function expects."""

    default_code = "VALIDATION_ERROR"

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Each violation as {"pointer": where, "message": what}."""
        found = self.details.get("errors")
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    def __str__(self) -> str:
        told = [f"{item.get('pointer') or '/'}: {item.get('message', '')}" for item in self.errors]
        missing = [line for line, item in zip(told, self.errors, strict=True) if not _said(self.message, item)]
        text = f"{self.message}: {'; '.join(missing)}" if missing else self.message
        return f"{text} (job {self.job_id})" if self.job_id else text


class QuotaExceededError(GatewayError):
    """The quota is used up."""

    default_code = "QUOTA_EXCEEDED"

    @property
    def used(self) -> int | None:
        """Calls counted so far in this period; for other quotas seconds or bytes."""
        return _number(self.details.get("used"))

    @property
    def limit(self) -> int | None:
        """Calls allowed in this period; for other quotas seconds or bytes."""
        return _number(self.details.get("limit"))

    @property
    def quota_type(self) -> str | None:
        """Which quota it is, such as "calls_per_day", "concurrent_calls" or "stored_bytes"."""
        return _text(self.details.get("quota_type"))

    @property
    def reset_at(self) -> str | None:
        """When the period ends, RFC 3339 in UTC; None where no time helps, as with stored bytes."""
        return _text(self.details.get("reset_at"))

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may succeed again."""
        return _seconds(self.details.get("retry_after"))

    def _default_message(self) -> str:
        return (
            f"the quota is used up: {self.used} of {self.limit}" if self.limit is not None else "the quota is used up"
        )


class ConflictError(GatewayError):
    """This contradicts something that already exists."""

    default_code = "CONFLICT"


class ServiceUnavailableError(GatewayError):
    """The gateway cannot serve this call at the moment."""

    default_code = "SERVICE_UNAVAILABLE"

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the gateway asks to be tried again."""
        return _seconds(self.details.get("retry_after"))


class ConnectionFailedError(ServiceUnavailableError):
    """The gateway could not be reached, or the connection broke."""

    default_code = "CONNECTION_FAILED"


class OverloadedError(ServiceUnavailableError):
    """The gateway has more work than it can take."""

    default_code = "OVERLOADED"


class RuntimeCrashedError(ServiceUnavailableError):
    """The process that ran the function died."""

    default_code = "RUNTIME_CRASHED"


class DeadlineExceededError(ServiceUnavailableError):
    """The call took longer than its timeout."""

    default_code = "DEADLINE_EXCEEDED"


class InternalServerError(ServiceUnavailableError):
    """The gateway failed."""

    default_code = "INTERNAL_SERVER_ERROR"


class TransferError(GatewayError):
    """The bytes of a file did not arrive whole."""

    default_code = "TRANSFER_FAILED"


class LocalFileError(GatewayError):
    """A file of this machine cannot be read."""

    default_code = "LOCAL_FILE_ERROR"


class LocalFileNotFoundError(LocalFileError, FileNotFoundError):
    """There is no such file on this machine."""


class LocalIsADirectoryError(LocalFileError, IsADirectoryError):
    """A file was expected, this is a directory."""


class LocalPermissionError(LocalFileError, PermissionError):
    """This file may not be read."""


class LocalFileChangedError(LocalFileError):
    """The file changed while it was being sent."""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _said(message: str, violation: dict[str, Any]) -> bool:
    text = violation.get("message")
    return not isinstance(text, str) or text in message
