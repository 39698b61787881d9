"""The answer to a run as results. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ._typing import Any
from .exceptions import InternalServerError
from .models import BatchResult, CallStatus, PrefabResult, clean_files

_SUCCESS, _FAILED = CallStatus.SUCCESS, CallStatus.FAILED


def parse_batch(answer: Mapping[str, Any], expected: int) -> BatchResult:
    """The answer to a run as results.

    Raises:
        InternalServerError: it is none, or holds another number of results.
    """
    job_id = answer.get("job_id")
    status = answer.get("status", "")
    return BatchResult(job_id if isinstance(job_id, str) else "", str(status), parse_results(answer, expected))


def parse_results(answer: Mapping[str, Any], expected: int) -> list[PrefabResult]:
    """The same without what concerns them together."""
    items = answer.get("results")
    if not isinstance(items, list) or len(items) != expected:
        raise InternalServerError(f"the gateway answered {expected} call(s) with {_count(items)} result(s)")
    job_id = _text(answer.get("job_id"))
    return [_result(item, job_id) for item in items]


def _count(items: object) -> str:
    return str(len(items)) if isinstance(items, list) else "no"


def _result(item: object, job_id: str | None) -> PrefabResult:
    if not isinstance(item, dict):
        raise InternalServerError(f"the gateway sent a result that is no object: {str(item)[:80]!r}")
    get = item.get
    output = get("output")
    if not isinstance(output, dict):
        output = None
    elif "files" in output and not isinstance(output["files"], dict):
        output = {**output, "files": clean_files(output["files"])}
    error = get("error")
    if error is not None and not isinstance(error, dict):
        error = {"message": str(error)}
    status = _SUCCESS if get("status") == "SUCCESS" else _FAILED
    return PrefabResult(
        status, output, error, _text(get("job_id")) or job_id, _text(get("version")), _text(get("warning"))
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
