"""The files of the gateway in memory: their keys, whose they are, and when they end."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from itertools import count
from os.path import splitext
from typing import Any

from ..exceptions import AgentContextRequiredError, PermissionDeniedError, RemoteFileNotFoundError
from ..models import name_in_url
from .wire import refusal

STORE = "s3://fake/"
LONGEST_TTL = 30 * 86400
_AREAS = {"agent-outputs": 6, "agent-workspace": 4, "agent-inputs": 5, "prefab-outputs": 6}
"""How many parts a key has behind each; those of functions have as many or more."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")


class FakeStore:
    """Files by s3 URL.

    Args:
        user: whose they are.
        part_size: bytes of every part of a large file but the last.

    Attributes:
        files: the bytes of every file. What a test puts there under a URL of another bucket can be read, as what an
            operator grants.
    """

    def __init__(self, user: str, part_size: int) -> None:
        self.files: dict[str, bytes] = {}
        self.user = user
        self.part_size = part_size
        self._expiries: dict[str, datetime] = {}
        self._numbers = count(1)

    def new_url(self, area: str, name: str, agent: str | None = None, session_id: str | None = None) -> str:
        """The URL of a file that does not exist yet; `area` is outputs, workspace or inputs.

        Raises:
            AgentContextRequiredError: the area is that of an agent, and there is none.
            ValidationError: the session is none.
        """
        day, number = f"{datetime.now(UTC):%Y/%m/%d}", f"{next(self._numbers):012d}"
        if area == "inputs":
            return f"{STORE}agent-inputs/{self.user}/{day}/{number}-{name}"
        if area == "workspace":
            return f"{self.folder('agent-workspace', agent, session_id or 'default')}{number}-{name}"
        return f"{self.folder('agent-outputs', agent)}{day}/{number}-{name}"

    def folder(self, area: str, agent: str | None, session_id: str | None = None) -> str:
        """The beginning of the URLs of an agent's files, or of those of a session.

        Raises:
            AgentContextRequiredError: there is no agent.
            ValidationError: the session is none.
        """
        if agent is None:
            raise AgentContextRequiredError("file operations need an agent behind the token")
        if session_id is None:
            return f"{STORE}{area}/{self.user}/{agent}/"
        if not _NAME.match(session_id):
            rule = "a letter or digit, then up to 63 letters, digits or any of . _ @ -"
            message = f"Session {session_id[:80]!r} is not valid: it must be {rule}."
            raise refusal("/session_id", message, message)
        return f"{STORE}{area}/{self.user}/{agent}/{session_id}/"

    def keep(self, url: str, data: bytes, ttl: int | None = None) -> dict[str, Any]:
        """Store a file, for `ttl` seconds or for good; gives what is told of it.

        Raises:
            ValidationError: it could not be stored for so long.
        """
        if ttl is not None and not 1 <= ttl <= LONGEST_TTL:
            message = f"The ttl must be between 1 and {LONGEST_TTL} seconds."
            raise refusal("/ttl", message, message)
        self.files[url] = data
        if ttl is not None:
            self._expiries[url] = datetime.now(UTC) + timedelta(seconds=ttl)
        return self.entry(url)

    def keep_result(self, job_id: str, name: str, data: bytes) -> str:
        """Keep what the function of a job wrote; gives its URL."""
        folder = f"{STORE}prefab-outputs/{self.user}/{datetime.now(UTC):%Y/%m/%d}/{job_id}/"
        url, again = folder + name, count(2)
        stem, extension = splitext(name)
        while url in self.files:
            url = f"{folder}{stem} ({next(again)}){extension}"
        self.files[url] = data
        return url

    def read(self, url: str) -> bytes:
        """The bytes of a file.

        Raises:
            ValidationError: it is no s3:// URL.
            PermissionDeniedError: it is another user's, or lies outside of what this gateway keeps.
            RemoteFileNotFoundError: there is none, or it has expired.
        """
        self._check_place(url)
        self._sweep()
        if url not in self.files:
            raise RemoteFileNotFoundError(f"There is no file {url}, or it has expired.")
        return self.files[url]

    def entry(self, url: str) -> dict[str, Any]:
        """What is told of a file."""
        expires_at = self._expiries.get(url)
        return {
            "s3_url": url,
            "filename": name_in_url(url),
            "size": len(self.files[url]),
            "sha256": hashlib.sha256(self.files[url]).hexdigest(),
            "expires_at": expires_at.isoformat() if expires_at else None,
        }

    def found(self, beginning: str) -> list[str]:
        """The URLs that begin so, in their order."""
        self._sweep()
        return sorted(url for url in list(self.files) if url.startswith(beginning))

    def remove(self, url: str) -> None:
        """Remove a file."""
        self.files.pop(url, None)
        self._expiries.pop(url, None)

    def _sweep(self) -> None:
        """Remove what has ended."""
        now = datetime.now(UTC)
        for url in [url for url, end in list(self._expiries.items()) if end <= now]:
            self.remove(url)

    def _check_place(self, url: str) -> None:
        if not url.startswith("s3://"):
            message = f"{url[:200]!r} is no s3:// URL. Upload the file first, and pass the URL that you get."
            raise refusal("/s3_url", message, message)
        if not url.startswith(STORE):
            if url not in self.files:
                raise PermissionDeniedError(f"{url[:200]} does not lie in the store of this gateway.")
            return
        area, *rest = url.removeprefix(STORE).split("/")
        if area not in _AREAS or len(rest) < _AREAS[area] or (len(rest) > _AREAS[area] and area != "prefab-outputs"):
            if url not in self.files:
                raise PermissionDeniedError(f"{url} lies outside of the areas that can be read.")
        elif rest[0] != self.user:
            raise PermissionDeniedError("This file belongs to another user.")
