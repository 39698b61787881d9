"""Uploads in parts at S3: begun, listed, completed and aborted by signed requests of our own."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol
from xml.sax.saxutils import escape

import httpx

from gateway_server.errors import FileNotFound, Invalid, Problem, ServiceUnavailable
from gateway_server.store.objects import Assembly
from gateway_server.store.s3_lists import text

_SECONDS = 300.0
_PAUSES = (0.5, 2.0)
"""Seconds before a part is sent again."""
_PART = re.compile(r"<Part>(.*?)</Part>", re.DOTALL)


class Sign(Protocol):
    """Makes a signed URL."""

    def __call__(
        self, method: str, key: str, expires_in: float, *, parameters: Mapping[str, str] | None = None
    ) -> str: ...


class _Part(NamedTuple):
    number: int
    etag: str
    size: int


class S3Parts:
    """The requests of uploads in parts."""

    def __init__(self, http: httpx.AsyncClient, sign: Sign) -> None:
        self._http = http
        self._sign = sign

    async def begin(self, assembly: Assembly) -> str:
        """Begins an upload; returns the store's id of it."""
        answer = await self._ask("POST", assembly, {"uploads": ""})
        return text(answer, "UploadId")

    async def put(self, assembly: Assembly, number: int, data: bytes) -> None:
        """Sends a part; again if the store does not take it, as the last one to arrive whole counts.

        Raises:
            FileNotFound: there is no such upload (any more).
        """
        for pause in (*_PAUSES, None):
            try:
                await self._ask("PUT", assembly, {"partNumber": str(number), "uploadId": assembly.handle or ""}, data)
                return
            except ServiceUnavailable:
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def received(self, assembly: Assembly) -> list[int]:
        """The numbers of the parts that have arrived, ascending.

        Raises:
            FileNotFound: there is no such upload (any more).
        """
        return [part.number for part in await self._list(assembly)]

    async def complete(self, assembly: Assembly) -> None:
        """Makes the object of its parts.

        Raises:
            Invalid: parts are missing or have the wrong size.
            FileNotFound: there is no such upload (any more).
        """
        parts = await self._list(assembly)
        sizes = {part.number: part.size for part in parts}
        wrong = [number for number in range(1, assembly.parts + 1) if sizes.get(number) != assembly.extent(number)[1]]
        if wrong or len(parts) != assembly.parts:
            named = ", ".join(map(str, wrong[:20])) + (", …" if len(wrong) > 20 else "")
            message = f"{len(wrong)} of {assembly.parts} parts have not arrived: {named}."
            raise Invalid(message, [Problem("/parts", message)])
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>" for part in parts
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        answer = await self._ask("POST", assembly, {"uploadId": assembly.handle or ""}, body)
        if "<Error>" in answer:  # S3 answers 200 before it knows
            raise ServiceUnavailable("The store could not complete the upload; try again.")

    async def abort(self, assembly: Assembly) -> None:
        """Forgets an upload; one that does not exist is passed over."""
        if assembly.handle is not None:
            with suppress(FileNotFound):
                await self._ask("DELETE", assembly, {"uploadId": assembly.handle})

    async def _list(self, assembly: Assembly) -> Sequence[_Part]:
        parts: list[_Part] = []
        marker = "0"
        while True:
            asked = {"uploadId": assembly.handle or "", "part-number-marker": marker}
            answer = await self._ask("GET", assembly, asked)
            for part in _PART.findall(answer):
                parts.append(_Part(int(text(part, "PartNumber")), text(part, "ETag"), int(text(part, "Size"))))
            if "<IsTruncated>true</IsTruncated>" not in answer:
                return parts
            marker = text(answer, "NextPartNumberMarker")

    async def _ask(self, method: str, assembly: Assembly, parameters: dict[str, str], body: bytes = b"") -> str:
        url = self._sign(method, assembly.key, _SECONDS, parameters=parameters)
        try:
            answer = await self._http.request(method, url, content=body)
        except httpx.HTTPError as error:
            raise ServiceUnavailable("The store of files does not answer.") from error
        if answer.status_code == 404:
            raise FileNotFound(f"There is no upload {assembly.id}, or it has ended.")
        if not answer.is_success:
            raise ServiceUnavailable(f"The store of files answered {answer.status_code}.")
        return answer.text
