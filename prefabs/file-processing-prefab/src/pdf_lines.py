"""The lines of a PDF page: text, place and size of letters."""

import ctypes
import math
import statistics
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as raw

LINE_ENDS = (0x0D, 0x0A)
HYPHENS = (0x02, 0xFFFE)  # how the library writes a hyphen at the end of a line
SPACE = 0x20


@dataclass
class Line:
    """Places are in points, from the lower left corner of the page."""

    text: str
    size: float
    left: float
    right: float
    bottom: float
    top: float
    hyphen: bool = False  # the word goes on in the next line

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2


def lines_of(page: pdfium.PdfPage, outside: list[tuple[float, float, float, float]]) -> list[Line]:
    """In the order in which they were written, which is the order of reading for nearly every program. What lies in
    one of the boxes `outside` (tables) is left out."""
    text = page.get_textpage()
    try:
        reader = _Reader(text, outside)
        for index in range(text.count_chars()):
            reader.take(index)
        reader.end_line()
        return reader.lines
    finally:
        text.close()


class _Reader:
    def __init__(self, text: pdfium.PdfTextPage, outside: list[tuple[float, float, float, float]]) -> None:
        self.lines: list[Line] = []
        self._text = text
        self._outside = outside
        self._box = raw.FS_RECTF()
        self._matrix = raw.FS_MATRIX()
        self._start()

    def _start(self) -> None:
        self._codes: list[int] = []
        self._indexes: list[int] = []  # of visible characters
        self._edges = [math.inf, -math.inf, math.inf, -math.inf]
        self._hyphen = False

    def take(self, index: int) -> None:
        code = raw.FPDFText_GetUnicode(self._text, index)
        if code in LINE_ENDS:
            self.end_line()
        elif code in HYPHENS:
            self._hyphen = True
        elif code <= SPACE or code == 0xA0:
            self._codes.append(SPACE)
        else:
            self._visible(index, code)

    def _visible(self, index: int, code: int) -> None:
        box = self._box
        raw.FPDFText_GetLooseCharBox(self._text, index, ctypes.byref(box))
        x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        if any(left <= x <= right and bottom <= y <= top for left, bottom, right, top in self._outside):
            return
        if self._hyphen:  # not at the end of the line after all
            self._codes.append(ord("-"))
            self._hyphen = False
        edges = self._edges
        edges[0], edges[1] = min(edges[0], box.left), max(edges[1], box.right)
        edges[2], edges[3] = min(edges[2], box.bottom), max(edges[3], box.top)
        self._codes.append(code)
        self._indexes.append(index)

    def end_line(self) -> None:
        if self._indexes:
            text = " ".join("".join(map(chr, self._codes)).split())
            self.lines.append(Line(text, self._size(), *self._edges, self._hyphen))
        self._start()

    def _size(self) -> float:
        """The library tells the size before the text is scaled, so it is scaled here; a few letters are enough."""
        count = len(self._indexes)
        sample = {self._indexes[count * part // 4] for part in (0, 1, 2, 3)} | {self._indexes[-1]}
        sizes = []
        for index in sample:
            size = raw.FPDFText_GetFontSize(self._text, index)
            if raw.FPDFText_GetMatrix(self._text, index, ctypes.byref(self._matrix)):
                size *= math.hypot(self._matrix.c, self._matrix.d)
            sizes.append(size)
        return round(statistics.median(sizes), 1)
