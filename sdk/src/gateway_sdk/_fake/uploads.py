"""Large files on their way into the gateway in memory, in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from typing import Any

from .. import _wire
from ..exceptions import RemoteFileNotFoundError, ValidationError
from .store import FakeStore
from .wire import Answer, Asked, json_answer

Sign = Callable[[Asked, str, int], str]
"""Gives the URL to which a part of a file goes, by request, s3 URL and number."""


class FakeUploads:
    """Uploads that have begun."""

    def __init__(self, store: FakeStore, sign: Sign) -> None:
        self._store = store
        self._sign = sign
        self._numbers = count(1)
        self._uploads: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._uploads)

    def answer(self, asked: Asked) -> Answer | None:
        """The answer to a request about uploads in parts, None if it is about something else."""
        if (asked.method, asked.path) == ("POST", _wire.UPLOADS):
            return self._begin(asked)
        if asked.path.startswith(_wire.UPLOADS + "/"):
            return self._continue(asked, asked.path.removeprefix(_wire.UPLOADS + "/"))
        return None

    def put_part(self, url: str, number: int, data: bytes) -> None:
        """A part of the file has come.

        Raises:
            RemoteFileNotFoundError: its upload has ended.
        """
        for upload in list(self._uploads.values()):
            if upload["s3_url"] == url:
                upload["parts"][number] = data
                return
        raise RemoteFileNotFoundError(f"there is no upload of {url}")

    def _begin(self, asked: Asked) -> Answer:
        wish = asked.json()
        url = self._store.new_url(wish["area"], wish["filename"], asked.agent, wish.get("session_id"))
        upload_id = f"u{next(self._numbers)}"
        self._uploads[upload_id] = {**wish, "s3_url": url, "parts": {}}
        return json_answer({**self._progress(asked, upload_id), "s3_url": url}, 201)

    def _progress(self, asked: Asked, upload_id: str) -> dict[str, Any]:
        upload = self._uploads[upload_id]
        parts = range(1, -(-int(upload["size"]) // self._store.part_size) + 1)
        return {
            "upload_id": upload_id,
            "part_size": self._store.part_size,
            "received": sorted(upload["parts"]),
            "part_urls": [self._sign(asked, upload["s3_url"], part) for part in parts],
        }

    def _continue(self, asked: Asked, place: str) -> Answer:
        upload_id, _, action = place.partition("/")
        if upload_id not in self._uploads:
            raise RemoteFileNotFoundError(f"there is no upload {upload_id}")
        if asked.method == "GET":
            return json_answer(self._progress(asked, upload_id))
        upload = self._uploads.pop(upload_id)
        if action != "complete":
            return Answer(204, {})
        data = b"".join(upload["parts"][number] for number in sorted(upload["parts"]))
        if hashlib.sha256(data).hexdigest() != asked.json().get("sha256") or len(data) != upload["size"]:
            raise ValidationError("the parts are not the file that was announced")
        return json_answer({"success": True, **self._store.keep(upload["s3_url"], data, upload.get("ttl"))})
