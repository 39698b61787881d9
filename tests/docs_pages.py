"""Reading the pages of the documentation: their code blocks, with what the comments above say about them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_MARK = re.compile(r"\s*<!-- (not run|file|shows): (.+?) -->\s*\Z", re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and where it stands."""

    language: str
    text: str
    line: int
    mark: str | None = None
    """not run, or file."""
    word: str = ""
    """The reason, or the name of the file."""


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    lines = page.read_text("utf-8").splitlines()
    start: int | None = None
    above = ""
    for number, line in enumerate(lines):
        if line.startswith("```") and start is None:
            start = number
            above = "\n".join(lines[max(0, number - 3) : number])
        elif line == "```" and start is not None:
            mark = _MARK.search(above[above.rfind("<!--") :]) if "<!--" in above else None
            text = "\n".join(lines[start + 1 : number]) + "\n"
            yield Block(lines[start][3:].strip(), text, start + 1, mark and mark[1], mark[2] if mark else "")
            start = None
    assert start is None, f"{page}: the block of line {start} does not end"


def loosely(text: str) -> list[str]:
    """The lines of an output without what differs from run to run: ids, times, numbers, widths of columns."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27,}|\b[0-9a-f]{16}\b", "ID", text)
    text = re.sub(r"sk-[\w-]+…?|eyJ[\w.-]+…?", "KEY", text)
    text = re.sub(r"\d{4}([-/])\d\d\1\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?Z?)?", "MOMENT", text)
    text = re.sub(r"/\d{12}-", "/STAMP-", text)
    text = re.sub(r"\d+(\.\d+)? (ms|s)\b", "TIME", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"GATEWAY_BASE_URL=\S+ ", "", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]
