"""What the routes of files take and answer."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from gateway_server.api.numbers import Whole
from gateway_server.files.listing import Page
from gateway_server.files.records import StoredFile
from gateway_server.files.uploads import Upload
from gateway_server.files.wishes import LONGEST_TTL
from gateway_server.models import rfc3339


class UploadWish(BaseModel):
    """An input that is to be uploaded."""

    filename: str
    content_type: str | None = None


class UploadUrl(BaseModel):
    """Where to PUT the bytes of an input, with the given Content-Type and without a token."""

    upload_url: str
    s3_url: str


class Uploaded(BaseModel):
    """A file that was stored."""

    success: bool = True
    s3_url: str
    filename: str
    size: int = Field(description="Bytes.")
    sha256: str | None = Field(description="Hexadecimal.")
    content_type: str | None
    expires_at: str | None = Field(description="RFC 3339; null: it is kept until somebody deletes it.")


class Presigned(BaseModel):
    """Where anybody may GET a file for a while, without a token."""

    presigned_url: str
    url_expires_at: str = Field(description="RFC 3339.")
    filename: str
    size: int = Field(description="Bytes.")
    sha256: str | None
    content_type: str | None
    expires_at: str | None = Field(description="When the file itself ends; RFC 3339 or null.")


class ListedFile(BaseModel):
    """A file in a listing."""

    key: str
    s3_url: str
    size: int = Field(description="Bytes.")
    last_modified: str = Field(description="RFC 3339.")
    filename: str
    area: str
    agent: str | None
    session_id: str | None
    job_id: str | None = Field(description="The job that wrote it.")
    sha256: str | None
    content_type: str | None
    expires_at: str | None = Field(description="RFC 3339 or null.")


class Listing(BaseModel):
    """A part of a listing, in the order of keys."""

    files: list[ListedFile]
    next_token: str = Field("", description="Only where more follows.")


class UserListing(BaseModel):
    """A part of a listing, in the order of keys."""

    files: list[ListedFile]
    next_cursor: str = Field("", description="Only where more follows.")


class Cleaned(BaseModel):
    """How many files were removed."""

    deleted_count: int


class NewUpload(BaseModel):
    """A file that is to be uploaded in parts."""

    filename: str
    size: Whole = Field(ge=0, description="Bytes.")
    content_type: str | None = None
    area: Literal["outputs", "workspace", "inputs"] = "inputs"
    ttl: Whole | None = Field(None, ge=1, le=LONGEST_TTL, description="Seconds; for the workspace and inputs.")
    session_id: str | None = None


class UploadBegun(BaseModel):
    """Where the parts go: number n, from 1 on, by PUT to `part_urls[n - 1]`, in any order, again if needed."""

    upload_id: str
    s3_url: str
    part_size: int = Field(description="Bytes of every part but the last.")
    part_urls: list[str]


class UploadState(UploadBegun):
    """An upload under way."""

    received: list[int] = Field(description="Numbers of the parts that have arrived whole.")


class Completion(BaseModel):
    """The end of an upload."""

    sha256: str | None = Field(None, description="Hexadecimal; checked against what has arrived.")


def uploaded(file: StoredFile) -> Uploaded:
    """The answer to an upload."""
    return Uploaded(
        s3_url=file.s3_url,
        filename=file.name,
        size=file.size,
        sha256=file.sha256,
        content_type=file.content_type,
        expires_at=_moment(file.expires_at),
    )


def presigned(file: StoredFile, url: str, url_expires_at: datetime) -> Presigned:
    """The answer to a download."""
    return Presigned(
        presigned_url=url,
        url_expires_at=rfc3339(url_expires_at),
        filename=file.name,
        size=file.size,
        sha256=file.sha256,
        content_type=file.content_type,
        expires_at=_moment(file.expires_at),
    )


def listed(page: Page, next_name: str) -> dict[str, Any]:
    """A part of a listing; `next_name` is there only where more follows."""
    answer: dict[str, Any] = {"files": [_listed(file) for file in page.files]}
    return answer | ({next_name: page.next_token} if page.next_token else {})


def _listed(file: StoredFile) -> ListedFile:
    return ListedFile(
        key=file.key,
        s3_url=file.s3_url,
        size=file.size,
        last_modified=rfc3339(file.created_at),
        filename=file.name,
        area=file.area or "",
        agent=file.agent,
        session_id=file.session,
        job_id=file.job_id,
        sha256=file.sha256,
        content_type=file.content_type,
        expires_at=_moment(file.expires_at),
    )


def begun(upload: Upload) -> dict[str, Any]:
    """What every answer about an upload in parts tells."""
    return {
        "upload_id": upload.id,
        "s3_url": upload.s3_url,
        "part_size": upload.part_size,
        "part_urls": upload.part_urls,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
