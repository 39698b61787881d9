"""What goes wrong, in words that name the next step, and the exit code that scripts see."""

import json
import os
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

    def __init__(
        self,
        message: str,
        code: Code = Code.FAILED,
        *,
        status: int | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        """The HTTP status of a gateway's refusal."""
        self.detail = {"error_code": _NAMES[code], "message": message, **(detail or {})}
        """The same for programs, as the HTTP API says it."""


_NAMES = {
    Code.FAILED: "FAILED",
    Code.USAGE: "USAGE",
    Code.AUTH: "UNAUTHENTICATED",
    Code.TIMEOUT: "DEADLINE_EXCEEDED",
    Code.INTERRUPTED: "CANCELED",
}
"""What programs are told where the gateway has said nothing itself."""
SERVE_DATA, DEV_DATA = "gateway-data", ".gateway"
"""Where gateways keep their data if nothing else is said."""
ADMIN_KEY = "admin.key"
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_WRONG_TYPE = re.compile(r'/parameters/(?P<name>\w+):? (?P<value>[^\n/]+) is not of type "(?P<type>\w+)"')
_CODES = {"UNAUTHENTICATED": Code.AUTH, "PERMISSION_DENIED": Code.AUTH, "DEADLINE_EXCEEDED": Code.TIMEOUT}
_STATUSES = {401: Code.AUTH, 403: Code.AUTH, 504: Code.TIMEOUT}
YOUR_FILES = "Your files: gateway file ls"
LONGER = "Give it longer with --timeout."
_NEXT_STEPS = {
    "FILE_NOT_FOUND": YOUR_FILES,
    "JOB_NOT_FOUND": "Your jobs: gateway job list",
    "AGENT_NOT_FOUND": "The agents that there are: gateway agent list",
    "USER_NOT_FOUND": "The users that there are: gateway user list",
    "QUOTA_EXCEEDED": "What is left: gateway quota show. An admin may raise it: gateway quota set",
    "DEADLINE_EXCEEDED": LONGER,
    "OVERLOADED": "Try again in a moment.",
}
"""What to do about a refusal, by its code; where the message itself says it, nothing."""
MOST_PROBLEMS = 20
START = "Start one with `gateway dev FOLDER` or `gateway serve`, or set GATEWAY_BASE_URL to where one is."
NO_KEY = "Under `gateway dev` no key is needed: unset GATEWAY_API_KEY"
NO_ADMIN = "the scope 'admin'"


def identify() -> str:
    """How to say who one is: with the key of a gateway whose data is here, if there is one."""
    here = _admin_keys()
    if here:
        return f"The key of the gateway in this folder: {use_of(here[0])}"
    return (
        "Set GATEWAY_API_KEY to an API key of this gateway: its admin makes one with `gateway key create --user NAME`, "
        f"and finds their own in its data folder: {use_of(Path(SERVE_DATA) / ADMIN_KEY)}"
    )


def admins_key() -> str:
    """How to use the key that may do everything."""
    here = _admin_keys() or [Path(name) / ADMIN_KEY for name in (SERVE_DATA, DEV_DATA)]
    return "\nUnder `gateway dev`: ".join(map(use_of, here))


def _admin_keys() -> list[Path]:
    """Those of gateways that keep their data in this folder."""
    return [found for name in (SERVE_DATA, DEV_DATA) if (found := Path(name) / ADMIN_KEY).exists()]


def use_of(key: Path) -> str:
    """What makes a shell use the API key in a file."""
    return f'export GATEWAY_API_KEY="$(cat {shlex.quote(str(key))})"'


def unreachable(base_url: str, reason: str) -> Failure:
    """Nobody answers."""
    step = START
    if "WRONG_VERSION_NUMBER" in reason:  # as OpenSSL says it
        step = f"It speaks no TLS there. Perhaps: export GATEWAY_BASE_URL={base_url.replace('https:', 'http:', 1)}"
    return Failure(
        f"No gateway answers at {base_url} ({_ERRNO.sub('', reason)}).\n{step}",
        detail={"error_code": "CONNECTION_FAILED"},
    )


def refused(status: int, detail: dict[str, Any]) -> Failure:
    """The gateway said no."""
    message = said = str(detail.get("message") or f"The gateway answered with HTTP {status}.")
    problems = detail.get("errors")
    if isinstance(problems, list):
        told = [f"  {item.get('pointer') or '/'}: {item.get('message')}" for item in problems if isinstance(item, dict)]
        told = [line for line in told if line.split(": ", 1)[1] not in message]
        message = "\n".join([message, *told[:MOST_PROBLEMS]])
    if "is not of type" in message:
        message += f"\n{_way_to_give(message)}"
    error_code = str(detail.get("error_code"))
    message, step = _with_next_step(status, error_code, message)
    if error_code == "NOT_FOUND" and "prefab_id" in detail and "has no function" not in message:
        step = "What is published: gateway prefab list"
    code = error_code if "error_code" in detail else "HTTP_ERROR"
    return Failure(
        f"{message}\n{step}" if step else message,
        code_of(status, error_code),
        status=status,
        detail={**detail, "error_code": code, "message": said},
    )


def _way_to_give(message: str) -> str:
    """How the parameter is given of which the type is not the one that is needed."""
    wrong = _WRONG_TYPE.search(message)
    hint = "Parameters given as k=v are texts; give numbers, lists and the like as k:=json"
    if wrong is None:
        return f"{hint}."
    name, value = wrong["name"], wrong["value"]
    if wrong["type"] == "string":
        return f"Texts are given as k=v, without a colon: -p {shlex.quote(f'{name}={value}')}"
    try:
        text = json.loads(value)
    except ValueError:  # a long one is shortened
        text = None
    return f"{hint}: -p {shlex.quote(f'{name}:={text}')}" if isinstance(text, str) else f"{hint}."


def _with_next_step(status: int, error_code: str, message: str) -> tuple[str, str | None]:
    """A refusal in words of the command line, which knows where keys are, and what to do about it."""
    if status == 401 and "may not call" not in message:  # who is shut out needs no key
        if not os.environ.get("GATEWAY_API_KEY", "").strip():
            return "GATEWAY_API_KEY is not set.", identify()
        needs_none = (Path(DEV_DATA) / ADMIN_KEY).exists()
        return message, f"{NO_KEY}\n{identify()}" if needs_none else identify()
    if error_code == "PERMISSION_DENIED" and NO_ADMIN in message:
        return f"This needs an admin's key. The first start of a gateway wrote one: {admins_key()}", None
    return message, _NEXT_STEPS.get(error_code)


def code_of(status: int | None, error_code: str = "") -> Code:
    """The exit code of a refusal, by what it is called or by its HTTP status."""
    return _CODES.get(error_code) or _STATUSES.get(status or 0, Code.FAILED)


def explain(error: BaseException) -> Failure:
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
        return Failure(str(error), Code.TIMEOUT, detail=_detail(error))
    if isinstance(error, sdk.ConnectionFailedError) and error.status_code is None:
        reason = _ERRNO.sub("", str(error.__cause__ or "") or str(error))
        message = f"The connection to the gateway was lost: {reason}.\n{START}"
        return Failure(message, detail={**_detail(error), "message": message})
    if error.status_code is not None:
        return refused(error.status_code, {**error.details, "message": str(error)})
    code = Code.AUTH if isinstance(error, sdk.AuthenticationError) else Code.FAILED
    return Failure(str(error), code, detail=_detail(error))


def _detail(error: Any) -> dict[str, Any]:
    job = {"job_id": error.job_id} if error.job_id else {}
    return {**error.details, "error_code": error.error_code, "message": error.message, **job}
