"""The gateway's HTTP contract: an operation as a request, an answer as a model. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping

from ._json import encode, loads
from ._typing import TYPE_CHECKING, Any
from .exceptions import GatewayError, InternalServerError, ValidationError
from .models import PrefabCall, StoredFile

if TYPE_CHECKING:
    from datetime import datetime

DEFAULT_BASE_URL = "http://agent-builder-gateway.default.svc.cluster.local"
RUN = "/v1/internal/run"
JOBS = "/v1/jobs"
CONVERT_KEY = "/v1/auth/convert_to_internal_token"
GENERATE_UPLOAD_URL = "/internal/files/generate_upload_url"
UPLOAD = "/internal/files/upload"
UPLOAD_TEMP = "/internal/files/upload_temp"
UPLOADS = "/v1/files/uploads"
DOWNLOAD = "/internal/files/download"
LIST = "/internal/files/list"
LIST_TEMP = "/internal/files/list_temp"
CLEANUP_TEMP = "/internal/files/cleanup_temp"
PAGE_SIZE = 1000
SMALL_FILE_BYTES = 8 * 1024 * 1024

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def default_base_url() -> str:
    """The address when none is given: of the environment, else the one inside the cluster."""
    return os.environ.get("GATEWAY_BASE_URL", "").strip() or DEFAULT_BASE_URL


def new_key() -> str:
    """An idempotency key that nobody else has: 128 random bits."""
    return "auto-" + os.urandom(16).hex()


def headers_for(token: str | None, key: str | None = None) -> dict[str, str]:
    """The headers of every request with a JSON body or none."""
    headers = {"Accept": "*/*", "User-Agent": "agent-builder-gateway-sdk/1.1.0"}
    if token:
        headers["X-Internal-Token"] = token
    if key:
        headers["Idempotency-Key"] = key
    return headers


def path(template: str, **query: str | int | None) -> str:
    """A path with its query; entries that are None are left out."""
    given = [f"{name}={segment(str(value))}" for name, value in query.items() if value is not None]
    return f"{template}?{'&'.join(given)}" if given else template


def segment(value: str) -> str:
    """A value as one segment of a path, or as the value of a query."""
    # By hand: urllib.parse would be a tenth of what importing this package costs.
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in value.encode("utf-8", "replace"))


def run_body(calls: Iterable[PrefabCall], stream: bool) -> bytes:
    """The body of a run.

    Raises:
        ValidationError: something in it could not be sent; nothing has been.
    """
    items = []
    for call in calls:
        if not isinstance(call, PrefabCall):
            raise ValidationError(f"calls must be a list of PrefabCall objects; it holds a {type(call).__name__}")
        check_files(call.files)
        items.append(call.to_dict())
    if not items:
        raise ValidationError("a batch needs at least one call")
    try:
        return encode({"calls": items, "stream": stream}).encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, which UTF-8 cannot hold
        raise ValidationError(f"the parameters cannot be sent as JSON: {error}") from error
    except (TypeError, ValueError, RecursionError):
        for number, item in enumerate(items):
            _check_json(item, number)
        raise


def _check_json(item: dict[str, Any], number: int) -> None:
    try:
        encode(item)
    except (TypeError, ValueError, RecursionError) as error:
        pointer = f"/calls/{number}/inputs/parameters"
        reason = f"the parameters of {item['function_name']} cannot be sent as JSON: {error}"
        raise ValidationError(reason, details={"errors": [{"pointer": pointer, "message": str(error)}]}) from error


def submit_body(calls: Iterable[PrefabCall], attempts: int | None, retry_delay: float | None, priority: int) -> bytes:
    """The body of a submission.

    Raises:
        ValidationError: something in it could not be sent; nothing has been.
    """
    retry = {"attempts": attempts, "delay": retry_delay}
    given = {name: value for name, value in retry.items() if value is not None}
    options: dict[str, Any] = {"priority": priority} if priority else {}
    if given:
        options["retry"] = given
    body = run_body(calls, False)
    return body if not options else body[:-1] + b"," + json_body(options)[1:]


def json_body(value: Mapping[str, Any]) -> bytes:
    """A small body of our own."""
    return encode(value).encode()


def check_files(files: object) -> None:
    """Refuse what is not {key: [s3 URL, ...]} before anything is sent.

    Raises:
        ValidationError: names the key and the value.
    """
    if files is None:
        return
    if not isinstance(files, dict):
        raise _bad_file("", f'files must be a dict {{"name": ["s3://..."]}}, not {type(files).__name__}')
    for key, urls in files.items():
        if isinstance(urls, str | bytes):
            raise _bad_file(key, f"files[{key!r}] must be a list of s3:// URLs, not one string; write [{urls!r}]")
        if not isinstance(urls, list | tuple):
            raise _bad_file(key, f"files[{key!r}] must be a list of s3:// URLs, not {type(urls).__name__}")
        for url in urls:
            if not (isinstance(url, str) and url.startswith("s3://")):
                hint = "upload the file first and pass the URL that you get"
                raise _bad_file(key, f"files[{key!r}] holds {url!r}, which is no s3:// URL; {hint}")


def _bad_file(key: object, message: str) -> ValidationError:
    return ValidationError(message, details={"errors": [{"pointer": f"/files/{key}", "message": message}]})


def check_s3_url(url: object) -> None:
    """Refuse what is no s3 URL.

    Raises:
        ValidationError: names the value.
    """
    if not (isinstance(url, str) and url.startswith("s3://")):
        raise ValidationError(f"{url!r} is no s3:// URL")


def parse_object(body: bytes, asked: object) -> dict[str, Any]:
    """The JSON object in the body of a successful answer.

    Raises:
        InternalServerError: it is none.
    """
    try:
        value = loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        excerpt = body[:80].decode("utf-8", "replace")
        raise InternalServerError(f"{asked}: the answer is not JSON ({excerpt!r}); is this the gateway?") from error
    if not isinstance(value, dict):
        raise InternalServerError(f"{asked}: the answer is no JSON object")
    return value


def text_field(answer: Mapping[str, Any], name: str, asked: object) -> str:
    """A field that must be there.

    Raises:
        InternalServerError: it is not.
    """
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise InternalServerError(f"{asked}: the answer holds no {name!r}")
    return value


def parse_stored(answer: Mapping[str, Any], asked: object) -> StoredFile:
    """The answer to an upload."""
    return stored_file(text_field(answer, "s3_url", asked), answer)


def stored_file(url: str, known: Mapping[str, Any]) -> StoredFile:
    """A file from its URL and whatever the gateway said about it."""
    name, size, digest = known.get("filename"), known.get("size"), known.get("sha256")
    return StoredFile(
        url,
        filename=name if isinstance(name, str) and name else None,
        size=size if isinstance(size, int) and not isinstance(size, bool) else None,
        sha256=digest if isinstance(digest, str) and digest else None,
        expires_at=parse_time(known.get("expires_at")),
    )


def parse_time(value: object) -> datetime | None:
    """An RFC 3339 time; None if there is none."""
    if not isinstance(value, str):
        return None
    from datetime import datetime  # calls need none

    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def parse_page(answer: Mapping[str, Any], asked: object) -> tuple[list[StoredFile], str | None]:
    """One page of a listing, and where the next one begins."""
    entries = answer.get("files")
    if not isinstance(entries, list):
        raise InternalServerError(f"{asked}: the answer holds no list of files")
    files = [stored_file(entry["s3_url"], entry) for entry in entries if isinstance(entry, dict) and "s3_url" in entry]
    token = answer.get("next_token")
    return files, token if isinstance(token, str) and token else None


def multipart(fields: Mapping[str, str], filename: str, content_type: str | None) -> tuple[str, bytes, bytes]:
    """A form with one file: its content type, what stands before the file's bytes, what stands after them.

    The name travels as UTF-8 with the three dangerous characters escaped, as browsers send it.
    """
    boundary = os.urandom(16).hex()
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    escaped = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    kind = content_type or "application/octet-stream"
    if any(character < " " for character in kind):
        raise ValidationError(f"{kind!r} is no content type")
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{escaped}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    before = "".join(parts).encode("utf-8", "surrogateescape")
    return f"multipart/form-data; boundary={boundary}", before, f"\r\n--{boundary}--\r\n".encode()


def token_expiry(token: str) -> float | None:
    """When a token ends (seconds since 1970) if it says so. It is read, not verified: that is the gateway's."""
    import base64  # only those who convert API keys need it

    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        expiry = claims.get("exp")
        return float(expiry) if isinstance(expiry, int | float) else None
    except (IndexError, ValueError, AttributeError):
        return None


def duration(seconds: float) -> str:
    """A time as a gateway reads it: a whole number of at most nine digits."""
    milliseconds = max(1, int(seconds * 1000))
    return f"{milliseconds}ms" if milliseconds < 10**9 else f"{min(int(seconds), 10**9 - 1)}s"


def check_timeout(timeout: float) -> float:
    """Refuse a timeout that cannot be kept.

    Raises:
        GatewayError: it is not a positive number of seconds.
    """
    try:
        can_be = 0 < timeout < float("inf")
    except TypeError:
        can_be = False
    if not can_be:
        raise GatewayError(f"timeout must be a positive number of seconds, not {timeout!r}")
    return timeout
