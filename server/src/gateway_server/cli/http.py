"""The gateway as the commands speak to it: requests out, documents in, refusals as failures."""

from __future__ import annotations

import json as json_
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from gateway_server.cli.failures import Code, Failure, identify, refused, unreachable

if TYPE_CHECKING:
    import httpx

TIMEOUT = 60.0
KEY_PREFIX = "sk-"
NO_ADDRESS = "is no address of a gateway, such as http://127.0.0.1:8000"


def base_url() -> str:
    """Where the gateway is. It may have a path, where a proxy gives it one."""
    address = (os.environ.get("GATEWAY_BASE_URL", "").strip() or "http://127.0.0.1:8000").rstrip("/")
    if not is_address(address):
        raise Failure(f"GATEWAY_BASE_URL={address} {NO_ADDRESS}.")
    return address


def is_address(text: str) -> bool:
    """Whether a gateway can be at such a URL."""
    try:
        parts = urlsplit(text)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_right and not (parts.query or parts.fragment)


def api_key() -> str | None:
    """Who we are; None where nothing says so."""
    key = os.environ.get("GATEWAY_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise Failure(f"GATEWAY_API_KEY is no API key: it holds characters that no key has.\n{identify()}", Code.AUTH)
    if key and not key.startswith(KEY_PREFIX):
        raise Failure(f"GATEWAY_API_KEY is no API key: these begin with {KEY_PREFIX}.\n{identify()}", Code.AUTH)
    return key or None


def segment(text: str, what: str = "ID") -> str:
    """A text as one part of a path, of which nothing would name another one; `what` is how it is called."""
    if not text:
        raise Failure(f"{what} is empty.", Code.USAGE)
    return quote(text, safe="@")


def ask(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: dict[str, Any] | None = None,
    if_none: str = "",
    timeout: float = TIMEOUT,
) -> Any:
    """The document that answers; None where the answer is empty. `if_none` says what to do where nothing is found."""
    given = [(name, str(value).lower() if value is True or value is False else value) for name, value in _given(query)]
    url = base_url() + path + (f"?{urlencode(given)}" if given else "")
    sent = b"" if method != "GET" else None
    if body is not None:
        sent = json_.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    if _is_near() and url.startswith("http:"):
        status, content = _by_socket(method, url, sent, timeout)
        if status >= 400:
            raise refused(status, _detail(status, content, f"{method} {url}", if_none))
    else:
        headers = {"content-type": "application/json"} if body is not None else {}
        with stream(method, url, content=sent, headers=headers, if_none=if_none, timeout=timeout) as response:
            content = response.read()
    if not content:
        return None
    try:
        return json_.loads(content)
    except ValueError as error:
        raise Failure(f"{base_url()} does not answer as a gateway does: {content[:80]!r}") from error


def _given(query: dict[str, Any] | None) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in (query or {}).items() if value is not None]


def _by_socket(method: str, url: str, body: bytes | None, timeout: float) -> tuple[int, bytes]:
    """Status and content of an answer, by the sockets of the SDK: httpx takes longer to import than all else takes."""
    from gateway_sdk._connection import Pool
    from gateway_sdk._request import Patience, Request, origin_and_target
    from gateway_sdk.exceptions import ConnectionFailedError, DeadlineExceededError, GatewayError

    headers = {"accept": "*/*", **_identity()}
    if body:
        headers["content-type"] = "application/json"
    pool = Pool()
    try:
        origin, target = origin_and_target(url)
        reply = pool.send(Request(method, url, headers, body), origin, target, Patience(timeout))
        content = reply.read()
    except DeadlineExceededError as error:
        raise unreachable(base_url(), "timed out") from error
    except ConnectionFailedError as error:
        raise unreachable(base_url(), str(error.__cause__ or error)) from error
    except GatewayError as error:
        raise Failure(f"GATEWAY_BASE_URL={base_url()} {NO_ADDRESS}: {error}.") from error
    finally:
        pool.clear()
    return reply.status, content


def _identity() -> dict[str, str]:
    key = api_key()
    return {"authorization": f"Bearer {key}"} if key else {}


@contextmanager
def stream(
    method: str,
    path: str,
    *,
    json: Any = None,
    query: dict[str, Any] | None = None,
    is_passed: bool = False,
    if_none: str = "",
    **request: Any,
) -> Iterator[httpx.Response]:
    """The answer while it comes. Refusals fail, unless `is_passed` leaves them to the caller."""
    # httpx loads a command line of its own, with all of rich and pygments: two thirds of what importing it takes.
    # Where there is none to be had it goes without.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    import httpx

    headers = {**_identity(), **request.pop("headers", {})}
    present = dict(_given(query))
    try:
        with (
            _client() as client,
            client.stream(method, path, json=json, params=present or None, headers=headers, **request) as response,
        ):
            if response.status_code >= 400 and not is_passed:
                response.read()
                asked = f"{method} {response.url}"
                raise refused(response.status_code, _detail(response.status_code, response.content, asked, if_none))
            yield response
    except httpx.TransportError as error:
        raise unreachable(base_url(), str(error) or type(error).__name__) from error
    except httpx.InvalidURL as error:
        raise Failure(f"GATEWAY_BASE_URL={base_url()} {NO_ADDRESS}: {error}.") from error


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    rest = b""
    for chunk in response.iter_bytes():  # lines of httpx end at characters, too, that stand in texts
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield json_.loads(line[6:])


def _client() -> httpx.Client:
    import httpx

    return httpx.Client(base_url=base_url(), timeout=TIMEOUT, trust_env=not _is_near())


def pass_proxies_by(address: str) -> None:
    """Has the SDK, which asks the environment for proxies, reach this machine itself without one, as all else does."""
    if _is_near(address):
        known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        os.environ["no_proxy"] = ",".join(filter(None, (known, urlsplit(address).hostname)))


def _is_near(address: str | None = None) -> bool:
    """Whether it is this machine itself, to which no proxy leads."""
    host = urlsplit(address or base_url()).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _detail(status: int, content: bytes, asked: str, if_none: str) -> dict[str, Any]:
    """What a refusal says. A gateway says it in its own way, so anything else comes from something else."""
    try:
        detail = json_.loads(content).get("detail")
    except (ValueError, AttributeError):
        detail = None
    is_none, base = status == 404, base_url()
    if not isinstance(detail, dict) or "message" not in detail:
        told = f"{asked} gives HTTP {status}, not as a gateway does."
        return {"message": f"{told}\nIs it at GATEWAY_BASE_URL={base}?"}
    if is_none and urlsplit(base).path:
        return {**detail, "message": f"{detail['message']}\nGATEWAY_BASE_URL={base} ends in a path: leave it away."}
    return {**detail, "message": f"{detail['message']}\n{if_none}"} if is_none and if_none else detail
