"""The bytes of files, straight between this machine and the store, in constant memory."""

from __future__ import annotations

from . import _wire
from ._aio import in_thread, sleep, together
from ._async_session import AsyncSession, read_at_most
from ._async_transport import AsyncReplyLike
from ._failures import backoff, error_from_reply
from ._local_file import LocalFile, Part, new_sha256
from ._meter import Meter, Progress
from ._partial_file import PartialFile, answered_range
from ._request import Body, Patience, Request
from ._typing import Any
from .exceptions import ConnectionFailedError, DeadlineExceededError, GatewayError
from .models import StoredFile, name_in_url

# Tries without any progress before a transfer is given up. What has arrived is never sent again.
FRUITLESS_TRIES = 6
# Parts of one upload that are sent at once.
MOST_AT_ONCE = 4
_ERROR_BYTES = 64 * 1024
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


async def put(session: AsyncSession, url: str, body: Body, content_type: str | None = None) -> None:
    """Send bytes to a signed URL. The token is not for the store, the URL is enough.

    Raises:
        GatewayError: the store refused, or the connection broke, several times.
    """
    for attempt in range(FRUITLESS_TRIES):
        try:
            await _put_once(session, url, body, content_type)
            return
        except (ConnectionFailedError, DeadlineExceededError) as error:
            failure: GatewayError = error
        except GatewayError as error:
            if error.status_code not in _AGAIN:
                raise
            failure = error
        if attempt == FRUITLESS_TRIES - 1:
            raise failure
        await sleep(backoff(attempt))


async def _put_once(session: AsyncSession, url: str, body: Body, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    request = Request("PUT", _absolute(session, url), headers, body)
    # sync: warn_about_running_loop()
    reply = await session._transport().send(request, _patience(session))
    if not 200 <= reply.status < 300:
        raise await _refusal(reply, request)
    await reply.read()


class AsyncPartsUpload:
    """A large file on its way, a few parts at once; a part that is cut is sent again, the others are not."""

    def __init__(self, session: AsyncSession, file: LocalFile, begun: dict[str, Any], meter: Meter) -> None:
        self.session = session
        self.file = file
        self.meter = meter
        self.digest = ""
        self.path = f"{_wire.UPLOADS}/{_wire.segment(_wire.text_field(begun, 'upload_id', 'upload'))}"
        self.part_size, self.urls = _parts(begun, file.size)
        self._numbers = iter(range(1, len(self.urls) + 1))

    @classmethod
    async def begin(
        cls, session: AsyncSession, file: LocalFile, wish: dict[str, Any], meter: Meter
    ) -> AsyncPartsUpload:
        """Announce a file to the gateway."""
        body = _wire.json_body({"filename": file.name, "size": file.size, **wish})
        return cls(session, file, await session._ask("POST", _wire.UPLOADS, body), meter)

    async def finish(self) -> StoredFile:
        """Send all parts and have the gateway put them together.

        Raises:
            LocalFileChangedError: the file changed meanwhile.
            GatewayError: it did not work; nothing is left behind in the store.
        """
        try:
            senders = [self._send_parts] * min(MOST_AT_ONCE, len(self.urls))
            await together([self._read_digest, *senders], self.meter.stop)
            self.file.check()
            self.meter.end()
            body = _wire.json_body({"sha256": self.digest})
            answer = await self.session._ask("POST", f"{self.path}/complete", body)
            return _wire.parse_stored({"sha256": self.digest, "size": self.file.size, **answer}, "upload")
        except BaseException:
            await self._abandon()
            raise

    async def _read_digest(self) -> None:
        def read() -> str:
            digest = new_sha256()
            for block in Part(self.file, 0, self.file.size, tell=self.meter.check):
                digest.update(block)
            return digest.hexdigest()

        self.digest = await in_thread(read)

    async def _send_parts(self) -> None:
        """Send whatever part nobody else has begun, until there is none."""
        for number in self._numbers:
            start = (number - 1) * self.part_size
            length = min(self.part_size, self.file.size - start)
            await self._send_part(number, Part(self.file, start, length, tell=self.meter.part(number)))

    async def _send_part(self, number: int, part: Part) -> None:
        try:
            await put(self.session, self.urls[number - 1], part)
        except GatewayError as error:
            if error.status_code != 403:
                raise
            # A signed URL has ended while the parts before it were on their way: ask for new ones.
            self.part_size, self.urls = _parts(await self.session._ask("GET", self.path), self.file.size)
            await put(self.session, self.urls[number - 1], part)

    async def _abandon(self) -> None:
        headers = _wire.headers_for(self.session._token)
        request = Request("DELETE", self.session.base_url + self.path, headers)
        try:
            reply = await self.session._transport().send(request, Patience(2.0, 2.0))
            await reply.read()
        except GatewayError:
            pass  # the gateway removes what nobody completes


def _parts(answer: dict[str, Any], size: int) -> tuple[int, list[str]]:
    part_size, urls = answer.get("part_size"), answer.get("part_urls")
    if not isinstance(part_size, int) or part_size < 1 or not isinstance(urls, list) or len(urls) * part_size < size:
        raise GatewayError("the gateway's answer to the upload makes no sense: its parts do not cover the file")
    return part_size, [str(url) for url in urls]


async def download(session: AsyncSession, s3_url: str, path: str, progress: Progress | None) -> str:
    """Fetch a file of the store into `path` (a folder: under the file's own name). Returns the path written.

    Raises:
        TransferError: what arrived is not what the store holds.
        GatewayError: refused, or cut too often.
    """
    answer = await presigned(session, s3_url, 3600)
    name = answer.get("filename")
    name = name if isinstance(name, str) and name else name_in_url(s3_url)
    with PartialFile(path, name, answer.get("size"), answer.get("sha256")) as partial:
        await _fetch_all(session, s3_url, answer["presigned_url"], partial, progress)
        return partial.complete()


async def presigned(session: AsyncSession, s3_url: str, expires_in: int) -> dict[str, Any]:
    """What the gateway says about a file, with a URL that everybody can read it from for `expires_in` seconds."""
    _wire.check_s3_url(s3_url)
    path = _wire.path(_wire.DOWNLOAD, s3_url=s3_url, mode="presigned", expires_in=expires_in)
    answer = await session._ask("GET", path)
    _wire.text_field(answer, "presigned_url", path)
    return answer


async def _fetch_all(
    session: AsyncSession, s3_url: str, url: str, partial: PartialFile, progress: Progress | None
) -> None:
    fruitless = 0
    while True:
        before = partial.done
        try:
            await _fetch(session, url, partial, progress)
            return
        except GatewayError as error:
            fruitless = 1 if partial.done > before else fruitless + 1
            cut = isinstance(error, ConnectionFailedError | DeadlineExceededError) or error.status_code in _AGAIN
            ended = error.status_code == 403
            if fruitless >= FRUITLESS_TRIES or not (cut or (ended and before) or error.status_code == 416):
                raise
            if error.status_code == 416:
                partial.restart()
        if ended:
            url = (await presigned(session, s3_url, 3600))["presigned_url"]
        await sleep(backoff(fruitless))


async def _fetch(session: AsyncSession, url: str, partial: PartialFile, progress: Progress | None) -> None:
    request = Request("GET", _absolute(session, url), {"Accept": "*/*", **partial.range_headers()})
    # sync: warn_about_running_loop()
    reply = await session._transport().send(request, _patience(session))
    if reply.status not in (200, 206):
        raise await _refusal(reply, request)
    try:
        if reply.status == 200 or answered_range(reply.headers) != partial.done:
            if reply.status == 206 and answered_range(reply.headers) != 0:
                raise ConnectionFailedError(f"{request!r}: the store sent another range than asked for")
            partial.restart()
        partial.expect(reply.status, reply.headers)
        while count := await reply.into(partial.room()):
            partial.arrived(count)
            if progress is not None:
                progress(partial.done, partial.total)
    except BaseException:
        await reply.close()
        raise


async def _refusal(reply: AsyncReplyLike, request: Request) -> GatewayError:
    return error_from_reply(reply.status, reply.headers, await read_at_most(reply, _ERROR_BYTES), repr(request))


def _patience(session: AsyncSession) -> Patience:
    return Patience(_wire.check_timeout(session.timeout))


def _absolute(session: AsyncSession, url: str) -> str:
    return session.base_url + url if url.startswith("/") else url
