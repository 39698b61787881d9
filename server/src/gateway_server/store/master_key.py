"""The key of all keys: where it comes from, and how another takes its place."""

import base64
import secrets
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway_server.errors import Invalid
from gateway_server.store.cipher import write_private

FILE, PREVIOUS_FILE = "master.key", "master.key.previous"
VARIABLE, PREVIOUS_VARIABLE, COMMAND_VARIABLE = (
    "GATEWAY_MASTER_KEY",
    "GATEWAY_MASTER_KEY_PREVIOUS",
    "GATEWAY_MASTER_KEY_COMMAND",
)
COMMAND_TIME = 30
"""Seconds for a command to tell the key."""
SIZE = 32


class MasterKeys(NamedTuple):
    """The key that seals, and the one before it while there are values that it sealed."""

    current: bytes
    previous: bytes | None


def read(folder: Path, environment: Mapping[str, str]) -> MasterKeys:
    """The keys of a gateway: from the environment, from a command that it names, or from the folder, where the first
    start makes one. A key is 32 bytes as base64.

    Raises:
        Invalid: a source tells something else, or the command fails.
    """
    if text := environment.get(VARIABLE):
        current = _decoded(text, VARIABLE)
    elif command := environment.get(COMMAND_VARIABLE):
        current = _decoded(_told_by(command), f"what the command of {COMMAND_VARIABLE} printed")
    else:
        current = _from_file(folder / FILE)
    if text := environment.get(PREVIOUS_VARIABLE):
        return MasterKeys(current, _decoded(text, PREVIOUS_VARIABLE))
    previous = folder / PREVIOUS_FILE
    return MasterKeys(current, _decoded(previous.read_text(), str(previous)) if previous.exists() else None)


def rotate(folder: Path, environment: Mapping[str, str]) -> None:
    """Puts a new key into the folder and keeps the one before; the next start seals everything with the new one. Cut
    anywhere, both files hold keys that open what there is.

    Raises:
        Invalid: the key does not come from the folder, or an earlier change of it has not been finished.
    """
    for variable in (VARIABLE, COMMAND_VARIABLE):
        if environment.get(variable):
            raise Invalid(
                f"The master key comes from {variable}. Give the new one there and the old one as {PREVIOUS_VARIABLE}, "
                "and start the gateway anew."
            )
    file, previous = folder / FILE, folder / PREVIOUS_FILE
    if not file.exists():
        raise Invalid(f"There is no {file}: the first start of a gateway makes it.")
    if previous.exists() and previous.read_text() != file.read_text():  # the same: a rotation was cut between the files
        raise Invalid("The master key was changed before, and the gateway has not been started since. Start it first.")
    write_private(previous, file.read_text())
    write_private(file, _new())


def forget_previous(folder: Path) -> None:
    """Removes the previous key from the folder, when nothing is sealed with it any more."""
    (folder / PREVIOUS_FILE).unlink(missing_ok=True)


def _new() -> str:
    return base64.b64encode(secrets.token_bytes(SIZE)).decode() + "\n"


def _from_file(file: Path) -> bytes:
    if not file.exists():
        write_private(file, _new())
    return _decoded(file.read_text(), str(file))


def _told_by(command: str) -> str:
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=COMMAND_TIME, check=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
        raise Invalid(f"The command of {COMMAND_VARIABLE} did not tell the master key: {told}") from error
    return done.stdout


def _decoded(text: str, source: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != SIZE:
        raise Invalid(f"{source} is no master key: 32 bytes as base64, as openssl rand -base64 32 makes them.")
    return key
