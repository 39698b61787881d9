"""Calls of functions, and what they say, as `gateway run` shows it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_sdk import (
    ConnectionFailedError,
    DeadlineExceededError,
    EventStream,
    GatewayClient,
    GatewayError,
    JobEventType,
    PrefabResult,
    StreamEvent,
    StreamEventType,
)
from gateway_server.cli import http, results, terminal
from gateway_server.cli.arguments import LONGEST
from gateway_server.cli.failures import LONGER, Code, Failure, code_of, explain, unreachable
from gateway_server.cli.spool import spooled

Files = dict[str, list[str]]


def tell_files(_client: GatewayClient, files: Files) -> None:
    """Where the files are that a function wrote."""
    for key, urls in files.items():
        for url in urls:
            terminal.say(f"file {key}: {url}")
    terminal.say("Fetch a file with: gateway file get URL")


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a call is made, and shown."""

    is_stream: bool
    is_json: bool
    show_files: Callable[[GatewayClient, Files], None] = tell_files
    keeps_logs: bool = True
    """Whether what the function printed can be asked for later."""


def client(timeout: float = LONGEST) -> GatewayClient:
    """The SDK, as whoever GATEWAY_API_KEY says. The gateway has answered by then: what breaks later was under way."""
    key = http.api_key()
    http.pass_proxies_by(http.base_url())
    if key is None:
        http.ask("GET", "/health")
        return GatewayClient(base_url=http.base_url(), timeout=timeout)
    try:
        return GatewayClient.from_api_key(key, base_url=http.base_url(), timeout=timeout)
    except ConnectionFailedError as error:
        raise unreachable(http.base_url(), str(error.__cause__ or error)) from error
    except GatewayError as error:
        if "error_code" not in error.details:
            http.ask("GET", "/health")  # says so if it is no gateway that answers
        raise


def call(
    client: GatewayClient,
    prefab: tuple[str, str],
    function: str,
    parameters: dict[str, Any],
    places: Iterable[tuple[str, str | Path]],
    manner: Manner,
) -> None:
    """Uploads what has to be, runs the function, shows what it gave."""
    files, what = _files(client, places), f"{prefab[0]}@{prefab[1]} {function}"
    events: EventStream | None = None
    try:
        if manner.is_stream:
            with client.run(*prefab, function, parameters, files or None, stream=True) as events:
                show_events(client, events, manner, lambda: events.job_id if events else None)
            return
        with terminal.busy(what):
            result = client.run(*prefab, function, parameters, files or None)
    except KeyboardInterrupt:  # the client has told the gateway
        raise Failure("Canceled.", Code.INTERRUPTED) from None
    except DeadlineExceededError as error:
        told = explain(error)
        raise Failure(f"{told.message}\n{LONGER}", told.code, status=told.status, detail=told.detail) from error
    except ConnectionFailedError as error:
        if "no event stream" in str(error):  # somebody between answered, and the gateway is where it was
            raise
        job_id = error.job_id or (events.job_id if events else None)
        step = f"gateway job show {job_id}" if job_id else "gateway job list"
        message = f"The gateway went away while {what} ran. Once it is back: {step}"
        raise Failure(message, detail={"error_code": error.error_code, "job_id": job_id}) from error
    _show_result(client, result, manner)


def _files(client: GatewayClient, places: Iterable[tuple[str, str | Path]]) -> Files:
    files: Files = {}
    for key, place in places:
        files.setdefault(key, []).append(upload(client, place) if isinstance(place, Path) else place)
    return files


def upload(client: GatewayClient, path: Path, content_type: str | None = None, name: str | None = None) -> str:
    """Its s3 URL."""
    with spooled(path, name) as file, terminal.progress(file.name) as progress:
        return client.upload_input_file(file, content_type, progress=progress)


def _show_result(client: GatewayClient, result: PrefabResult, manner: Manner) -> None:
    if result.warning:
        terminal.say(f"Warning: {result.warning}")
    if manner.is_json:
        names = ("job_id", "version", "status", "output", "error", "warning")
        terminal.document({name: getattr(result, name) for name in names})
    elif result.is_success():
        terminal.document((result.output or {}).get("output"))
    if files := (result.output or {}).get("files"):
        manner.show_files(client, files)
    if not result.is_success():
        raise _failure(result.error or {}, result.job_id if manner.keeps_logs else None)


def show_events(
    client: GatewayClient, events: Iterable[StreamEvent], manner: Manner, job_id: Callable[[], str | None]
) -> None:
    """Shows events as they come; fails with the last one if that is an error."""
    content = _Content()
    try:
        for event in events:
            _show_event(event, content, manner)
            if event.files:
                manner.show_files(client, event.files)
            if event.type == StreamEventType.ERROR:
                told = {**event.error, "message": event.data, "error_code": event.error_code}
                raise _failure(told, job_id() if manner.keeps_logs else None)
    finally:
        content.end_line()


class _Content:
    """What a function says on standard output, and whether its last line has ended."""

    def __init__(self) -> None:
        self.is_empty = True
        self._is_open = False

    def say(self, data: Any) -> None:
        """A text as it is; anything else as JSON, on a line of its own."""
        if isinstance(data, str):
            self.write(data)
        else:
            self.end_line()
            self.write(terminal.as_json(data) + "\n")

    def write(self, text: str) -> None:
        terminal.data(text, end="")
        self.is_empty, self._is_open = False, not text.endswith("\n")

    def end_line(self) -> None:
        if self._is_open:
            terminal.data("")
        self._is_open = False


def _show_event(event: StreamEvent, content: _Content, manner: Manner) -> None:
    if manner.is_json:
        is_last = event.type in (StreamEventType.DONE, StreamEventType.ERROR)
        terminal.line(_as_dict(event), is_last=is_last)
    elif event.type == StreamEventType.CONTENT:
        content.say(event.data)
    elif event.type in (StreamEventType.PROGRESS, JobEventType.RETRY):
        if terminal.is_shared():
            content.end_line()
        is_progress = event.type == StreamEventType.PROGRESS
        terminal.say(f"progress: {_short(event.data)}" if is_progress else f"another attempt follows: {event.data}")
    elif event.type in (StreamEventType.DONE, StreamEventType.ERROR):
        content.end_line()
        if event.type == StreamEventType.DONE and content.is_empty:
            terminal.document(results.value_of(event.data))


def submit(
    client: GatewayClient,
    prefab: tuple[str, str],
    function: str,
    parameters: dict[str, Any],
    places: Iterable[tuple[str, str | Path]],
    *,
    attempts: int | None,
    priority: int,
    deadline: float | None,
    is_json: bool,
) -> None:
    """Uploads what has to be, and hands the call over; shows the id of the job."""
    files = _files(client, places)
    job = client.submit(
        *prefab, function, parameters, files or None, attempts=attempts, priority=priority, deadline=deadline
    )
    if is_json:
        terminal.document({"job_id": job.id})
    else:
        terminal.data(job.id)
    terminal.say(f"Follow it with: gateway job events {job.id}")


def _as_dict(event: StreamEvent) -> dict[str, Any]:
    told: dict[str, Any] = {} if event.id is None else {"id": event.id}
    told |= {"type": event.type, "data": event.data}
    if event.files:
        told["files"] = event.files
    if event.error_code is not None:
        told["error_code"] = event.error_code
    if event.error:
        told["error"] = event.error
    return told


def _short(data: Any) -> str:
    if isinstance(data, dict):
        return " ".join(f"{name}={value}" for name, value in data.items())
    return str(data)


def _failure(error: dict[str, Any], job_id: str | None) -> Failure:
    code = str(error.get("error_code") or "PREFAB_ERROR")
    message = f"The function failed ({code}): {results.told_error(error)}"
    if job_id:
        message += f"\nWhat it printed: gateway job logs {job_id}"
    return Failure(message, code_of(None, code))
