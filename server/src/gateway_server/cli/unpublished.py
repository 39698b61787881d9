"""Versions that are not there because they could not be published."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway_server.cli import http
from gateway_server.cli.failures import Failure, explain

NOT_FOUND = 404
LATEST = "latest"


@contextmanager
def explained(prefab: tuple[str, str]) -> Iterator[None]:
    """Where a version is not found, says why it could not be published, to those who tried."""
    try:
        yield
    except Exception as error:
        failure = explain(error)
        reason = _reason(prefab) if _is_no_version(failure) else None
        if reason is None:
            raise
        message = f"{reason} Correct it and publish again."
        raise Failure(message, status=NOT_FOUND, detail={**failure.detail, "message": message}) from error


def _is_no_version(failure: Failure) -> bool:
    """Whether it is the version that was not found: there are also 404s of functions, files and jobs."""
    detail = failure.detail or {}
    told = str(detail.get("message", ""))
    return failure.status == NOT_FOUND and detail.get("error_code") == "NOT_FOUND" and "has no function" not in told


def _reason(prefab: tuple[str, str]) -> str | None:
    try:
        attempts: list[dict[str, Any]] = http.ask("GET", "/v1/prefabs", query={"status": "failed"})["prefabs"]
    except Failure:
        return None
    for attempt in attempts:
        if attempt["id"] == prefab[0] and prefab[1] in (attempt["version"], LATEST):
            name = f"{attempt['id']}@{attempt['version']}"
            reason = str(attempt["error"])
            return f"{name} could not be published: {reason}" + ("" if reason.endswith((".", "?")) else ".")
    return None
