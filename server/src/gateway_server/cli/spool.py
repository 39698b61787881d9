"""Input that is no file, as a pipe or standard input: it is read once, and sizes and retries need it whole."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

STANDARD_INPUT = Path("-")
"""This very path: a file may be called so, too, and `./-` is an equal one."""
UNNAMED = "stdin"
"""How standard input is called where nothing is said."""


@contextmanager
def spooled(path: Path, name: str | None = None) -> Iterator[Path]:
    """A file with what is at `path`, which is called `name`, else as it was."""
    is_standard = path is STANDARD_INPUT
    if name is None and not is_standard and path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="gateway-") as scratch:
        file = Path(scratch) / (name or (UNNAMED if is_standard else path.name))
        if path.is_file() and not is_standard:
            file.symlink_to(path.absolute())
        else:
            with nullcontext(sys.stdin.buffer) if is_standard else path.open("rb") as source, file.open("wb") as target:
                shutil.copyfileobj(source, target)
        yield file
