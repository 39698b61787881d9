"""Presentations: a heading for each slide, its text, tables and notes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.enum.shapes import PP_PLACEHOLDER

from . import office
from .document import Document, Options
from .markdown import heading, one_line, table

LARGEST_PART = 64 << 20
TITLES = (PP_PLACEHOLDER.TITLE, PP_PLACEHOLDER.CENTER_TITLE)
MARGINALIA = (PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.SLIDE_NUMBER)
A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def read(path: Path, options: Options) -> Document:
    office.check(path, LARGEST_PART)
    presentation = Presentation(str(path))
    document = Document("pptx", iter(()), title=presentation.core_properties.title or None)
    document.pages = len(presentation.slides)
    document.pieces = _pieces(presentation, document)
    return document


def _pieces(presentation: Any, document: Document) -> Iterator[str]:
    pictures = 0
    for number, slide in enumerate(presentation.slides, 1):
        title = next((s for s in slide.placeholders if s.placeholder_format.type in TITLES), None)
        words = one_line(title.text_frame.text) if title is not None and title.has_text_frame else ""
        yield heading(2, f"{number}. {words}" if words else f"{number}.")
        for shape in _flat(slide.shapes):
            if title is not None and shape.shape_id == title.shape_id:
                continue
            pictures += shape.shape_type is not None and shape.shape_type.name == "PICTURE"
            yield from _shape(shape)
        if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) and frame.text.strip():
            yield "".join(f"> {line}\n" for line in frame.text.strip().splitlines()) + "\n"
    if pictures:
        document.warnings.append((f"{pictures} pictures were left out", f"略去了 {pictures} 张图片"))


def _flat(shapes: Any) -> Iterator[Any]:
    """Shapes in reading order, those in groups too."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _flat(shape.shapes)
        else:
            yield shape


def _shape(shape: Any) -> Iterator[str]:
    if shape.is_placeholder and shape.placeholder_format.type in MARGINALIA:
        return
    if getattr(shape, "has_table", False):
        rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
        yield from table(rows, max(map(len, rows), default=1))
    elif getattr(shape, "has_chart", False):
        yield from _chart(shape.chart)
    elif shape.has_text_frame and shape.text_frame.text.strip():
        listed = shape.is_placeholder and shape.placeholder_format.type != PP_PLACEHOLDER.SUBTITLE
        yield "".join(_paragraphs(shape.text_frame, listed)) + "\n"


def _paragraphs(frame: Any, listed: bool) -> Iterator[str]:
    """Text of a content placeholder is a list by default, unless the paragraph says that it has no bullet."""
    for paragraph in frame.paragraphs:
        text = one_line("".join(_run(run) for run in paragraph.runs) or paragraph.text)
        if not text:
            continue
        properties = paragraph._p.pPr
        bullet = listed
        if properties is not None:
            if properties.find(f"{A}buNone") is not None:
                bullet = False
            elif properties.find(f"{A}buChar") is not None or properties.find(f"{A}buAutoNum") is not None:
                bullet = True
        yield f"{'  ' * paragraph.level}- {text}\n" if bullet else f"{text}\n\n"


def _run(run: Any) -> str:
    address = run.hyperlink.address
    return f"[{run.text}]({address})" if address and run.text.strip() else run.text


def _chart(chart: Any) -> Iterator[str]:
    plot = next(iter(chart.plots), None)
    if plot is None:
        return
    if chart.has_title and chart.chart_title.has_text_frame:
        yield f"**{one_line(chart.chart_title.text_frame.text)}**\n\n"
    series = list(plot.series)
    columns = [list(line.values) for line in series]
    rows = [["", *(line.name or "" for line in series)]]
    for number, category in enumerate(plot.categories):
        values = [column[number] if number < len(column) else None for column in columns]
        rows.append([str(category), *("" if value is None else f"{value:g}" for value in values)])
    yield from table(rows, len(series) + 1)
