"""A function, a generator and a function that writes a file: all that a prefab can be."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUTPUTS = Path("data/outputs")  # relative: every call has a workspace of its own


def echo(text: str) -> dict[str, Any]:
    """What is returned is the result."""
    return {"success": True, "text": text}


def count(n: int, delay: float = 0.0) -> Iterator[dict[str, Any]]:
    """A generator can be streamed; a caller that does not want a stream gets the data of `done`."""
    if not (0 <= n <= 10_000 and 0 <= delay <= 60):
        error = "n must be from 0 to 10000 and delay from 0 to 60"
        yield {"type": "done", "data": {"success": False, "error": error, "error_code": "INVALID_PARAMETER"}}
        return
    for number in range(1, n + 1):
        time.sleep(delay)
        yield {"type": "progress", "data": {"current": number, "total": n}}
        yield {"type": "content", "data": f"{number}\n"}
    yield {"type": "done", "data": {"success": True, "counted": n}}


def shout(text: str) -> dict[str, Any]:
    """Every file under `data/outputs/` goes back to the caller."""
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    (OUTPUTS / "shout.txt").write_text(text.upper() + "\n", encoding="utf-8")
    return {"success": True, "message": "written to shout.txt"}
