"""Publishing over HTTP: an archive comes in, lines of progress and a version go out."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette import types
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from gateway_server.api import sse
from gateway_server.api.auth import Identify
from gateway_server.api.faults import logger, unexpected
from gateway_server.api.forms import FileForm
from gateway_server.errors import GatewayFault, Invalid, PayloadTooLarge, Problem
from gateway_server.identity import access
from gateway_server.models import Principal, Scope, rfc3339_at
from gateway_server.prefabs.archives import MAX_ARCHIVE
from gateway_server.prefabs.publisher import Publisher
from gateway_server.prefabs.versions import Version

Environment = dict[str, str]
KEEP_ALIVE = 10.0
INCOMING = "incoming"
"""The folder, in that of the gateway's data, for archives on their way in."""
_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_FORM = 1 << 20
"""Bytes of a form beside the archive."""


class PackageWarning(BaseModel):
    """Something in a package that its author should mend."""

    pointer: str
    message: str


class PrefabAnswer(BaseModel):
    """One version of a prefab."""

    id: str
    version: str
    name: str
    description: str
    status: str = Field(description="building, deployed or failed")
    owner: str
    created_at: str
    error: str | None
    warnings: list[PackageWarning]
    functions: list[str]
    deprecated: str | None = Field(None, description="What to use instead.")
    yanked: str | None = Field(None, description="Why nobody should begin to use it; `latest` passes it over.")


_BLOCK = 1 << 20
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "A wheel, or a .tar.gz or .zip of the folder.",
                        },
                        "settings": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "A JSON object of texts: environment that the code sees at import.",
                        },
                    },
                }
            }
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": PrefabAnswer,
        "description": "It was there already; or, with `Accept: text/event-stream`, events of the types progress, "
        "done and error.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    201: {"model": PrefabAnswer},
}


def add_publishing(router: APIRouter, publisher: Publisher, identify: Identify, scratch: Path) -> None:
    """Adds the route that publishes. `scratch` is a folder for archives on their way in."""
    caller = Depends(identify)

    @router.post("/prefabs", status_code=201, responses=_ANSWERS, openapi_extra=_BODY, response_model=PrefabAnswer)
    async def publish_prefab(request: Request, principal: Principal = caller) -> Response:
        """Publishes a version. Needs the scope publish; the first publisher of an id owns it."""
        access.require_operator(principal, Scope.PUBLISH)
        try:
            return await _publish(request, principal, publisher, scratch)
        except ClientDisconnect:
            return Response(status_code=400)


async def _publish(request: Request, principal: Principal, publisher: Publisher, scratch: Path) -> Response:
    async with AsyncExitStack() as stack:
        archive, settings = await stack.enter_async_context(_received(request, scratch))
        if "text/event-stream" in request.headers.get("accept", ""):
            kept = stack.pop_all()
            return _Told(_events(publisher, archive, principal, settings, kept), kept)
        began = time.time()
        version = await publisher.publish(archive, principal, settings=settings, scratch=archive.parent)
        status = 201 if version.created_at >= began else 200
        return Response(describe(version).model_dump_json(), status, media_type="application/json")


def sweep(scratch: Path) -> None:
    """Removes the archives that a gateway which was killed has left behind."""
    shutil.rmtree(scratch, ignore_errors=True)


def checked(settings: Environment) -> Environment:
    """The settings, if they can be an environment.

    Raises:
        Invalid: a value cannot be one; the catalogue looks at the names.
    """
    for name, value in settings.items():
        if "\0" in value or len(value) > 64 << 10 or not _is_text(value):
            message = f"The setting {name[:80]} holds a null character, is longer than 64 KiB or not valid text."
            raise Invalid(message, [Problem(f"/settings/{name[:80]}", message)])
    return settings


def _is_text(value: str) -> bool:
    """Whether it has no half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe(version: Version) -> PrefabAnswer:
    """A version as every answer has it."""
    manifest = version.manifest
    return PrefabAnswer(
        id=version.prefab_id,
        version=version.version,
        name=manifest.name if manifest else version.prefab_id,
        description=manifest.description if manifest else "",
        status=version.status,
        owner=version.owner,
        created_at=rfc3339_at(version.created_at),
        error=version.error,
        warnings=[PackageWarning(pointer=problem.pointer, message=problem.message) for problem in version.warnings],
        functions=[function.name for function in manifest.functions] if manifest else [],
        deprecated=version.deprecated,
        yanked=version.yanked,
    )


@asynccontextmanager
async def _received(request: Request, scratch: Path) -> AsyncIterator[tuple[Path, Environment | None]]:
    """The archive under its own name in a folder of its own, and the settings that came with it."""
    form = FileForm(request.headers.get("content-type"), _bounded(request))
    await asyncio.to_thread(scratch.mkdir, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="publish-", dir=scratch))  # not in a thread, which may be left: it would stay
    try:
        unnamed = folder / "archive"
        await _write(form.file(), unnamed)
        archive = unnamed.rename(folder / _safe_name(form.filename))
        yield archive, _read_settings(form.fields.get("settings"))
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _bounded(request: Request) -> AsyncIterator[bytes]:
    left = MAX_ARCHIVE + _FORM
    async for chunk in request.stream():
        left -= len(chunk)
        if left < 0:
            raise PayloadTooLarge(f"A package has at most {MAX_ARCHIVE >> 20} MiB.")
        yield chunk


async def _write(pieces: AsyncIterator[bytes], path: Path) -> None:
    with path.open("xb") as file:
        held: list[bytes] = []
        size = 0
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= _BLOCK:
                await asyncio.to_thread(file.writelines, held)
                held, size = [], 0
        await asyncio.to_thread(file.writelines, held)


def _safe_name(filename: str) -> str:
    """The name that the archive was sent under, which says of a wheel what it holds; never a path."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    if not name.isprintable() or name in ("", ".", "..") or len(name.encode("utf-8", "replace")) > 200:
        return "package"
    return name


def _read_settings(text: str | None) -> Environment | None:
    if not text:
        return None
    try:
        settings = orjson.loads(text)
    except orjson.JSONDecodeError:
        settings = None
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise Invalid("settings must be a JSON object of texts.", [Problem("/settings", "must be an object of texts")])
    return checked(settings)


class _Told(StreamingResponse):
    """Events, and what is kept for them. They let go of it at their end; where a caller hangs up at once, they never
    begin, and cannot."""

    def __init__(self, events: AsyncGenerator[bytes, None], kept: AsyncExitStack) -> None:
        super().__init__(events, headers=_STREAM, media_type="text/event-stream")
        self._events = events
        self._kept = kept

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """ASGI."""
        async with self._kept:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._events.aclose()  # it may wait for somebody to take an event, with the publish under way


async def _events(
    publisher: Publisher, archive: Path, principal: Principal, settings: Environment | None, kept: AsyncExitStack
) -> AsyncGenerator[bytes, None]:
    """Lines of progress as they come, then the end. A caller who hangs up ends the publish."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    publish = asyncio.create_task(
        publisher.publish(archive, principal, settings=settings, progress=lines.put_nowait, scratch=archive.parent)
    )
    publish.add_done_callback(lambda _: lines.put_nowait(None))
    try:
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    line = await lines.get()
            except TimeoutError:
                yield b": keep-alive\n\n"
                continue
            if line is None:
                break
            yield _frame({"type": "progress", "data": line})
        yield _frame(_ending(publish))
    finally:
        publish.cancel()
        await asyncio.wait([publish])
        await kept.aclose()


def _ending(publish: "asyncio.Task[Version]") -> dict[str, Any]:
    error = publish.exception()
    if error is None:
        return {"type": "done", "data": describe(publish.result()).model_dump()}
    if not isinstance(error, GatewayFault):
        logger.error("unexpected error in a publish", exc_info=error)
        error = unexpected()
    return {"type": "error", "data": error.message, "error_code": error.code, "detail": error.detail()}


def _frame(event: dict[str, Any]) -> bytes:
    return sse.frame(orjson.dumps(event, default=str))
