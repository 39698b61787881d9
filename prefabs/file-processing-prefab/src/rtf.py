"""RTF documents."""

import re
from pathlib import Path

from striprtf.striprtf import rtf_to_text

from .document import Document, Options
from .markdown import table
from .problem import Problem

LARGEST = 64 << 20
TITLE = re.compile(r"\{\\info.{0,2000}?\{\\title ([^{}]{1,500})\}", re.DOTALL)


def read(path: Path, options: Options) -> Document:
    if path.stat().st_size > LARGEST:
        raise Problem("TOO_LARGE", "RTF may have up to 64 MB; save it as DOCX", "RTF 不能超过 64 MB；请另存为 DOCX")
    source = path.read_bytes().decode("latin-1")
    text = rtf_to_text(source, errors="replace")
    title = TITLE.search(source)
    written = rtf_to_text("{\\rtf1" + title[1] + "}", errors="replace").strip() if title else None
    return Document("rtf", iter(_blocks(text)), title=written or None)


def _blocks(text: str) -> list[str]:
    """A paragraph is a line here; rows of tables are lines that end in a bar."""
    pieces: list[str] = []
    rows: list[list[str]] = []
    for line in [*text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").split("\n"), ""]:
        if line.rstrip().endswith("|") and line.count("|") > 1:
            rows.append(line.rstrip()[:-1].split("|"))
            continue
        if rows:
            pieces += table(rows, max(map(len, rows)))
            rows = []
        if line.strip():
            pieces.append(line.strip() + "\n\n")
    return pieces
