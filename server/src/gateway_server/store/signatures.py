"""Signed URLs of objects on the local disk: one object, one method, a limited time, and nothing else."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from gateway_server.errors import PermissionDenied
from gateway_server.store.cipher import write_private

_MOST_FIELDS = 12


class Signer:
    """Signs and checks with HMAC-SHA256 over the method, the exact key and every parameter of the URL."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    @classmethod
    def from_folder(cls, folder: Path, clock: Callable[[], float] = time.time) -> "Signer":
        """With the secret of this folder, which is made at the first use."""
        file = folder / "urls.key"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_private(file, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        return cls(base64.b64decode(file.read_text()), clock)

    def sign(self, method: str, key: str, expires_in: float, **constraints: str | None) -> str:
        """The query of a URL that allows `method` on `key` for `expires_in` seconds."""
        fields = {name: value for name, value in constraints.items() if value is not None}
        fields["expires"] = str(int(self._clock() + expires_in))
        query = _canonical(fields)
        return f"{query}&signature={self._signature(method, key, query)}"

    def check(self, method: str, key: str, query: str) -> dict[str, str]:
        """The constraints that were signed.

        Raises:
            PermissionDenied: the URL was not made by this gateway, was changed, or has ended.
        """
        try:
            pairs = parse_qsl(query, True, True, errors="strict", max_num_fields=_MOST_FIELDS)
        except ValueError:
            pairs = []
        fields = dict(pairs)
        given = fields.pop("signature", "")
        expected = self._signature(method, key, _canonical(fields))
        right = hmac.compare_digest(given.encode(), expected.encode())
        if not right or len(fields) + 1 != len(pairs):
            raise PermissionDenied("The URL is not signed for this. Use it exactly as the gateway gave it.")
        if self._clock() >= int(fields["expires"]):
            raise PermissionDenied("The signed URL has ended. Ask the gateway for a new one.")
        return fields

    def _signature(self, method: str, key: str, query: str) -> str:
        text = f"{method}\n{key}\n{query}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def _canonical(fields: dict[str, str]) -> str:
    return urlencode(sorted(fields.items()))
