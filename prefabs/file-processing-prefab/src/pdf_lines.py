"""The lines of a PDF page: text, place and size of letters."""

import ctypes
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as raw

LINE_ENDS = (0x0D, 0x0A)
HYPHENS = (0x02, 0xFFFE)  # how the library writes a hyphen at the end of a line
SPACE = 0x20
LETTERS_SAMPLED = 200
Box = tuple[float, float, float, float]  # left, bottom, right, top
Turn = Callable[[float, float, float, float], Box]


@dataclass
class Line:
    """Places are in points, from the lower left corner of the page as it is looked at."""

    text: str
    size: float
    left: float
    right: float
    bottom: float
    top: float
    hyphen: bool = False  # the word goes on in the next line


def lines_of(page: pdfium.PdfPage, outside: list[Box]) -> list[Line]:
    """In the order in which they were written, which is the order of reading for nearly every program. What lies in
    one of the boxes `outside` (tables) is left out."""
    text = page.get_textpage()
    try:
        reader = _Reader(text, outside, _turned(page))
        for index in range(text.count_chars()):
            reader.take(index)
        reader.end_line()
        return reader.lines
    finally:
        text.close()


def is_upright(page: pdfium.PdfPage) -> bool:
    """Whether most of its letters stand upright on the sheet, however the page is shown."""
    text = page.get_textpage()
    try:
        count = text.count_chars()
        sample = range(0, count, max(count // LETTERS_SAMPLED, 1))
        angles = [raw.FPDFText_GetCharAngle(text, index) for index in sample]
    finally:
        text.close()
    upright = sum(min(angle, 2 * math.pi - angle) < 0.1 for angle in angles if angle >= 0)
    return upright > len(angles) / 2


def _turned(page: pdfium.PdfPage) -> Turn | None:
    """From the places on the sheet to those on a page that is shown turned."""
    rotation = page.get_rotation()
    left, bottom, right, top = page.get_mediabox()
    width, height = right - left, top - bottom
    return {
        90: lambda x0, y0, x1, y1: (y0, width - x1, y1, width - x0),
        180: lambda x0, y0, x1, y1: (width - x1, height - y1, width - x0, height - y0),
        270: lambda x0, y0, x1, y1: (height - y1, x0, height - y0, x1),
    }.get(rotation)


class _Reader:
    def __init__(self, text: pdfium.PdfTextPage, outside: list[Box], turned: Turn | None) -> None:
        self.lines: list[Line] = []
        self._text = text
        self._outside = outside
        self._turned = turned
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
        place = box.left, box.bottom, box.right, box.top
        if self._turned:
            place = self._turned(*place)
        x, y = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
        if any(left <= x <= right and bottom <= y <= top for left, bottom, right, top in self._outside):
            return
        if self._hyphen:  # the library has put the next line behind it
            if not chr(code).islower():
                self._codes.append(ord("-"))
            self._hyphen = False
        edges = self._edges
        edges[0], edges[1] = min(edges[0], place[0]), max(edges[1], place[2])
        edges[2], edges[3] = min(edges[2], place[1]), max(edges[3], place[3])
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
