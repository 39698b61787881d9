"""Tables with ruled lines. Only pages that have such lines are searched, since searching is slow."""

import logging
from pathlib import Path
from typing import Any

import pdfplumber
import pypdfium2 as pdfium
import pypdfium2.raw as raw

from .markdown import table
from .pdf_lines import Box

MOST_PAGES = 300  # that are searched in one document
LINES = range(4, 4001)  # on a page: fewer make no table, more are a drawing
MOST_LETTERS = 30_000
log = logging.getLogger(__name__)


class Tables:
    """The tables of one document, page by page."""

    def __init__(self, path: Path, password: str | None) -> None:
        self.searched = 0
        self.skipped = 0  # pages that were not searched though they have lines
        self._path = path
        self._password = password
        self._file: Any = None

    def on(self, number: int, page: pdfium.PdfPage) -> list[tuple[Box, str]]:
        """Where they are, and as Markdown."""
        if not _has_lines(page):
            return []
        if self.searched >= MOST_PAGES:
            self.skipped += 1
            return []
        self.searched += 1
        try:
            return self._found(number)
        except Exception:  # the text is read in any case
            log.exception("cannot search page %d for tables", number + 1)
            self._file = None
            return []

    def _found(self, number: int) -> list[tuple[Box, str]]:
        if self._file is None:
            self._file = pdfplumber.open(self._path, password=self._password or "")
        page = self._file.pages[number]
        try:
            if len(page.chars) > MOST_LETTERS:
                return []
            found = []
            for item in page.find_tables():
                rows = [[value or "" for value in row] for row in item.extract()]
                rows = [row for row in rows if any(value.strip() for value in row)]
                if len(rows) < 2 or max(map(len, rows)) < 2:
                    continue  # a frame around text
                x0, upper, x1, lower = item.bbox
                box = (x0, float(page.height) - lower, x1, float(page.height) - upper)
                found.append((box, "".join(table(rows, max(map(len, rows))))))
            return found
        finally:
            page.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _has_lines(page: pdfium.PdfPage) -> bool:
    count = 0
    for _ in page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH], max_depth=3):
        count += 1
        if count >= LINES.stop:
            return False
    return count >= LINES.start
