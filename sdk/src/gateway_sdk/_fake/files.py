"""The files of the gateway in memory over HTTP: the half of `testing.FakeGateway` that knows no calls."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from urllib.parse import quote

from .. import _wire
from ..exceptions import GatewayError, PermissionDeniedError
from .server import ObjectServer
from .store import FakeStore
from .uploads import FakeUploads
from .wire import Answer, Asked, error_answer, json_answer, refusal

LONGEST_SIGNATURE = 7 * 86400
_OBJECTS = "/objects/"
_RANGE = re.compile(r"bytes=(?!-\Z)(\d*)-(\d*)\Z", re.ASCII)
"""One range. Of several, the whole object is sent."""
_INTEGER = re.compile(r"-?\d{1,12}\Z")


class FakeFiles:
    """Uploads, downloads, lists.

    Args:
        address: an address at which nobody listens: what is signed there is served on this machine.

    Attributes:
        uploads: those in parts.
    """

    def __init__(self, store: FakeStore, address: str) -> None:
        self.uploads = FakeUploads(store, _part_url)
        self._store = store
        self._address = address
        self._server = ObjectServer(self._served)
        self._routes: dict[tuple[str, str], Callable[[Asked], Answer]] = {
            ("POST", _wire.UPLOAD): self._upload,
            ("POST", _wire.UPLOAD_TEMP): self._upload_temp,
            ("POST", _wire.GENERATE_UPLOAD_URL): self._generate_upload_url,
            ("GET", _wire.DOWNLOAD): self._download,
            ("GET", _wire.LIST): self._list,
            ("GET", _wire.LIST_TEMP): self._list_temp,
            ("DELETE", _wire.CLEANUP_TEMP): self._cleanup,
        }

    def answer(self, asked: Asked) -> Answer | None:
        """The answer to a request about files, None if it is about something else.

        Raises:
            GatewayError: the refusal.
        """
        route = self._routes.get((asked.method, asked.path))
        return self.uploads.answer(asked) if route is None else route(asked)

    def signed(self, asked: Asked) -> Answer | None:
        """The answer to a signed URL, which needs no token; None if it is none.

        Raises:
            GatewayError: it does not hold any more.
        """
        if not asked.path.startswith(_OBJECTS):
            return None
        if float(asked.query.get("expires", "inf")) < time.time():
            raise PermissionDeniedError("The URL has expired.")
        return self._object(asked, "s3://" + asked.path.removeprefix(_OBJECTS))

    def close(self) -> None:
        """Nobody fetches anything any more."""
        self._server.close()

    def _served(self, asked: Asked) -> Answer:
        try:
            return self.signed(asked) or json_answer({"detail": "Not Found"}, 404)
        except GatewayError as error:
            return error_answer(error)

    def _upload(self, asked: Asked) -> Answer:
        name, data, _ = parse_form(asked)
        url = self._store.new_url("outputs", name, asked.agent)
        return json_answer({"success": True, **self._store.keep(url, data)})

    def _upload_temp(self, asked: Asked) -> Answer:
        name, data, fields = parse_form(asked)
        url = self._store.new_url("workspace", name, asked.agent, fields.get("session_id"))
        ttl = _integer(fields.get("ttl", "86400"), "/ttl")
        return json_answer({"success": True, **self._store.keep(url, data, ttl)})

    def _generate_upload_url(self, asked: Asked) -> Answer:
        url = self._store.new_url("inputs", str(asked.json().get("filename")))
        return json_answer({"upload_url": _object_url(asked, url, {"signature": "s"}), "s3_url": url})

    def _download(self, asked: Asked) -> Answer:
        url = asked.query.get("s3_url", "")
        self._store.read(url)
        seconds = _integer(asked.query.get("expires_in", "3600"), "/expires_in")
        if not 1 <= seconds <= LONGEST_SIGNATURE:
            message = f"expires_in must be between 1 and {LONGEST_SIGNATURE} seconds."
            raise refusal("/expires_in", message, message)
        signature = {"expires": f"{time.time() + seconds:.3f}", "signature": "s"}
        if asked.host == self._address:
            asked.host = self._server.address() or asked.host
        return json_answer({"presigned_url": _object_url(asked, url, signature), **self._store.entry(url)})

    def _list(self, asked: Asked) -> Answer:
        return self._page(asked, self._store.folder("agent-outputs", asked.agent))

    def _list_temp(self, asked: Asked) -> Answer:
        return self._page(asked, self._store.folder("agent-workspace", asked.agent, asked.query.get("session_id")))

    def _page(self, asked: Asked, area: str) -> Answer:
        found = self._store.found(area + asked.query.get("prefix", ""))
        start = _integer(asked.query.get("continuation_token", "0"), "/continuation_token")
        end = start + _integer(asked.query.get("limit", "100"), "/limit")
        page = {"files": [self._store.entry(url) for url in found[start:end]]}
        return json_answer(page | ({"next_token": str(end)} if end < len(found) else {}))

    def _cleanup(self, asked: Asked) -> Answer:
        gone = self._store.found(self._store.folder("agent-workspace", asked.agent, asked.query.get("session_id")))
        for url in gone:
            self._store.remove(url)
        return json_answer({"deleted_count": len(gone)})

    def _object(self, asked: Asked, url: str) -> Answer:
        if asked.method == "PUT":
            if "part" in asked.query:
                self.uploads.put_part(url, int(asked.query["part"]), asked.body)
            else:
                self._store.keep(url, asked.body)
            return Answer(200, {"etag": _etag(asked.body)})
        data = self._store.read(url)
        headers = {"etag": _etag(data), "content-type": "application/octet-stream"}
        found = _RANGE.match(asked.headers.get("range", ""))
        if found is None or asked.headers.get("if-range", headers["etag"]) != headers["etag"]:
            return Answer(200, headers, data)
        first, last = found.groups()
        start = int(first) if first else max(len(data) - int(last), 0)
        end = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= end:
            return Answer(416, {"content-range": f"bytes */{len(data)}"})
        headers["content-range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return Answer(206, headers, data[start:end])


def parse_form(asked: Asked) -> tuple[str, bytes, dict[str, str]]:
    """The file's name, its bytes and the other fields of a form.

    Raises:
        ValidationError: it is no form.
    """
    kind, _, boundary = asked.headers.get("content-type", "").partition("boundary=")
    if not kind.startswith("multipart/form-data"):
        message = "The file must be sent as a part named file of a multipart/form-data body."
        raise refusal("/file", message, message)
    name, data, fields = "", b"", {}
    for part in (b"\r\n" + asked.body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode()
        field = text.partition('name="')[2].partition('"')[0]
        if "filename=" in text:
            name, data = text.partition('filename="')[2].partition('"')[0].replace("%22", '"'), value
        else:
            fields[field] = value.decode()
    return name, data, fields


def _part_url(asked: Asked, url: str, part: int) -> str:
    return _object_url(asked, url, {"signature": "s", "part": str(part)})


def _object_url(asked: Asked, url: str, query: dict[str, str]) -> str:
    told = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{asked.host}{_OBJECTS}{quote(url.removeprefix('s3://'))}?{told}"


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _integer(text: str, pointer: str) -> int:
    if not _INTEGER.match(text):
        raise refusal(pointer, "must be a whole number")
    return int(text)
