"""`gateway agent call`: a request to an agent, and its answer as it comes."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import click

from gateway_server.cli import completing, http, terminal
from gateway_server.cli.arguments import TIMEOUT, from_json, refuse_twice
from gateway_server.cli.failures import Code, Failure, code_of, refused

if TYPE_CHECKING:
    import httpx

LONGEST = 1200.0
"""Seconds of silence, where no --timeout says otherwise."""
LEEWAY = 5.0
"""Seconds in which the gateway may say that the time is over, before we do."""
_JSON = "application/json"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What names a method or a header."""


@click.command()
@click.argument("agent_id", metavar="ID", shell_complete=completing.agents)
@click.argument("path")
@click.option("-d", "--data", metavar="JSON|@FILE|-", help="A body: as it stands, of a file, or from standard input.")
@click.option("-X", "--method", help="POST with a body, else GET.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request.")
@click.option("-q", "--query", "query", multiple=True, metavar="K=V", help="A parameter of the query.")
@click.option("--timeout", type=TIMEOUT, help="Stop after so long.")
def call(
    agent_id: str,
    path: str,
    data: str | None,
    method: str | None,
    headers: tuple[str, ...],
    query: tuple[str, ...],
    timeout: float | None,
) -> None:
    """Call an agent as yourself. Standard output gets what it answers, as it comes.

    A body is JSON, unless -H 'content-type: …' says what else it is.

    \b
    gateway agent call my-agent /report -d '{"parameters": {"topic": "tides"}}'
    gateway agent call my-agent /import -d @rows.csv -H 'content-type: text/csv'
    """
    given: dict[str, str] = {}
    for header, value in map(_header, headers):
        refuse_twice(header, given, "-H")
        given[header] = value
    method = (method or ("GET" if data is None else "POST")).upper()
    if not _TOKEN.fullmatch(method):
        raise click.BadParameter(f"{method!r} is no method", param_hint="-X")
    place = f"/v1/agents/{http.segment(agent_id)}/{_below(path, query)}"
    if timeout is not None:
        given["cancel-after"] = f"{max(1, round(timeout * 1000))}ms"
    with _body(data, given) as body:
        silence = LONGEST if timeout is None else timeout + LEEWAY
        request: dict[str, Any] = {"content": body, "headers": given, "is_passed": True, "timeout": silence}
        began = time.monotonic()
        with http.stream(method, place, **request) as response, _ending(timeout, began):
            _show(response, has_body=data is not None)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and _TOKEN.fullmatch(name.strip()) and text.isprintable()):
        raise click.BadParameter(f"{text!r} must be 'name: value'", param_hint="-H")
    return name.strip().lower(), value.strip()


def _below(path: str, query: tuple[str, ...]) -> str:
    """The path below the agent, which may hold a query already, with what is added to it."""
    pairs = []
    for text in query:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} must be k=v", param_hint="-q")
        pairs.append((name, value))
    if not {".", ".."}.isdisjoint(path.partition("#")[0].partition("?")[0].split("/")):
        message = f"{path!r} holds a part that is . or ..: it would be another path, and gateways refuse it"
        raise click.BadParameter(message, param_hint="PATH")
    target = quote(path.removeprefix("/"), safe="!#$%&'()*+,/:;=?@[]~")
    target = target.partition("#")[0]
    return f"{target}{'&' if '?' in target else '?'}{urlencode(pairs)}" if pairs else target


@contextmanager
def _body(data: str | None, headers: dict[str, str]) -> Iterator[bytes | IO[bytes] | None]:
    """What is sent; JSON is checked before, anything else is sent as it is read."""
    if data is None:
        yield None
        return
    with _opened(data) as source:
        if headers.setdefault("content-type", _JSON).partition(";")[0].strip() == _JSON:
            yield _checked_json(source if isinstance(source, bytes) else source.read())
        else:
            yield source


@contextmanager
def _opened(data: str) -> Iterator[bytes | IO[bytes]]:
    if data == "-":
        yield sys.stdin.buffer
    elif data.startswith("@"):
        try:
            file = Path(data[1:]).open("rb")  # noqa: SIM115  closed below
        except OSError as error:
            raise click.BadParameter(f"{data[1:]} cannot be read: {error.strerror}", param_hint="-d") from error
        with file:
            yield file
    else:
        yield data.encode()


def _checked_json(body: bytes) -> bytes:
    try:
        from_json(body)
    except ValueError as error:
        raise click.BadParameter(
            f"this is no JSON ({error}); for anything else say what it is with -H 'content-type: …'", param_hint="-d"
        ) from error
    return body


@contextmanager
def _ending(timeout: float | None, began: float) -> Iterator[None]:
    """Says what it means when an answer ends before its end."""
    import httpx

    try:
        yield
    except httpx.RemoteProtocolError as error:
        if timeout is not None and time.monotonic() - began >= timeout:
            raise Failure(f"The agent did not end its answer within {timeout:g} s.", Code.TIMEOUT) from error
        _require_gateway()
        raise Failure("The answer broke off before its end: the agent failed, or its time was over.") from error


def _require_gateway() -> None:
    """Asks whether the gateway is still there, where an answer broke off.

    Raises:
        Failure: it is not.
    """
    try:
        http.ask("GET", "/health")
    except Failure as failure:
        raise Failure(f"The gateway went away within the answer. {failure.message}", detail=failure.detail) from failure


def _show(response: httpx.Response, *, has_body: bool) -> None:
    is_failed = response.status_code >= 400 or response.has_redirect_location
    is_json = response.headers.get("content-type", "").partition(";")[0].strip() == _JSON
    detail = None
    if is_json and (is_failed or sys.stdout.isatty()):
        detail = _write_json(response.read(), is_failed=is_failed)
    elif _write(response) or is_failed:
        terminal.data("")  # what follows begins on a line of its own
    if is_failed:
        raise _failure(response, detail, has_body=has_body)


def _write(response: httpx.Response) -> bool:
    """Writes a body as it comes; says whether a terminal was left within a line."""
    if not sys.stdout.isatty():
        for chunk in response.iter_bytes():
            terminal.raw(chunk)
        return False
    text = "\n"
    for text in response.iter_text():
        terminal.data(text, end="")
    return not text.endswith("\n")


def _write_json(body: bytes, *, is_failed: bool) -> dict[str, Any] | None:
    """JSON for people, or as it came where it is read by programs. Gives what a refusal of the gateway says."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    detail = value.get("detail") if is_failed and isinstance(value, dict) else None
    is_refusal = isinstance(detail, dict) and {"error_code", "message"} <= detail.keys()
    if not sys.stdout.isatty():
        terminal.raw(body if not is_failed or body.endswith(b"\n") else body + b"\n")
    elif not is_refusal:
        terminal.data(body.decode("utf-8", "replace")) if value is None else terminal.document(value)
    return detail if is_refusal else None


def _failure(response: httpx.Response, detail: dict[str, Any] | None, *, has_body: bool) -> Failure:
    if detail is not None:
        return refused(response.status_code, detail)
    request = response.request
    message = f"The agent answered with HTTP {response.status_code} to {request.method} {request.url.path}"
    if response.has_redirect_location:
        message += f", which leads to {response.headers['location']} and was not followed"
    if response.status_code == 405 and not has_body:
        message += "\nThis path takes another method; it may want a body: -d '{}'"
    return Failure(message, code_of(response.status_code))
