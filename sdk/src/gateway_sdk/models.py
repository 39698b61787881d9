"""What goes into a call and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from ._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "BatchResult",
    "CallStatus",
    "JobEventType",
    "JobStatus",
    "PrefabCall",
    "PrefabResult",
    "StoredFile",
    "StreamEvent",
    "StreamEventType",
]


class CallStatus(StrEnum):
    """How a call ended. A string too: `result.status == "SUCCESS"` is true."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class JobStatus(StrEnum):
    """Where a job stands. A string too: `status == "running"` is true."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"


class StreamEventType(StrEnum):
    """What a stream event says. A string too: `event.type == "content"` is true."""

    START = "start"
    CONTENT = "content"
    PROGRESS = "progress"
    DONE = "done"
    ERROR = "error"


class JobEventType(StrEnum):
    """What the events of a job may say besides: an attempt has failed, and there will be another."""

    RETRY = "retry"


class _Value:
    """Equality and representation from the slots: what a dataclass would give, without the cost of importing one."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # they hold dicts

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


class PrefabCall(_Value):
    """One call of one function.

    Args:
        prefab_id: such as "translator".
        version: "X.Y.Z".
        function_name: the function in that prefab.
        parameters: its arguments by name.
        files: input files, {key: [s3 URL, ...]}.

    Example:
        >>> PrefabCall("translator", "1.0.0", "translate", {"text": "Hello"}).to_dict()["inputs"]
        {'parameters': {'text': 'Hello'}}
    """

    __slots__ = ("files", "function_name", "parameters", "prefab_id", "version")

    def __init__(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: dict[str, Any],
        files: dict[str, list[str]] | None = None,
    ) -> None:
        self.prefab_id = prefab_id
        self.version = version
        self.function_name = function_name
        self.parameters = parameters
        self.files = files

    def to_dict(self) -> dict[str, Any]:
        """The form in which it travels."""
        inputs: dict[str, Any] = {"parameters": self.parameters}
        if self.files:
            inputs["files"] = self.files
        return {
            "prefab_id": self.prefab_id,
            "version": self.version,
            "function_name": self.function_name,
            "inputs": inputs,
        }


class PrefabResult(_Value):
    """What one call gave.

    Attributes:
        status: SUCCESS if the function ran and returned; its own verdict is in `get_business_success()`.
        output: the gateway's envelope {"status", "output", "files"}; None when the call failed.
        error: {"error_code", "message", ...} when it failed, else None.
        job_id: quote it to support.
        version: the version that ran, which `version="latest"` leaves open; None where none did.
        warning: what the publisher says of a version that is deprecated or withdrawn, else None.

    Example:
        >>> result = PrefabResult(CallStatus.SUCCESS, {"status": "SUCCESS", "output": {"n": 1}, "files": {}})
        >>> result.is_success(), result.get("n")
        (True, 1)
    """

    __slots__ = ("error", "job_id", "output", "status", "version", "warning")

    def __init__(
        self,
        status: CallStatus,
        output: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        job_id: str | None = None,
        version: str | None = None,
        warning: str | None = None,
    ) -> None:
        self.status = status
        self.output = output
        self.error = error
        self.job_id = job_id
        self.version = version
        self.warning = warning

    def is_success(self) -> bool:
        """Whether the function ran and returned. What it returned may still report a business failure."""
        return self.status == CallStatus.SUCCESS

    def get_function_result(self) -> Any:
        """The function's return value, usually a dict; {} where there is none, never None."""
        value = self.get_result()
        return {} if value is None else value

    def get_result(self) -> Any:
        """The function's return value exactly as it is, None included."""
        return self.output.get("output") if isinstance(self.output, dict) else None

    def get(self, key: str, default: Any = None) -> Any:
        """One entry of the function's return value; `default` if it is not there or the value is no dict."""
        value = self.get_result()
        return value.get(key, default) if isinstance(value, dict) else default

    def get_files(self) -> dict[str, list[str]]:
        """The files that the function wrote, {key: [s3 URL, ...]}; {} if none."""
        files = self.output.get("files") if isinstance(self.output, dict) else None
        return clean_files(files)

    def get_file_urls(self) -> list[str]:
        """The s3 URLs of all files that the function wrote, whatever their keys."""
        return [url for urls in self.get_files().values() for url in urls]

    def get_business_success(self) -> bool:
        """The function's own "success"; where it gives none, whether the call succeeded."""
        verdict = self.get("success")
        return self.is_success() and (verdict is None or bool(verdict))

    def get_business_message(self) -> str | None:
        """The function's own "message"."""
        return _text(self.get("message"))

    def get_business_error(self) -> str | None:
        """The function's own "error"; for a failed call the gateway's message."""
        return _text(self.get("error")) or self._error_text("message")

    def get_business_error_code(self) -> str | None:
        """The function's own "error_code"; for a failed call the gateway's."""
        return _text(self.get("error_code")) or self._error_text("error_code")

    def _error_text(self, name: str) -> str | None:
        return _text(self.error.get(name)) if isinstance(self.error, dict) else None


class BatchResult(_Value):
    """What a batch gave: one result per call, in the order of the calls.

    Attributes:
        job_id: the batch's own; each result has its own, too.
        status: "COMPLETED", "PARTIAL_SUCCESS" or "FAILED" (none succeeded).
        results: the results.

    Example:
        >>> BatchResult("7f3a", "COMPLETED", [PrefabResult(CallStatus.SUCCESS)]).all_success()
        True
    """

    __slots__ = ("job_id", "results", "status")

    def __init__(self, job_id: str, status: str, results: list[PrefabResult]) -> None:
        self.job_id = job_id
        self.status = status
        self.results = results

    def all_success(self) -> bool:
        """Whether every call succeeded."""
        return all(result.is_success() for result in self.results)

    def get_failed(self) -> list[PrefabResult]:
        """The results of the calls that failed."""
        return [result for result in self.results if not result.is_success()]


class StreamEvent(_Value):
    """One event of a stream.

    Attributes:
        type: START, CONTENT, PROGRESS, DONE or ERROR, of a job also `JobEventType.RETRY`. The last event is DONE or
            ERROR.
        data: what the function yielded; for ERROR and RETRY a sentence.
        files: {key: [s3 URL, ...]}, of the last event only.
        error_code: of an ERROR event, else None.
        id: the event's number in its job, from 1 on; None in the stream of a run.
        error: of an ERROR event what else is known, such as the `type` of the function's exception.

    Example:
        >>> StreamEvent(StreamEventType.CONTENT, "Hel").data
        'Hel'
    """

    __slots__ = ("data", "error", "error_code", "files", "id", "type")

    def __init__(
        self,
        type: StreamEventType | JobEventType,
        data: Any = None,
        files: dict[str, list[str]] | None = None,
        error_code: str | None = None,
        id: int | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        self.type = type
        self.data = data
        self.files: dict[str, list[str]] = files if files is not None else {}
        self.error_code = error_code
        self.id = id
        self.error: dict[str, Any] = error if error is not None else {}


class StoredFile(str):
    """The s3 URL of a file, with what is known about the file. Use it wherever a URL is wanted.

    Attributes:
        filename: its name, without the store's time stamp.
        size: bytes, or None if not known.
        sha256: hexadecimal, or None if not known.
        expires_at: when the store removes it (aware, UTC); None if never or not known.

    Example:
        >>> file = StoredFile("s3://b/agent-outputs/u/a/2025/11/07/101500000000-report.pdf", size=12)
        >>> file.filename, file.size, file.startswith("s3://")
        ('report.pdf', 12, True)
    """

    filename: str
    size: int | None
    sha256: str | None
    expires_at: datetime | None

    def __new__(
        cls,
        url: str,
        *,
        filename: str | None = None,
        size: int | None = None,
        sha256: str | None = None,
        expires_at: datetime | None = None,
    ) -> StoredFile:
        self = super().__new__(cls, url)
        self.filename = filename or name_in_url(url)
        self.size = size
        self.sha256 = sha256
        self.expires_at = expires_at
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (str(self), dict(self.__dict__))


def _restore(url: str, state: dict[str, Any]) -> StoredFile:
    return StoredFile(url, **state)


def name_in_url(url: str) -> str:
    """The file's own name: the last part of the key, without the time stamp that the store puts before it."""
    name = url.rsplit("/", 1)[-1]
    if "/prefab-outputs/" in url:  # what functions write keeps its name, which may begin with a date
        return name
    stamp, dash, rest = name.partition("-")
    is_stamp = len(stamp) >= 8 and rest and all(letter in "0123456789TZ" for letter in stamp)
    return rest if dash and is_stamp else name


def clean_files(files: object) -> dict[str, list[str]]:
    """`files` of an answer as {key: [url, ...]}, whatever the other side sent."""
    if not isinstance(files, dict):
        return {}
    return {str(key): [url for url in _many(urls) if isinstance(url, str)] for key, urls in files.items()}


def _many(urls: object) -> Iterable[object]:
    return urls if isinstance(urls, list) else [urls]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
