"""Encryption at rest. Each value is sealed with a key of its own, and that key with the master key (AES-256-GCM)."""

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORMAT = b"\x01"
_NONCE, _WRAPPED = 12, 32 + 16
_HEAD = len(_FORMAT) + _NONCE + _WRAPPED
"""Bytes before the value itself: its key, wrapped."""


class SealBroken(Exception):
    """The value was sealed with another master key, for another place, or has been changed."""


class Cipher:
    """Seals and opens short values. `context` names the place of a value, so that none can be moved to another."""

    def __init__(self, master: bytes, previous: bytes | None = None) -> None:
        self._master = AESGCM(master)
        self._previous = None if previous is None or previous == master else AESGCM(previous)

    @property
    def is_changing(self) -> bool:
        """Whether there is another key, before the current one, that opens what it sealed."""
        return self._previous is not None

    def seal(self, value: bytes, context: str) -> bytes:
        """The value as it may be stored."""
        key, nonce, bound = secrets.token_bytes(32), secrets.token_bytes(_NONCE), context.encode()
        return self._wrap(key, bound) + nonce + AESGCM(key).encrypt(nonce, value, bound)

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed.

        Raises:
            SealBroken: it cannot be opened.
        """
        bound, rest = context.encode(), sealed[_HEAD:]
        key, _ = self._unwrap(sealed, context)
        try:
            return AESGCM(key).decrypt(rest[:_NONCE], rest[_NONCE:], bound)
        except (InvalidTag, ValueError) as error:
            raise SealBroken(context) from error

    def rewrap(self, sealed: bytes, context: str) -> bytes | None:
        """The same under the current master key; None if it is. The value itself is not touched.

        Raises:
            SealBroken: no key opens it.
        """
        key, is_current = self._unwrap(sealed, context)
        if is_current:
            return None
        return self._wrap(key, context.encode()) + sealed[_HEAD:]

    def _wrap(self, key: bytes, bound: bytes) -> bytes:
        outer = secrets.token_bytes(_NONCE)
        return _FORMAT + outer + self._master.encrypt(outer, key, bound)

    def _unwrap(self, sealed: bytes, context: str) -> tuple[bytes, bool]:
        """The key of a value, and whether it is under the current master key."""
        outer, wrapped = sealed[len(_FORMAT) : len(_FORMAT) + _NONCE], sealed[len(_FORMAT) + _NONCE : _HEAD]
        for master in (self._master, self._previous):
            with contextlib.suppress(InvalidTag, ValueError):
                if master is not None:
                    return master.decrypt(outer, wrapped, context.encode()), master is self._master
        raise SealBroken(context)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
