# Generated from _async_files.py by scripts/unasync.py: edit that one.
"""The files of an agent: up, down, list, clean. All but downloads need an agent behind the token."""

from __future__ import annotations

import os
from collections.abc import Iterator

from . import _wire
from ._local_file import Form, LocalFile, Part, new_sha256
from ._meter import Meter, Progress
from ._session import Session
from ._transfer import PartsUpload, download, presigned, put
from ._typing import Any
from .exceptions import ValidationError
from .models import StoredFile

Path = str | os.PathLike[str]


class Files(Session):
    """The file operations of the client.

    All raise `AgentContextRequiredError` where an agent is needed and there is none, `AuthenticationError` for a bad
    token, `ServiceUnavailableError` when there is no answer. `timeout` bounds the silence on the wire, not the whole.

    Uploads take `progress`, called as `progress(done_bytes, total_bytes)` while bytes leave: never backwards, at the
    end with the whole. What it raises ends the upload and is raised here. Of a large file up to four parts are sent at
    once; the blocking client calls `progress` from their threads then, from one at a time.
    """

    def upload_file(
        self, file_path: Path, content_type: str | None = None, *, progress: Progress | None = None
    ) -> StoredFile:
        """Keep a local file for good, among the agent's outputs.

        Args:
            file_path: any size; it is read in blocks, and what a cut connection has lost is sent again.
            content_type: such as "text/plain".
            progress: called as `progress(done_bytes, total_bytes)` while bytes leave.

        Returns:
            Its s3 URL.

        Raises:
            LocalFileError: it cannot be read (also a FileNotFoundError, IsADirectoryError or PermissionError).

        Example:
            s3_url = client.upload_file("/tmp/result.txt", "text/plain")
        """
        return self._upload(_wire.UPLOAD, {}, "outputs", file_path, content_type, progress)

    def upload_temp_file(
        self,
        file_path: Path,
        content_type: str | None = None,
        ttl_hours: int = 24,
        session_id: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> StoredFile:
        """Keep a local file for a while, in the agent's workspace.

        Args:
            file_path: any size.
            content_type: such as "application/json".
            ttl_hours: hours until the store removes it.
            session_id: groups files, for `list_temp_files` and `cleanup_temp_files`.
            progress: called as `progress(done_bytes, total_bytes)` while bytes leave.

        Returns:
            Its s3 URL.

        Raises:
            LocalFileError: it cannot be read.
            ValidationError: `ttl_hours` is not positive.

        Example:
            s3_url = client.upload_temp_file("/tmp/part.json", ttl_hours=1, session_id="task-123")
        """
        if not ttl_hours > 0:
            raise ValidationError(f"ttl_hours must be a positive number of hours, not {ttl_hours!r}")
        wish = {"ttl": str(max(1, int(ttl_hours * 3600)))}
        if session_id is not None:
            wish["session_id"] = session_id
        return self._upload(_wire.UPLOAD_TEMP, wish, "workspace", file_path, content_type, progress)

    def upload_input_file(
        self, file_path: Path, content_type: str | None = None, *, progress: Progress | None = None
    ) -> StoredFile:
        """Upload a local file as an input for prefabs. Needs no agent.

        Args:
            file_path: any size.
            content_type: such as "video/mp4".
            progress: called as `progress(done_bytes, total_bytes)` while bytes leave.

        Returns:
            Its s3 URL, to be passed in `files`.

        Raises:
            LocalFileError: it cannot be read.

        Example:
            video = client.upload_input_file("talk.mp4")
            client.run("video-processor", "1.0.0", "extract_audio", {}, files={"video": [video]})
        """
        file = LocalFile(file_path)
        if file.size > _wire.SMALL_FILE_BYTES:
            return self._upload_parts(file, "inputs", {}, content_type, progress)
        wish = {"filename": file.name, "content_type": content_type}
        answer = self._ask("POST", _wire.GENERATE_UPLOAD_URL, _wire.json_body(wish))
        upload_url = _wire.text_field(answer, "upload_url", _wire.GENERATE_UPLOAD_URL)
        with Meter(file.size, progress) as meter:
            part = Part(file, 0, file.size, new_sha256(), meter.part(1))
            put(self, upload_url, part, content_type)
        file.check()
        return _wire.parse_stored({**part.described(), **answer}, _wire.GENERATE_UPLOAD_URL)

    def _upload(
        self,
        path: str,
        fields: dict[str, str],
        area: str,
        file_path: Path,
        content_type: str | None,
        progress: Progress | None,
    ) -> StoredFile:
        file = LocalFile(file_path)
        if file.size > _wire.SMALL_FILE_BYTES:
            return self._upload_parts(file, area, fields, content_type, progress)
        form_type, before, after = _wire.multipart(fields, file.name, content_type)
        with Meter(file.size, progress) as meter:
            part = Part(file, 0, file.size, new_sha256(), meter.part(1))
            answer = self._ask("POST", path, Form(before, part, after), content_type=form_type)
        file.check()
        return _wire.parse_stored({**part.described(), **answer}, path)

    def _upload_parts(
        self,
        file: LocalFile,
        area: str,
        fields: dict[str, str],
        content_type: str | None,
        progress: Progress | None,
    ) -> StoredFile:
        ttl = fields.get("ttl")
        wish: dict[str, Any] = {
            "content_type": content_type,
            "area": area,
            "ttl": int(ttl) if ttl else None,
            "session_id": fields.get("session_id"),
        }
        with Meter(file.size, progress) as meter:
            upload = PartsUpload.begin(self, file, wish, meter)
            return upload.finish()

    def download_file(self, s3_url: str) -> str:
        """A URL from which everybody can read the file for one hour, without a token.

        Raises:
            RemoteFileNotFoundError: there is no such file.
            PermissionDeniedError: it belongs to someone else.

        Example:
            response = httpx.get(client.download_file(s3_url))
        """
        return self.get_presigned_url(s3_url)

    def get_presigned_url(self, s3_url: str, expires_in: int = 3600) -> str:
        """A URL from which everybody can read the file for `expires_in` seconds, without a token.

        Raises:
            RemoteFileNotFoundError: there is no such file.
            PermissionDeniedError: it belongs to someone else.

        Example:
            url = client.get_presigned_url(s3_url, expires_in=600)
        """
        url: str = (presigned(self, s3_url, expires_in))["presigned_url"]
        return self.base_url + url if url.startswith("/") else url

    def save_file(self, s3_url: str, path: Path, progress: Progress | None = None) -> str:
        """Fetch a file to this machine. It appears under its name only when it is whole and right.

        A cut connection goes on where it was; size and SHA-256 are checked where the gateway tells them.

        Args:
            s3_url: the file.
            path: where to; a folder means: in there, under the file's own name.
            progress: called as `progress(done_bytes, total_bytes_or_None)` while bytes arrive.

        Returns:
            The path of the file.

        Raises:
            RemoteFileNotFoundError: there is no such file.
            LocalFileError: it cannot be written here.
            TransferError: what arrived is not what the store holds.

        Example:
            client.save_file(s3_url, "/tmp/report.pdf")
        """
        return download(self, s3_url, os.fspath(path), progress)

    def list_files(self, prefix: str | None = None) -> list[StoredFile]:
        """All files that the agent keeps for good, as s3 URLs.

        Args:
            prefix: the beginning of their keys within the agent's own area, such as "2025/11/07/".

        Example:
            for file in client.list_files(prefix="2025/11/"):
                print(file, file.size)
        """
        return [file for file in self.iter_files(prefix)]

    def iter_files(self, prefix: str | None = None) -> Iterator[StoredFile]:
        """The same one after the other, fetched page by page.

        Example:
            for file in client.iter_files():
                print(file.filename)
        """
        return self._pages(_wire.LIST, prefix=prefix)

    def list_temp_files(self, prefix: str | None = None, session_id: str | None = None) -> list[StoredFile]:
        """All temporary files of the agent, as s3 URLs.

        Args:
            prefix: the beginning of their keys within the agent's own area.
            session_id: only those of this session.

        Example:
            files = client.list_temp_files(session_id="task-123")
        """
        return [file for file in self.iter_temp_files(prefix, session_id)]

    def iter_temp_files(self, prefix: str | None = None, session_id: str | None = None) -> Iterator[StoredFile]:
        """The same one after the other, fetched page by page.

        Example:
            for file in client.iter_temp_files(session_id="task-123"):
                print(file.filename, file.expires_at)
        """
        return self._pages(_wire.LIST_TEMP, prefix=prefix, session_id=session_id)

    def _pages(self, path: str, **query: str | None) -> Iterator[StoredFile]:
        token: str | None = None
        while True:
            place = _wire.path(path, limit=_wire.PAGE_SIZE, continuation_token=token, **query)
            files, following = _wire.parse_page(self._ask("GET", place), path)
            yield from files
            if following is None or following == token:
                return
            token = following

    def cleanup_temp_files(self, session_id: str | None = None) -> int:
        """Remove the agent's temporary files. Returns how many there were; after a cut connection, how many were left.

        Args:
            session_id: only those of this session; not given, all of them.

        Example:
            client.cleanup_temp_files(session_id="task-123")
        """
        answer = self._ask("DELETE", _wire.path(_wire.CLEANUP_TEMP, session_id=session_id))
        count = answer.get("deleted_count")
        return count if isinstance(count, int) else 0
