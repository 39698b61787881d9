"""What a caller sent, made into calls, and held against the manifest. Pure: no input or output happens here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from gateway_server.errors import GatewayFault, Invalid, PayloadTooLarge, Problem
from gateway_server.models import Call
from gateway_server.prefabs.functions import Function
from gateway_server.prefabs.retries import Retry, read_retry
from gateway_server.prefabs.schemas import files_schema, parameters_schema

MOST_PROBLEMS = 100
MOST_VALUES = 5000
"""Values in the arguments of which every violation is told. Of more it is the first one: the validator looks for all at
once, which takes half a minute and a gigabyte for a million, while all others wait."""
MOST_PRIORITY = 10
LONGEST_TEXT = 300
"""Characters of a pointer or message; they repeat what was sent, which may be long."""
_MEMBERS = frozenset({"parameters", "files"})
"""What `inputs` holds."""
SURELY_FLAT = 250
"""Brackets without which no document is nested deeper than it may be."""
MOST_DEPTH = 254
"""Levels of objects and lists in a body: as many as every part of the way to a function takes."""
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_MANY_DIGITS = b"0" * 19
"""Fewer than these are a number of 64 bits, whatever they are."""


class RunRequest(NamedTuple):
    """The body of a run request."""

    calls: list[Call | GatewayFault]
    """Each call, or why it cannot even be read."""
    stream: bool | None
    """None where the caller did not say."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """How submitted calls are to be run."""

    retry: Retry | None = None
    """None as the manifest says."""
    priority: int = 0
    """Among the jobs of the same user: the higher, the earlier."""


def parse_run(body: bytes, *, size_limit: int, batch_limit: int) -> RunRequest:
    """Reads ``{"calls": [...], "stream"?}``.

    Raises:
        Invalid: the body as a whole cannot be understood.
        PayloadTooLarge: there are too many bytes or calls.
    """
    return _read_run(_read_document(body, size_limit), batch_limit)


def parse_submission(body: bytes, *, size_limit: int, batch_limit: int) -> tuple[RunRequest, Submission]:
    """Reads a call, or ``{"calls": [...]}``, with ``retry`` and ``priority`` beside it where they are wanted.

    Raises:
        Invalid: the body as a whole cannot be understood.
        PayloadTooLarge: there are too many bytes or calls.
    """
    document = _read_document(body, size_limit)
    submission = _read_submission(document)
    if "calls" in document or "prefab_id" not in document:
        return _read_run(document, batch_limit), submission
    request = _read_run({"calls": [document]}, batch_limit)
    (call,) = request.calls
    if isinstance(call, Call) and body.count(b"[") + body.count(b"{") > SURELY_FLAT:
        _check_depth({"call": {"parameters": call.parameters}})  # as it is kept, which may be a level deeper
    return request, submission


def _read_document(body: bytes, size_limit: int) -> dict[str, Any]:
    if len(body) > size_limit:
        raise PayloadTooLarge(f"The request has more than {size_limit} bytes. Pass large data as files.")
    return parse_object(body)


def _read_run(document: dict[str, Any], batch_limit: int) -> RunRequest:
    calls, stream = document.get("calls"), document.get("stream")
    if not isinstance(calls, list) or not calls:
        raise _invalid("/calls", "must be a list of at least one call")
    if len(calls) > batch_limit:
        raise PayloadTooLarge(f"A batch holds at most {batch_limit} calls; this one has {len(calls)}.")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("/stream", "must be true or false")
    if stream and len(calls) > 1:
        raise _invalid("/stream", "a stream has exactly one call")
    return RunRequest([_read_call(call, f"/calls/{at}") for at, call in enumerate(calls)], stream)


def _read_submission(document: dict[str, Any]) -> Submission:
    problems: list[Problem] = []
    priority, raw = document.get("priority", 0), document.get("retry")
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) > MOST_PRIORITY:
        problems.append(Problem("/priority", f"must be a number from -{MOST_PRIORITY} to {MOST_PRIORITY}"))
    retry = None if raw is None else read_retry(raw, "/retry")
    if isinstance(retry, list):
        problems += retry
    if problems or isinstance(retry, list):
        raise Invalid(_summary(problems), problems)
    return Submission(retry=retry, priority=priority)


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Of a name that stands in an object twice, the last value counts.

    Raises:
        Invalid: it is none, is nested too deep, or holds an integer that would not arrive as it is.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid("", f"is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise _invalid("", "must be a JSON object")
    if len(body) > SURELY_FLAT and body.count(b"[") + body.count(b"{") > SURELY_FLAT:
        _check_depth(document)
    if _MANY_DIGITS in body.translate(_DIGITS):
        _check_integers(body)
    return document


def _check_depth(document: dict[str, Any]) -> None:
    try:
        orjson.dumps(document)
    except TypeError as error:
        raise _invalid("", f"is nested deeper than {MOST_DEPTH} levels") from error


def _check_integers(body: bytes) -> None:
    """Integers beyond 64 bits have become numbers with fewer digits by now."""

    def check(text: str) -> int:
        if len(text) > len(str(-(1 << 63))) or not -(1 << 63) <= int(text) < 1 << 64:
            raise _invalid("", f"holds the integer {text[:40]}, which has more than 64 bits: send it as a text")
        return 0

    json.loads(body, parse_int=check)


def _read_call(raw: object, pointer: str) -> Call | GatewayFault:
    if not isinstance(raw, dict):
        return _invalid(pointer, "must be an object")
    prefab_id, version, function_name = raw.get("prefab_id"), raw.get("version"), raw.get("function_name")
    problems: list[Problem] = []
    if not (isinstance(prefab_id, str) and isinstance(version, str) and isinstance(function_name, str)):
        problems = [
            Problem(f"{pointer}/{name}", "is missing" if name not in raw else "must be a string")
            for name in ("prefab_id", "version", "function_name")
            if not isinstance(raw.get(name), str)
        ]
    inputs = raw.get("inputs", {})
    if not isinstance(inputs, dict):
        problems.append(Problem(f"{pointer}/inputs", "must be an object"))
    if problems:
        return Invalid(_summary(problems), problems)
    parameters, files = _split(inputs)
    if not isinstance(parameters, dict):
        return _invalid(f"{pointer}/inputs/parameters", "must be an object")
    if files and (problem := _check_files(files, f"{pointer}/inputs/files")):
        return Invalid(_summary([problem]), [problem])
    urls = {key: tuple(urls) for key, urls in files.items()} if files else {}
    return Call(raw["prefab_id"], raw["version"], raw["function_name"], parameters, urls)


def _split(inputs: dict[str, Any]) -> tuple[Any, Any]:
    """Parameters and files; older clients send the parameters directly."""
    if "parameters" in inputs and inputs.keys() <= _MEMBERS:
        return inputs["parameters"] if inputs["parameters"] is not None else {}, inputs.get("files") or {}
    if inputs.keys() == {"files"}:
        return {}, inputs["files"] or {}
    return inputs, {}


def _check_files(files: object, pointer: str) -> Problem | None:
    if not isinstance(files, dict):
        return Problem(pointer, "must be an object of lists of s3:// addresses")
    for key, urls in files.items():
        if not isinstance(urls, list):
            return Problem(f"{pointer}/{_escape(key)}", "must be a list of s3:// addresses")
        for at, url in enumerate(urls):
            if not isinstance(url, str) or not url.startswith("s3://"):
                return Problem(f"{pointer}/{_escape(key)}/{at}", "must be an s3:// address")
    return None


class Validator:
    """The compiled rules of one function's arguments."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._parameters = jsonschema_rs.Draft202012Validator(parameters_schema(function))
        self._files = jsonschema_rs.Draft202012Validator(files_schema(function))
        self._takes_none = self._files.is_valid({})
        """Whether no files will do."""

    def check(self, call: Call) -> None:
        """Holds the arguments and file groups against the manifest.

        Raises:
            Invalid: with every violation.
        """
        if self._parameters.is_valid(call.parameters) and self._takes_none and not call.files:
            return
        files = {key: list(urls) for key, urls in call.files.items()}
        if self._parameters.is_valid(call.parameters) and self._files.is_valid(files):
            return
        problems = [
            *self._violations(self._parameters, call.parameters, "/parameters"),
            *self._violations(self._files, files, "/files"),
        ][:MOST_PROBLEMS]
        problems = [Problem(_short(problem.pointer), _short(problem.message)) for problem in problems]
        raise Invalid(f"{self._function.name}: {_summary(problems)}", problems)

    def _violations(self, validator: Any, value: Mapping[str, Any], prefix: str) -> list[Problem]:
        known = [parameter.name for parameter in self._function.parameters]
        errors = _first_error(validator, value) if _has_many(value) else validator.iter_errors(value)
        return [problem for error in errors for problem in _explain(error, prefix, known)]


def _first_error(validator: Any, value: Mapping[str, Any]) -> list[Any]:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        return [error]
    return []


def _has_many(value: object) -> bool:
    """Whether there are more values in something than all violations are told of."""
    left, waiting = MOST_VALUES, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            left -= len(one)
            if left < 0:
                return True
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return False


def _explain(error: Any, prefix: str, known: list[str]) -> list[Problem]:
    """A violation in the words of a person who reads only this line."""
    pointer = prefix + "".join(f"/{_escape(str(step))}" for step in error.instance_path)
    kind = error.kind
    if kind.name == "additionalProperties":
        of_parameters = prefix == "/parameters"
        takes = ", ".join(known) if of_parameters else ""
        what = f"unknown parameter; the function takes {takes or 'none'}" if of_parameters else "unknown file key"
        return [Problem(f"{pointer}/{_escape(name)}", what) for name in kind.unexpected[:MOST_PROBLEMS]]
    if kind.name == "required":
        return [Problem(f"{pointer}/{_escape(str(kind.property))}", "is required")]
    return [Problem(pointer, error.message)]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _summary(problems: list[Problem]) -> str:
    shown = "; ".join(f"{problem.pointer or 'the body'} {problem.message}" for problem in problems[:5])
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    return f"The input is not valid: {shown}{more}."


def _invalid(pointer: str, message: str) -> Invalid:
    problem = Problem(pointer, message)
    return Invalid(_summary([problem]), [problem])
