"""The gateway as the commands speak to it: requests out, documents in, refusals as failures."""

import json as json_
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from gateway_server.cli.failures import Code, Failure, refused, unreachable

TIMEOUT = 60.0


def base_url() -> str:
    """Where the gateway is."""
    address = (os.environ.get("GATEWAY_BASE_URL", "").strip() or "http://127.0.0.1:8000").rstrip("/")
    try:
        is_right = address.startswith(("http://", "https://")) and bool(urlsplit(address).hostname)
    except ValueError:
        is_right = False
    if not is_right:
        raise Failure(f"GATEWAY_BASE_URL={address} is no address such as http://127.0.0.1:8000")
    return address


def api_key() -> str | None:
    """Who we are; None where nothing says so."""
    key = os.environ.get("GATEWAY_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise Failure("GATEWAY_API_KEY is no API key: it holds characters that no key has.", Code.AUTH)
    return key or None


def segment(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="@")


def ask(method: str, path: str, body: Any = None, *, query: dict[str, Any] | None = None) -> Any:
    """The document that answers; None where the answer is empty."""
    with stream(method, path, json=body, query=query) as response:
        content = response.read()
    if not content:
        return None
    try:
        return json_.loads(content)
    except ValueError as error:
        raise Failure(f"{base_url()} does not answer as a gateway does: {content[:80]!r}") from error


@contextmanager
def stream(
    method: str,
    path: str,
    *,
    json: Any = None,
    query: dict[str, Any] | None = None,
    is_passed: bool = False,
    **request: Any,
) -> Iterator[httpx.Response]:
    """The answer while it comes. Refusals fail, unless `is_passed` leaves them to the caller."""
    headers = {"authorization": f"Bearer {api_key()}"} if api_key() else {}
    headers.update(request.pop("headers", {}))
    present = {name: value for name, value in (query or {}).items() if value is not None}
    try:
        with (
            _client() as client,
            client.stream(method, path, json=json, params=present or None, headers=headers, **request) as response,
        ):
            if response.status_code >= 400 and not is_passed:
                response.read()
                raise refused(response.status_code, _detail(response))
            yield response
    except httpx.TransportError as error:
        raise unreachable(base_url(), str(error) or type(error).__name__) from error
    except httpx.InvalidURL as error:
        raise Failure(f"GATEWAY_BASE_URL={base_url()} is no address: {error}") from error


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    for text in response.iter_lines():
        if text.startswith("data: "):
            yield json_.loads(text[6:])


def _client() -> httpx.Client:
    host = urlsplit(base_url()).hostname or ""
    is_near = host == "localhost" or host.startswith("127.") or host == "::1"
    return httpx.Client(base_url=base_url(), timeout=TIMEOUT, trust_env=not is_near)  # no proxy to this machine itself


def _detail(response: httpx.Response) -> dict[str, Any]:
    try:
        detail = response.json().get("detail")
    except (ValueError, AttributeError):
        detail = None
    if isinstance(detail, dict):
        return detail
    return {"message": detail if isinstance(detail, str) else None}
