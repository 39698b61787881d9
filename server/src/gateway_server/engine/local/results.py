"""What became of a call, as its worker tells it. The package could have written all of it itself."""

import json
import os
import stat
from pathlib import Path

from gateway_runtime import workspace
from gateway_runtime.protocol import RESULT_LIMIT
from gateway_server.errors import RuntimeCrashed


def read_failure(payload: bytes) -> dict[str, str]:
    """What a worker says of a failure; only text is taken from it.

    Raises:
        RuntimeCrashed: it is nothing that a worker says.
    """
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise RuntimeCrashed("The process that ran the function sent what nobody understands.")
    return {str(key): str(value).encode("utf-8", "replace").decode() for key, value in told.items()}


def read_spilled(root: Path) -> bytes:
    """The result that was too long for a frame, from the workspace at `root`. Blocking.

    Raises:
        RuntimeCrashed: there is none, or no plain file of a length that is allowed.
    """
    try:
        with workspace.opened(root) as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(workspace.RESULT, flags, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            told = os.fstat(file.fileno())
            if stat.S_ISREG(told.st_mode) and told.st_size <= RESULT_LIMIT:
                return file.read(RESULT_LIMIT)
    except OSError:
        pass
    raise RuntimeCrashed("The result that the worker left in a file cannot be read.")
