"""Encryption at rest. Each value is sealed with a key of its own, and that key with the master key (AES-256-GCM)."""

import base64
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORMAT = b"\x01"
_NONCE, _WRAPPED = 12, 32 + 16


class SealBroken(Exception):
    """The value was sealed with another master key, for another place, or has been changed."""


class Cipher:
    """Seals and opens short values. `context` names the place of a value, so that none can be moved to another."""

    def __init__(self, master: bytes) -> None:
        self._master = AESGCM(master)

    @classmethod
    def from_folder(cls, folder: Path) -> "Cipher":
        """With the master key of the environment (`GATEWAY_MASTER_KEY`, 32 bytes as base64), else of a file made here.

        Raises:
            ValueError: the key is not 32 bytes of base64.
        """
        text = os.environ.get("GATEWAY_MASTER_KEY")
        file = folder / "master.key"
        if text is None:
            if not file.exists():
                write_private(file, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
            text = file.read_text()
        master = base64.b64decode(text, validate=False)
        if len(master) != 32:
            raise ValueError("the master key must be 32 bytes as base64; make one with: openssl rand -base64 32")
        return cls(master)

    def seal(self, value: bytes, context: str) -> bytes:
        """The value as it may be stored."""
        key, nonce, outer = secrets.token_bytes(32), secrets.token_bytes(_NONCE), secrets.token_bytes(_NONCE)
        bound = context.encode()
        wrapped = self._master.encrypt(outer, key, bound)
        return _FORMAT + outer + wrapped + nonce + AESGCM(key).encrypt(nonce, value, bound)

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed.

        Raises:
            SealBroken: it cannot be opened.
        """
        bound, at = context.encode(), len(_FORMAT)
        outer, wrapped = sealed[at : at + _NONCE], sealed[at + _NONCE : at + _NONCE + _WRAPPED]
        rest = sealed[at + _NONCE + _WRAPPED :]
        try:
            key = self._master.decrypt(outer, wrapped, bound)
            return AESGCM(key).decrypt(rest[:_NONCE], rest[_NONCE:], bound)
        except (InvalidTag, ValueError) as error:
            raise SealBroken(context) from error


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
