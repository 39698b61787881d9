"""What lies in a bucket at S3, asked by signed requests of our own: whole objects, and uploads in parts that go on."""

import re
from collections.abc import Mapping
from datetime import datetime
from html import unescape
from typing import NamedTuple, Protocol

import httpx

from gateway_server.errors import ServiceUnavailable

_SECONDS = 300.0
_OBJECT = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)


class Sign(Protocol):
    """Makes a signed URL of the bucket."""

    def __call__(self, method: str, expires_in: float, parameters: Mapping[str, str]) -> str: ...


class Begun(NamedTuple):
    """An upload in parts that was neither completed nor aborted."""

    name: str
    handle: str
    begun_at: float


class S3Lists:
    """Asks for up to a thousand at a time. Names are those of the bucket."""

    def __init__(self, http: httpx.AsyncClient, sign: Sign) -> None:
        self._http = http
        self._sign = sign

    async def objects(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """Names and bytes of the objects that begin with `prefix` and follow the name `after`, in their order."""
        answer = await self._ask({"list-type": "2", "prefix": prefix} | ({"start-after": after} if after else {}))
        return [(text(found, "Key"), int(text(found, "Size"))) for found in _OBJECT.findall(answer)]

    async def uploads(self, prefix: str) -> list[Begun]:
        """Uploads in parts of names that begin with `prefix`."""
        answer = await self._ask({"uploads": "", "prefix": prefix})
        return [
            Begun(text(found, "Key"), text(found, "UploadId"), _moment(text(found, "Initiated")))
            for found in _UPLOAD.findall(answer)
        ]

    async def _ask(self, parameters: dict[str, str]) -> str:
        try:
            answer = await self._http.get(self._sign("GET", _SECONDS, parameters))
        except httpx.HTTPError as error:
            raise ServiceUnavailable("The store of files does not answer.") from error
        if not answer.is_success:
            raise ServiceUnavailable(f"The store of files answered {answer.status_code}.")
        return answer.text


def text(xml: str, name: str) -> str:
    """What an element of an answer holds."""
    found = re.search(rf"<{name}>(.*?)</{name}>", xml, re.DOTALL)
    if found is None:
        raise ServiceUnavailable(f"The store of files gave no {name}.")
    return unescape(found[1])


def _moment(iso: str) -> float:
    return datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp()
