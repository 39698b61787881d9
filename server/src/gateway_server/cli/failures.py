"""What goes wrong, in words that name the next step, and the exit code that scripts see."""

import sys
from enum import IntEnum
from typing import Any


class Code(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    AUTH = 3
    TIMEOUT = 4


class Failure(Exception):
    """Ends the command."""

    def __init__(self, message: str, code: Code = Code.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


HOW_TO_IDENTIFY = (
    "Set GATEWAY_API_KEY to an API key of this gateway. On the machine that serves it the first one is in its data "
    "folder: export GATEWAY_API_KEY=$(cat gateway-data/admin.key)"
)
_CODES = {"UNAUTHENTICATED": Code.AUTH, "PERMISSION_DENIED": Code.AUTH, "DEADLINE_EXCEEDED": Code.TIMEOUT}
_STATUSES = {401: Code.AUTH, 403: Code.AUTH, 504: Code.TIMEOUT}
MOST_PROBLEMS = 20


def unreachable(base_url: str, reason: str) -> Failure:
    """Nobody answers."""
    return Failure(
        f"No gateway answers at {base_url} ({reason}).\n"
        "Start one with `gateway serve`, or set GATEWAY_BASE_URL to where it is."
    )


def refused(status: int, detail: dict[str, Any]) -> Failure:
    """The gateway said no."""
    message = str(detail.get("message") or f"The gateway answered with HTTP {status}.")
    problems = detail.get("errors")
    if isinstance(problems, list):
        told = [f"  {item.get('pointer') or '/'}: {item.get('message')}" for item in problems if isinstance(item, dict)]
        told = [line for line in told if line.split(": ", 1)[1] not in message]
        message = "\n".join([message, *told[:MOST_PROBLEMS]])
    if "is not of type" in message:
        message += "\nParameters given as k=v are texts; give numbers, lists and the like as k:=json."
    if status == 401:
        message += f"\n{HOW_TO_IDENTIFY}"
    return Failure(message, code_of(status, str(detail.get("error_code"))))


def code_of(status: int | None, error_code: str = "") -> Code:
    """The exit code of a refusal, by what it is called or by its HTTP status."""
    return _CODES.get(error_code) or _STATUSES.get(status or 0, Code.FAILED)


def explain(error: Exception) -> Failure:
    """Any exception as a failure; those of libraries only if the library has been imported at all."""
    if isinstance(error, Failure):
        return error
    sdk = sys.modules.get("gateway_sdk")
    if sdk is not None and isinstance(error, sdk.GatewayError):
        return _from_sdk(sdk, error)
    faults = sys.modules.get("gateway_server.errors")
    if faults is not None and isinstance(error, faults.GatewayFault):
        return refused(error.status, error.detail())
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return Failure(f"{error.strerror or error}{where}")
    return Failure(
        f"{type(error).__name__}: {error}\nThis is a mistake in the gateway's command line; "
        "run it again with GATEWAY_DEBUG=1 to see where."
    )


def _from_sdk(sdk: Any, error: Any) -> Failure:
    if isinstance(error, sdk.DeadlineExceededError):
        return Failure(str(error), Code.TIMEOUT)
    if isinstance(error, sdk.ConnectionFailedError) and error.status_code is None:
        return Failure(f"{error}\nIs a gateway running? Start one with `gateway serve`, or set GATEWAY_BASE_URL.")
    if error.status_code is not None:
        return refused(error.status_code, {**error.details, "message": str(error)})
    code = Code.AUTH if isinstance(error, sdk.AuthenticationError) else Code.FAILED
    return Failure(str(error), code)
