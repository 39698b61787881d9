"""The files of the gateway in memory: the half of `testing.FakeGateway` that knows no calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from os.path import splitext
from typing import Any
from urllib.parse import quote

from . import _wire
from ._fake_wire import Answer, Asked, json_answer
from .exceptions import AgentContextRequiredError, GatewayError, RemoteFileNotFoundError, ValidationError
from .models import name_in_url

BUCKET = "fake"


class FakeStore:
    """Files by s3 URL, uploads that have begun, signed URLs that never end."""

    def __init__(self, user: str, agent: str | None, part_size: int) -> None:
        self.files: dict[str, bytes] = {}
        self.expiries: dict[str, datetime] = {}
        self.part_size = part_size
        self.user = user
        self.agent = agent
        self._numbers = count(1)
        self._uploads: dict[str, dict[str, Any]] = {}
        self.routes: dict[tuple[str, str], Callable[[Asked], Answer]] = {
            ("POST", _wire.UPLOAD): self._upload,
            ("POST", _wire.UPLOAD_TEMP): self._upload_temp,
            ("POST", _wire.GENERATE_UPLOAD_URL): self._generate_upload_url,
            ("GET", _wire.DOWNLOAD): self._download,
            ("GET", _wire.LIST): self._list,
            ("GET", _wire.LIST_TEMP): self._list_temp,
            ("DELETE", _wire.CLEANUP_TEMP): self._cleanup,
            ("POST", _wire.UPLOADS): self._begin,
        }

    def answer(self, asked: Asked) -> Answer | None:
        """The answer to a request about files, None if it is about something else."""
        route = self.routes.get((asked.method, asked.path))
        if route is not None:
            return route(asked)
        if asked.path.startswith(_wire.UPLOADS + "/"):
            return self._continue(asked, asked.path[len(_wire.UPLOADS) + 1 :])
        return None

    def signed(self, asked: Asked) -> Answer | None:
        """The answer to a signed URL, which needs no token; None if it is none."""
        if asked.path.startswith("/objects/"):
            return self._object(asked, asked.path[len("/objects/") :])
        return None

    def new_url(self, area: str, name: str, session_id: str | None = None) -> str:
        """The URL of a file that does not exist yet."""
        stamp = datetime.now(UTC)
        number = next(self._numbers)
        if area == "inputs":
            return f"s3://{BUCKET}/agent-inputs/{self.user}/{stamp:%Y/%m/%d}/{number:012d}-{name}"
        if area == "workspace":
            return f"{self._area('agent-workspace')}{session_id or 'default'}/{number:012d}-{name}"
        return f"{self._area('agent-outputs')}{stamp:%Y/%m/%d}/{number:012d}-{name}"

    def keep_result(self, job_id: str, name: str, data: bytes) -> str:
        """Keep what the function of a job wrote; gives its URL."""
        folder = f"s3://{BUCKET}/prefab-outputs/{self.user}/{datetime.now(UTC):%Y/%m/%d}/{job_id}/"
        url = folder + name
        stem, extension = splitext(name)
        again = count(2)
        while url in self.files:
            url = f"{folder}{stem} ({next(again)}){extension}"
        self.files[url] = data
        return url

    def read(self, url: str) -> bytes:
        """The bytes of a file."""
        if url not in self.files:
            raise RemoteFileNotFoundError(f"there is no file {url}", status_code=404)
        return self.files[url]

    def _area(self, area: str) -> str:
        if self.agent is None:
            raise AgentContextRequiredError("file operations need an agent behind the token", status_code=400)
        return f"s3://{BUCKET}/{area}/{self.user}/{self.agent}/"

    def _keep(self, url: str, data: bytes, ttl: int | None = None) -> dict[str, Any]:
        self.files[url] = data
        if ttl is not None:
            self.expiries[url] = datetime.now(UTC) + timedelta(seconds=ttl)
        return {"success": True, **self._entry(url)}

    def _entry(self, url: str) -> dict[str, Any]:
        expires_at = self.expiries.get(url)
        return {
            "s3_url": url,
            "filename": name_in_url(url),
            "size": len(self.files[url]),
            "sha256": hashlib.sha256(self.files[url]).hexdigest(),
            "expires_at": expires_at.isoformat() if expires_at else None,
        }

    def _upload(self, asked: Asked) -> Answer:
        name, data, _ = parse_form(asked)
        return json_answer(self._keep(self.new_url("outputs", name), data))

    def _upload_temp(self, asked: Asked) -> Answer:
        name, data, fields = parse_form(asked)
        url = self.new_url("workspace", name, fields.get("session_id"))
        return json_answer(self._keep(url, data, int(fields.get("ttl", "86400"))))

    def _generate_upload_url(self, asked: Asked) -> Answer:
        url = self.new_url("inputs", str(asked.json().get("filename")))
        return json_answer({"upload_url": self._signed_url(asked, url), "s3_url": url})

    def _signed_url(self, asked: Asked, url: str, part: int = 0) -> str:
        return f"{asked.host}/objects/{quote(url.removeprefix('s3://'))}?signature=s" + (
            f"&part={part}" if part else ""
        )

    def _download(self, asked: Asked) -> Answer:
        url = asked.query.get("s3_url", "")
        self.read(url)
        return json_answer({"presigned_url": self._signed_url(asked, url), **self._entry(url)})

    def _list(self, asked: Asked) -> Answer:
        return self._page(asked, self._area("agent-outputs"))

    def _list_temp(self, asked: Asked) -> Answer:
        session_id = asked.query.get("session_id")
        return self._page(asked, self._area("agent-workspace") + (f"{session_id}/" if session_id else ""))

    def _page(self, asked: Asked, area: str) -> Answer:
        found = sorted(url for url in list(self.files) if url.startswith(area + asked.query.get("prefix", "")))
        start = int(asked.query.get("continuation_token", "0"))
        end = start + int(asked.query.get("limit", "100"))
        page: dict[str, Any] = {"files": [self._entry(url) for url in found[start:end] if url in self.files]}
        if end < len(found):
            page["next_token"] = str(end)
        return json_answer(page)

    def _cleanup(self, asked: Asked) -> Answer:
        session_id = asked.query.get("session_id")
        area = self._area("agent-workspace") + (f"{session_id}/" if session_id else "")
        gone = [url for url in list(self.files) if url.startswith(area)]
        for url in gone:
            self.files.pop(url, None)
        return json_answer({"deleted_count": len(gone)})

    def _begin(self, asked: Asked) -> Answer:
        wish = asked.json()
        url = self.new_url(wish["area"], wish["filename"], wish.get("session_id"))
        upload_id = f"u{next(self._numbers)}"
        self._uploads[upload_id] = {**wish, "s3_url": url, "parts": {}}
        self._uploads[url] = self._uploads[upload_id]
        return json_answer({**self._progress(asked, upload_id), "s3_url": url}, 201)

    def _progress(self, asked: Asked, upload_id: str) -> dict[str, Any]:
        upload = self._uploads[upload_id]
        parts = range(1, -(-int(upload["size"]) // self.part_size) + 1)
        return {
            "upload_id": upload_id,
            "part_size": self.part_size,
            "received": sorted(upload["parts"]),
            "part_urls": [self._signed_url(asked, upload["s3_url"], part) for part in parts],
        }

    def _continue(self, asked: Asked, place: str) -> Answer:
        upload_id, _, action = place.partition("/")
        if upload_id not in self._uploads:
            raise RemoteFileNotFoundError(f"there is no upload {upload_id}", status_code=404)
        if asked.method == "GET":
            return json_answer(self._progress(asked, upload_id))
        upload = self._uploads.pop(upload_id)
        self._uploads.pop(upload["s3_url"])
        if action != "complete":
            return Answer(204, {})
        data = b"".join(upload["parts"][number] for number in sorted(upload["parts"]))
        if hashlib.sha256(data).hexdigest() != asked.json().get("sha256") or len(data) != upload["size"]:
            raise ValidationError("the parts are not the file that was announced", status_code=422)
        return json_answer(self._keep(upload["s3_url"], data, upload.get("ttl")))

    @property
    def unfinished(self) -> int:
        """How many uploads have begun and neither been completed nor given up."""
        return len(self._uploads) // 2

    def _object(self, asked: Asked, key: str) -> Answer:
        url = f"s3://{key}"
        if asked.method == "PUT":
            if "part" in asked.query:
                self._uploads[url]["parts"][int(asked.query["part"])] = asked.body
            else:
                self.files[url] = asked.body
            return Answer(200, {"etag": f'"{hashlib.sha256(asked.body).hexdigest()[:16]}"'})
        data = self.read(url)
        headers = {"etag": f'"{hashlib.sha256(data).hexdigest()[:16]}"', "content-type": "application/octet-stream"}
        span = asked.headers.get("range", "")
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        if not span or asked.headers.get("if-range", headers["etag"]) != headers["etag"]:
            return Answer(200, headers, data)
        headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Answer(206, headers, data[start:])


def parse_form(asked: Asked) -> tuple[str, bytes, dict[str, str]]:
    """The file's name, its bytes and the other fields of a form."""
    kind, _, boundary = asked.headers.get("content-type", "").partition("boundary=")
    if not kind.startswith("multipart/form-data"):
        raise GatewayError("this is no form", error_code="VALIDATION_ERROR", status_code=422)
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
