"""Files: upload, download, list, clean. The bytes of large ones go to and from signed URLs, past these routes."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway_server.api import file_answers
from gateway_server.api.auth import Identify
from gateway_server.api.bodies import WholeBody
from gateway_server.api.file_answers import (
    Cleaned,
    Completion,
    Listing,
    NewUpload,
    Presigned,
    UploadBegun,
    Uploaded,
    UploadState,
    UploadUrl,
    UploadWish,
    UserListing,
)
from gateway_server.api.forms import FileForm
from gateway_server.calls.requests import request_key
from gateway_server.errors import Invalid, Problem
from gateway_server.files import listing
from gateway_server.files.again import Again
from gateway_server.files.keys import Area, parse_area
from gateway_server.files.library import Library
from gateway_server.files.uploads import Uploads
from gateway_server.files.wishes import DEFAULT_TTL, wish
from gateway_server.identity import access
from gateway_server.models import Principal, Scope
from gateway_server.settings import Settings

_SECONDS = re.compile(r"[0-9]{1,12}\Z")
_FORM_OVERHEAD = 1 << 20
"""Bytes that a form may have beside its file."""
Limit = Annotated[int, Query(ge=1, le=listing.MOST, description="Files in one answer.")]
Prefix = Annotated[str, Query(description="The beginning of the keys, relative to the area that is listed.")]
Token = Annotated[str | None, Query(description="`next_token` of the answer before.")]
Session = Annotated[str | None, Query(description="Only the files of this session.")]
Key = Annotated[str | None, Header(description="The same key with the same file stores it once.")]
S3Url = Annotated[str, Query(description="The s3:// URL of the file.")]


_TEMPORARY = {
    "ttl": {"type": "integer", "description": "Seconds until the file ends.", "default": DEFAULT_TTL},
    "session_id": {"type": "string", "description": "Groups files for listing and cleaning."},
}


def _form(fields: dict[str, Any]) -> dict[str, Any]:
    """How OpenAPI describes a form that is read as it arrives."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema = {"type": "object", "required": ["file"], "properties": {"file": file, **fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def routes(*, library: Library, uploads: Uploads, identify: Identify, settings: Settings) -> APIRouter:
    """The routes below /internal/files and /v1/files."""
    router = APIRouter(tags=["files"], route_class=WholeBody)
    anybody = Depends(identify)

    async def reader(principal: Principal = anybody) -> Principal:
        """Whoever may call has files."""
        access.require_scope(principal, Scope.CALL)
        return principal

    caller = Depends(reader)
    _add_transfers(router, library, caller, settings)
    _add_listings(router, library, caller)
    _add_user_files(router, library, caller)
    _add_uploads(router, uploads, caller)
    return router


def _add_transfers(router: APIRouter, library: Library, caller: Any, settings: Settings) -> None:
    @router.post("/internal/files/generate_upload_url")
    async def generate_upload_url(body: UploadWish, principal: Principal = caller) -> UploadUrl:
        """A URL to upload one input to. The file exists once the upload has ended."""
        upload_url, s3_url = await library.input_url(principal, body.filename, body.content_type)
        return UploadUrl(upload_url=upload_url, s3_url=s3_url)

    @router.post("/internal/files/upload", openapi_extra=_form({}))
    async def upload(request: Request, principal: Principal = caller, idempotency_key: Key = None) -> Uploaded:
        """Keeps a file for good, among the outputs of the caller's agent."""
        access.require_agent(principal)
        form = _open_form(request)
        file = await library.put(
            principal,
            form.file(),
            lambda: wish(Area.OUTPUTS, form.filename, content_type=form.content_type),
            _least(request),
            _again(principal, idempotency_key),
        )
        return file_answers.uploaded(file)

    @router.post("/internal/files/upload_temp", openapi_extra=_form(_TEMPORARY))
    async def upload_temp(request: Request, principal: Principal = caller, idempotency_key: Key = None) -> Uploaded:
        """Keeps a file for a while, in the workspace of the caller's agent."""
        access.require_agent(principal)
        form = _open_form(request)
        file = await library.put(
            principal,
            form.file(),
            lambda: wish(
                Area.WORKSPACE,
                form.filename,
                content_type=form.content_type,
                ttl=_seconds(form.fields.get("ttl")),
                session=form.fields.get("session_id") or None,
            ),
            _least(request),
            _again(principal, idempotency_key),
        )
        return file_answers.uploaded(file)

    @router.get("/internal/files/download")
    async def download(
        s3_url: S3Url,
        principal: Principal = caller,
        mode: Annotated[Literal["presigned"], Query()] = "presigned",
        expires_in: Annotated[int, Query(description="Seconds, up to a week.")] = settings.presigned_seconds,
    ) -> Presigned:
        """A URL from which anybody can fetch the file for a while."""
        file = await library.find(principal, s3_url)
        signed = library.sign(file, expires_in)
        return file_answers.presigned(file, signed.url, signed.expires_at)


def _add_listings(router: APIRouter, library: Library, caller: Any) -> None:
    @router.get("/internal/files/list", response_model_exclude_unset=True)
    async def list_files(
        principal: Principal = caller, limit: Limit = 100, prefix: Prefix = "", continuation_token: Token = None
    ) -> Listing:
        """What the caller's agent keeps for good."""
        beginning = listing.of_agent(principal, Area.OUTPUTS, prefix)
        page = await library.page(principal, listing.Query(prefix=beginning, limit=limit, token=continuation_token))
        return Listing(**file_answers.listed(page, "next_token"))

    @router.get("/internal/files/list_temp", response_model_exclude_unset=True)
    async def list_temp(
        principal: Principal = caller,
        limit: Limit = 100,
        prefix: Prefix = "",
        session_id: Session = None,
        continuation_token: Token = None,
    ) -> Listing:
        """The temporary files of the caller's agent."""
        beginning = listing.of_agent(principal, Area.WORKSPACE, prefix, session_id)
        page = await library.page(principal, listing.Query(prefix=beginning, limit=limit, token=continuation_token))
        return Listing(**file_answers.listed(page, "next_token"))

    @router.delete("/internal/files/cleanup_temp")
    async def cleanup_temp(principal: Principal = caller, session_id: Session = None) -> Cleaned:
        """Removes the temporary files of the caller's agent, or of one session of it."""
        return Cleaned(deleted_count=await library.cleanup(principal, session_id))


def _add_user_files(router: APIRouter, library: Library, caller: Any) -> None:
    @router.get("/v1/files", response_model_exclude_unset=True)
    async def list_user_files(
        principal: Principal = caller,
        area: Annotated[str | None, Query(description="outputs, workspace, inputs or prefab-outputs.")] = None,
        prefix: Annotated[str, Query(description="Relative to the user's part of the area, if there is one.")] = "",
        cursor: Annotated[str | None, Query(description="`next_cursor` of the answer before.")] = None,
        limit: Limit = 100,
    ) -> UserListing:
        """Everything that the caller has; for an agent without the areas of other agents."""
        beginning = listing.of_user(principal, parse_area(area) if area is not None else None, prefix)
        query = listing.Query(prefix=beginning, limit=limit, token=cursor, names=("/limit", "/cursor"))
        page = await library.page(principal, query)
        return UserListing(**file_answers.listed(page, "next_cursor"))

    @router.delete("/v1/files", status_code=204)
    async def delete_file(s3_url: S3Url, principal: Principal = caller) -> Response:
        """Removes a file."""
        await library.delete(principal, s3_url)
        return Response(status_code=204)


def _add_uploads(router: APIRouter, uploads: Uploads, caller: Any) -> None:
    @router.post("/v1/files/uploads", status_code=201)
    async def begin_upload(body: NewUpload, principal: Principal = caller, idempotency_key: Key = None) -> UploadBegun:
        """Begins an upload in parts."""
        wanted = wish(
            parse_area(body.area),
            body.filename,
            content_type=body.content_type,
            ttl=body.ttl,
            session=body.session_id,
        )
        upload = await uploads.create(principal, wanted, body.size, _again(principal, idempotency_key))
        return UploadBegun(**file_answers.begun(upload))

    @router.get("/v1/files/uploads/{upload_id}")
    async def resume_upload(upload_id: str, principal: Principal = caller) -> UploadState:
        """What has arrived, with new URLs for every part."""
        upload = await uploads.resume(principal, upload_id)
        return UploadState(**file_answers.begun(upload), received=upload.received)

    @router.post("/v1/files/uploads/{upload_id}/complete")
    async def complete_upload(
        upload_id: str, principal: Principal = caller, body: Completion | None = None
    ) -> Uploaded:
        """Makes the file of its parts. Asked again, it answers the same."""
        return file_answers.uploaded(await uploads.complete(principal, upload_id, body.sha256 if body else None))

    @router.delete("/v1/files/uploads/{upload_id}", status_code=204)
    async def abort_upload(upload_id: str, principal: Principal = caller) -> Response:
        """Forgets an upload and what has arrived of it."""
        await uploads.abort(principal, upload_id)
        return Response(status_code=204)


def _again(principal: Principal, text: str | None) -> Again | None:
    key = request_key(principal, text, b"file", b"")
    return None if key is None else Again(key=key.key, kept=key.kept)


def _open_form(request: Request) -> FileForm:
    return FileForm(request.headers.get("content-type"), _body(request))


def _least(request: Request) -> int:
    """Bytes that the file of a form must have at least; 0 where that is not known."""
    length = request.headers.get("content-length", "")
    return max(int(length) - _FORM_OVERHEAD, 0) if length.isascii() and length.isdigit() else 0


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for data in request.stream():
            yield data
    except ClientDisconnect as error:  # nobody is there to read this
        raise Invalid("The connection ended before the form did.") from error


def _seconds(text: str | None) -> int | None:
    if not text:
        return None
    seconds = text.strip()
    if not _SECONDS.match(seconds):
        message = f"The ttl must be a whole number of seconds, not {text[:40]!r}."
        raise Invalid(message, [Problem("/ttl", message)])
    return int(seconds)
