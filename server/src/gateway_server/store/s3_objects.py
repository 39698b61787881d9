"""Objects in S3, or in what speaks like it. Clients send and fetch bytes there, past the gateway.

`obstore` carries what does pass through the gateway; the steps of an upload in parts are requests of our own. Where the
store is, and with which key, is read from the usual variables (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`).
"""

import logging
import os
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway_server.errors import FileNotFound, PayloadTooLarge, ServiceUnavailable
from gateway_server.models import now
from gateway_server.store.disk import Disk, write_all
from gateway_server.store.objects import BLOCK, Assembly, Written
from gateway_server.store.s3_lists import Begun, S3Lists
from gateway_server.store.s3_parts import S3Parts
from gateway_server.store.s3_signatures import Credentials, presign
from gateway_server.store.s3_writing import PART, S3Writer, part_size

if TYPE_CHECKING:
    from obstore.store import S3Config

logger = logging.getLogger("gateway")
_LEFTOVERS = 500
_WAITING = "incoming/"
"""Keys of what is still on its way."""


class S3Objects:
    """A prefix of one bucket."""

    direct = True
    most_received: float = 5 << 30  # which S3 copies

    def __init__(self, bucket: str, prefix: str, *, endpoint: str, path_style: bool, credentials: Credentials) -> None:
        self._root = f"s3://{bucket}/{prefix}"
        self._prefix = prefix
        self._credentials = credentials
        place = urlsplit(endpoint)
        host = (
            f"{place.scheme}://{place.netloc}/{bucket}" if path_style else f"{place.scheme}://{bucket}.{place.netloc}"
        )
        self._address = host
        self._disk = Disk()
        self._http = httpx.AsyncClient(timeout=60)
        self._parts = S3Parts(self._http, self._presigned)
        self._lists = S3Lists(self._http, self._presigned_bucket)
        self._store = S3Store(
            bucket,
            endpoint=endpoint if path_style else host,
            region=credentials.region,
            config=_config(credentials),
            virtual_hosted_style_request=not path_style,
            client_options={"allow_http": place.scheme == "http"},
        )

    @classmethod
    def from_url(cls, url: str, environment: Mapping[str, str] = os.environ) -> "S3Objects":
        """The store behind `s3://bucket/prefix`.

        Raises:
            ValueError: the URL or the variables do not name a store.
        """
        parsed = urlsplit(url)
        if parsed.scheme != "s3" or not parsed.netloc:
            raise ValueError(f"{url!r} is no store; it should look like s3://bucket/prefix")
        try:
            key, secret = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        except KeyError as error:
            raise ValueError(f"the store needs the environment variable {error}") from error
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        prefix = parsed.path.strip("/")
        return cls(
            parsed.netloc,
            f"{prefix}/" if prefix else "",
            endpoint=endpoint or f"https://s3.{region}.amazonaws.com",
            path_style=endpoint is not None,
            credentials=Credentials(
                access_key_id=key,
                secret_access_key=secret,
                session_token=environment.get("AWS_SESSION_TOKEN"),
                region=region,
            ),
        )

    def url(self, key: str) -> str:
        """The s3:// URL of a key."""
        return self._root + key

    def key(self, s3_url: str) -> str | None:
        """The key that an s3:// URL of this store names; None for every other store."""
        return s3_url[len(self._root) :] if s3_url.startswith(self._root) else None

    def receive(self, incoming: str, content_type: str | None = None) -> "S3Incoming":
        """Begins an object; `incoming` is an id that nothing else uses."""
        waiting = f"{_WAITING}{incoming}"
        return S3Incoming(self, S3Writer(waiting, self._put, self._parts), waiting)

    async def put_file(
        self, incoming: str, key: str, source: Callable[[], int], limit: int, *, durable: bool = True
    ) -> Written:
        """Stores a file; `source` opens it and gives the descriptor, in a thread.

        Raises:
            PayloadTooLarge: it has more than `limit` bytes.
            FileNotFound: it cannot be opened any more.
        """
        descriptor = await self._disk.open(source)
        writer = S3Writer(key, self._put, self._parts, part_size(os.fstat(descriptor).st_size))
        try:
            while data := await self._disk.run(os.pread, descriptor, BLOCK, writer.size):
                if writer.size + len(data) > limit:
                    raise PayloadTooLarge(f"The file has more than {limit} bytes.")
                await writer.write(data)
            return await writer.finish()
        finally:
            os.close(descriptor)
            await writer.discard()

    async def _put(self, key: str, data: bytes) -> None:
        with _translated():
            await obstore.put_async(self._store, self._prefix + key, data, use_multipart=False)

    async def copy(self, source: str, key: str) -> None:
        """Makes an object visible under another key, too."""
        with _translated():
            await obstore.copy_async(self._store, self._prefix + source, self._prefix + key)

    async def size(self, key: str) -> int | None:
        """Bytes of an object; None if there is none."""
        try:
            with _translated():
                return (await obstore.head_async(self._store, self._prefix + key))["size"]
        except (FileNotFound, ValueError):  # the latter for keys that no object can have, such as a/../b
            return None

    async def arrived(self, prefix: str, after: str) -> list[tuple[str, int]]:
        """Keys and bytes of objects whose keys begin with `prefix` and follow `after`: the next few hundred of them."""
        found = await self._lists.objects(self._prefix + prefix, self._prefix + after if after else "")
        return [(name[len(self._prefix) :], size) for name, size in found]

    async def copy_out(self, key: str, descriptor: int) -> None:
        """Writes an object into an open, empty file.

        Raises:
            FileNotFound: there is no such object.
        """
        async for data in self.read(key):
            await self._disk.run(write_all, descriptor, data)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object from `start` up to `end`, in blocks.

        Raises:
            FileNotFound: there is no such object.
        """
        with _translated():
            wanted = {"offset": start} if end is None else (start, end)
            options = {"range": wanted} if start or end is not None else {}
            found = await obstore.get_async(self._store, self._prefix + key, options=options)  # type: ignore[arg-type]
            async for data in found.stream(min_chunk_size=BLOCK):
                yield bytes(data)

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; those that do not exist are passed over."""
        with suppress(FileNotFound), _translated():
            await obstore.delete_async(self._store, [self._prefix + key for key in keys])

    async def wipe(self, keys: Sequence[str]) -> None:
        """Removes objects, and what was begun of them by `put_file` and never ended."""
        for key in keys:
            await self._abort(key, {key})
        await self.delete(keys)

    async def _abort(self, prefix: str, keys: Container[str]) -> None:
        for upload in await self._begun_if_told(prefix):
            if upload.name in keys:
                name = upload.name
                await self._parts.abort(Assembly(id=name, key=name, size=0, part_size=PART, handle=upload.handle))

    async def delete_below(self, prefix: str) -> None:
        """Removes every object whose key begins with `prefix`, which ends with a slash."""
        with _translated():
            async for some in obstore.list(self._store, self._prefix + prefix):
                with suppress(FileNotFound), _translated():
                    await obstore.delete_async(self._store, [entry["path"] for entry in some])

    def sign_get(self, key: str, expires_in: float, filename: str, content_type: str | None) -> str:
        """A URL that yields the object to anybody for `expires_in` seconds."""
        parameters = {"response-content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"}
        if content_type:
            parameters["response-content-type"] = content_type
        return self._presigned("GET", key, expires_in, parameters=parameters)

    def sign_put(self, key: str, expires_in: float, content_type: str | None) -> str:
        """A URL that takes the bytes of this one object, with exactly this Content-Type if there is one."""
        headers = {"content-type": content_type} if content_type else {}
        return self._presigned("PUT", key, expires_in, headers=headers)

    def sign_part(self, assembly: Assembly, number: int, expires_in: float) -> str:
        """A URL that takes one part, as often as needed; the last one to arrive whole counts."""
        parameters = {"partNumber": str(number), "uploadId": assembly.handle or ""}
        return self._presigned("PUT", assembly.key, expires_in, parameters=parameters)

    def _presigned(
        self,
        method: str,
        key: str,
        expires_in: float,
        *,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        url = f"{self._address}/{quote(self._prefix + key, safe='/~')}"
        return presign(self._credentials, method, url, expires_in, now(), parameters=parameters, headers=headers)

    def _presigned_bucket(self, method: str, expires_in: float, parameters: Mapping[str, str]) -> str:
        return presign(self._credentials, method, f"{self._address}/", expires_in, now(), parameters=parameters)

    async def begin(self, assembly: Assembly) -> str:
        """Makes room for an object in parts; returns the store's handle of it."""
        return await self._parts.begin(assembly)

    async def received(self, assembly: Assembly) -> list[int]:
        """The numbers of the parts that have arrived whole, ascending.

        Raises:
            FileNotFound: there is no such upload (any more).
        """
        return await self._parts.received(assembly)

    async def assemble(self, assembly: Assembly, sha256: str | None) -> Written:
        """Makes the object of its parts. The digest is taken on trust: the bytes have not been here.

        Raises:
            Invalid: parts are missing or have the wrong size.
            FileNotFound: there is no such upload (any more).
        """
        try:
            await self._parts.complete(assembly)
        except FileNotFound:
            if await self.size(assembly.key) != assembly.size:  # else: completed, and the gateway died after it
                raise
        return Written(assembly.size, sha256.lower() if sha256 else None)

    async def discard(self, assembly: Assembly) -> None:
        """Forgets an object in parts; one that does not exist is passed over."""
        await self._parts.abort(assembly)

    async def leftovers(self, before: float) -> list[str]:
        """Ids of what came in before a POSIX time and was neither committed nor discarded (a few hundred at a time)."""
        found = {upload.name for upload in await self._begun_if_told(_WAITING) if upload.begun_at < before}
        with _translated():
            async for some in obstore.list(self._store, self._prefix + _WAITING):
                found.update(entry["path"] for entry in some if entry["last_modified"].timestamp() < before)
                if len(found) >= _LEFTOVERS:
                    break
        return [name.rpartition("/")[2] for name in found]

    async def begun(self, prefix: str) -> list[Begun]:
        """Uploads in parts of keys that begin with `prefix`, in so far as they were neither completed nor aborted."""
        found = await self._lists.uploads(self._prefix + prefix)
        return [upload._replace(name=upload.name[len(self._prefix) :]) for upload in found]

    async def _begun_if_told(self, prefix: str) -> list[Begun]:
        """The same; none where the store does not tell, which takes a permission of its own."""
        try:
            return await self.begun(prefix)
        except ServiceUnavailable as error:
            logger.warning("uploads in parts that were cut cannot be listed: %s", error.message)
            return []

    async def drop(self, incoming: Sequence[str]) -> None:
        """Removes leftovers."""
        keys = {f"{_WAITING}{identifier}" for identifier in incoming}
        if keys:
            await self._abort(_WAITING, keys)
            await self.delete(sorted(keys))

    async def close(self) -> None:
        """Closes the connections, and waits for the threads."""
        await self._http.aclose()
        self._disk.close()


class S3Incoming:
    """An object on its way through the gateway: first under a name of its own, since a form may tell the key last."""

    def __init__(self, objects: S3Objects, writer: S3Writer, waiting: str) -> None:
        self._objects = objects
        self._writer = writer
        self._waiting = waiting
        self._waits = False
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Adds bytes."""
        self.size += len(data)
        await self._writer.write(data)

    async def commit(self, key: str) -> Written:
        """Makes the object visible under `key`."""
        self._waits = True
        written = await self._writer.finish()
        await self._objects.copy(self._waiting, key)
        return written

    async def discard(self) -> None:
        """Removes what waits under its own name."""
        await self._writer.discard()
        if self._waits:
            await self._objects.delete([self._waiting])


def _config(credentials: Credentials) -> "S3Config":
    config: S3Config = {
        "access_key_id": credentials.access_key_id,
        "secret_access_key": credentials.secret_access_key,
    }
    if credentials.session_token:
        config["session_token"] = credentials.session_token
    return config


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the store's library become ours, here and nowhere else."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFound("There is no such file.") from error
    except (BaseError, OSError) as error:
        raise ServiceUnavailable("The store of files does not answer.") from error
