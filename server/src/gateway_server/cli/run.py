"""`gateway run`: call a function and show what it says."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from gateway_sdk import GatewayClient, PrefabResult, StreamEvent, StreamEventType
from gateway_server.cli import arguments, http, terminal
from gateway_server.cli.failures import Failure, code_of

LONGEST = 1200.0


def call_options(command: Any) -> Any:
    """What every way of running a function takes."""
    for option in reversed(
        (
            click.option("-p", "parameters", multiple=True, metavar="K=V | K:=JSON", help="A parameter."),
            click.option("-f", "files", multiple=True, metavar="KEY=PATH | KEY=s3://…", help="An input file."),
            click.option("--stream", "is_stream", is_flag=True, help="Show what the function says while it runs."),
            click.option("--json", "is_json", is_flag=True, help="Print the whole result, or one event a line."),
            click.option(
                "--timeout",
                type=arguments.DURATION,
                default=LONGEST,
                metavar="DURATION",
                help="How long it may take; of a stream, how long it may be silent. 20m if not given.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
@click.argument("function")
@call_options
def run(
    prefab: tuple[str, str],
    function: str,
    parameters: tuple[str, ...],
    files: tuple[str, ...],
    is_stream: bool,
    is_json: bool,
    timeout: float,
) -> None:
    """Run a function of a published prefab.

    Standard output gets what the function returned, as JSON; with --stream its content as it comes.

    \b
    gateway run echo@1.0.0 echo -p text=hello
    gateway run echo@1.0.0 count -p n:=3 --stream
    gateway run data-analyzer@1.0.0 summarize -f input=sales.csv
    """
    given, places = arguments.parameters(parameters), arguments.files(files)
    call(client(timeout), prefab, function, given, places, is_stream=is_stream, is_json=is_json)


def client(timeout: float = LONGEST) -> GatewayClient:
    """The SDK, as whoever GATEWAY_API_KEY says."""
    key = http.api_key()
    if key is None:
        return GatewayClient(base_url=http.base_url(), timeout=timeout)
    return GatewayClient.from_api_key(key, base_url=http.base_url(), timeout=timeout)


def call(
    client: GatewayClient,
    prefab: tuple[str, str],
    function: str,
    parameters: dict[str, Any],
    places: Iterable[tuple[str, str | Path]],
    *,
    is_stream: bool,
    is_json: bool,
) -> None:
    """Uploads what has to be, runs the function, shows what it gave."""
    files: dict[str, list[str]] = {}
    for key, place in places:
        files.setdefault(key, []).append(upload(client, place) if isinstance(place, Path) else place)
    if is_stream:
        _show_stream(client, prefab, function, parameters, files, is_json)
    else:
        with terminal.busy(f"{prefab[0]}@{prefab[1]} {function}"):
            result = client.run(*prefab, function, parameters, files or None)
        _show_result(result, is_json)


def upload(client: GatewayClient, path: Path, content_type: str | None = None) -> str:
    """Its s3 URL."""
    with terminal.progress(path.name) as progress:
        return client.upload_input_file(path, content_type, progress=progress)


def _show_result(result: PrefabResult, is_json: bool) -> None:
    if result.warning:
        terminal.say(f"Warning: {result.warning}")
    if is_json:
        names = ("job_id", "version", "status", "output", "error", "warning")
        terminal.document({name: getattr(result, name) for name in names})
    elif result.is_success():
        terminal.document((result.output or {}).get("output"))
        _show_files((result.output or {}).get("files"))
    if not result.is_success():
        raise _failure(result.error or {}, result.job_id)


def _show_stream(
    client: GatewayClient,
    prefab: tuple[str, str],
    function: str,
    parameters: dict[str, Any],
    files: dict[str, list[str]],
    is_json: bool,
) -> None:
    at_start_of_line, has_content = True, False
    with client.run(*prefab, function, parameters, files or None, stream=True) as events:
        for event in events:
            if is_json:
                terminal.line(_as_dict(event))
            elif event.type == StreamEventType.CONTENT:
                text = event.data if isinstance(event.data, str) else repr(event.data)
                terminal.data(text, end="")
                has_content, at_start_of_line = True, text.endswith("\n")
            elif event.type == StreamEventType.PROGRESS:
                terminal.say(f"progress: {_short(event.data)}")
            if event.type == StreamEventType.DONE and not is_json:
                if not at_start_of_line:
                    terminal.data("")
                if not has_content:
                    terminal.document(event.data)
                _show_files(event.files)
            if event.type == StreamEventType.ERROR:
                if not at_start_of_line:
                    terminal.data("")
                raise _failure({"message": event.data, "error_code": event.error_code}, events.job_id)


def _as_dict(event: StreamEvent) -> dict[str, Any]:
    told = {"type": event.type, "data": event.data}
    if event.files:
        told["files"] = event.files
    if event.error_code is not None:
        told["error_code"] = event.error_code
    return told


def _show_files(files: Any) -> None:
    for key, urls in (files or {}).items():
        for url in urls:
            terminal.say(f"file {key}: {url}")
    if files:
        terminal.say("Fetch a file with: gateway file get URL")


def _short(data: Any) -> str:
    if isinstance(data, dict):
        return " ".join(f"{name}={value}" for name, value in data.items())
    return str(data)


def _failure(error: dict[str, Any], job_id: str | None) -> Failure:
    code = str(error.get("error_code") or "PREFAB_ERROR")
    kind = f"{error['type']}: " if error.get("type") else ""
    message = f"The function failed ({code}): {kind}{error.get('message')}"
    if job_id:
        message += f"\nWhat it printed: gateway job logs {job_id}"
    return Failure(message, code_of(None, code))
