"""What goes wrong, in words that name the next step, and the exit code that scripts see."""

import re
import shlex
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any


class Code(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    AUTH = 3
    TIMEOUT = 4
    INTERRUPTED = 130


class Failure(Exception):
    """Ends the command."""

    def __init__(self, message: str, code: Code = Code.FAILED, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        """The HTTP status of a gateway's refusal."""


SERVE_DATA, DEV_DATA = "gateway-data", ".gateway"
"""Where gateways keep their data if nothing else is said."""
ADMIN_KEY = "admin.key"
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_CODES = {"UNAUTHENTICATED": Code.AUTH, "PERMISSION_DENIED": Code.AUTH, "DEADLINE_EXCEEDED": Code.TIMEOUT}
_STATUSES = {401: Code.AUTH, 403: Code.AUTH, 504: Code.TIMEOUT}
_NEXT_STEPS = {
    "FILE_NOT_FOUND": "Your files: gateway file ls",
    "JOB_NOT_FOUND": "Your jobs: gateway job list",
    "AGENT_NOT_FOUND": "The agents that there are: gateway agent list",
    "USER_NOT_FOUND": "The users that there are: gateway user list",
    "VERSION_EXISTS": "Raise the version in prefab-manifest.json, and publish again.",
    "QUOTA_EXCEEDED": "What is left: gateway quota show. An admin may raise it: gateway quota set",
    "DEADLINE_EXCEEDED": "Give it longer with --timeout.",
    "OVERLOADED": "Try again in a moment.",
}
"""What to do about a refusal, by its code; where the message itself says it, nothing."""
MOST_PROBLEMS = 20


def identify() -> str:
    """How to say who one is: with the key of a gateway whose data is here, if there is one."""
    here = next((found for name in (SERVE_DATA, DEV_DATA) if (found := Path(name) / ADMIN_KEY).exists()), None)
    if here is not None:
        return f"The key of the gateway in this folder: {use_of(here)}"
    return (
        "Set GATEWAY_API_KEY to an API key of this gateway: its admin makes one with `gateway key create --user NAME`, "
        f"and finds their own in its data folder: {use_of(Path(SERVE_DATA) / ADMIN_KEY)}"
    )


def use_of(key: Path) -> str:
    """What makes a shell use the API key in a file."""
    return f'export GATEWAY_API_KEY="$(cat {shlex.quote(str(key))})"'


def unreachable(base_url: str, reason: str) -> Failure:
    """Nobody answers."""
    return Failure(
        f"No gateway answers at {base_url} ({_ERRNO.sub('', reason)}).\n"
        "Start one with `gateway serve`, or set GATEWAY_BASE_URL to where one is."
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
    error_code = str(detail.get("error_code"))
    is_unknown = status == 401 and "may not call" not in message  # who is shut out needs no key
    step = identify() if is_unknown else _NEXT_STEPS.get(error_code)
    if error_code == "NOT_FOUND" and "prefab_id" in detail:
        step = "What is published: gateway prefab list"
    return Failure(f"{message}\n{step}" if step else message, code_of(status, error_code), status=status)


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
        return Failure(f"{error}\nStart a gateway with `gateway serve`, or set GATEWAY_BASE_URL to where one is.")
    if error.status_code is not None:
        return refused(error.status_code, {**error.details, "message": str(error)})
    code = Code.AUTH if isinstance(error, sdk.AuthenticationError) else Code.FAILED
    return Failure(str(error), code)
