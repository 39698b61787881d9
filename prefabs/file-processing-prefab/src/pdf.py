"""PDF: text in its reading order, headings by the size of letters, ruled tables."""

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from .document import Document, Options
from .markdown import one_line
from .pdf_forms import fields
from .pdf_lines import Line, is_upright, lines_of
from .pdf_tables import Tables
from .pdf_text import Style, blocks
from .problem import Problem

SAMPLE_PAGES = 40  # by which the sizes of headings and running titles are learned
MOST_NAMED = 20


def read(path: Path, options: Options) -> Document:
    file = _open(path, options.password)
    if file.get_formtype() != raw.FORMTYPE_NONE:
        file.init_forms()
    path = _turned_back(file) or path
    count = len(file)
    if count == 0:
        raise Problem("CORRUPT_FILE", "the PDF has no pages", "PDF 没有页面")
    sample = [_page(file, number * count // min(count, SAMPLE_PAGES)) for number in range(min(count, SAMPLE_PAGES))]
    if not any(lines for lines, _ in sample) and not any(_page(file, number)[0] for number in range(count)):
        raise _no_text(file)
    title = file.get_metadata_dict().get("Title") or None
    document = Document("pdf", iter(()), title=title, pages=count)
    document.pieces = _pieces(file, path, options, Style([known for known in sample if known[0]]), document)
    return document


def _open(path: Path, password: str | None) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(path, password=password)
    except pdfium.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            if password:
                raise Problem("ENCRYPTED_DOCUMENT", "the password is not right", "密码不正确") from error
            raise Problem(
                "ENCRYPTED_DOCUMENT",
                "the PDF is protected by a password; give it as `password`",
                "PDF 有密码保护；请用 `password` 提供密码",
            ) from error
        if error.err_code == raw.FPDF_ERR_SECURITY:
            raise Problem(
                "ENCRYPTED_DOCUMENT",
                "the PDF is protected in a way that cannot be opened here; save it without protection",
                "PDF 的保护方式无法打开；请另存为无保护的文件",
            ) from error
        raise Problem(
            "CORRUPT_FILE",
            "the PDF is damaged or was cut off; save or upload it again",
            "PDF 已损坏或不完整；请重新保存或上传",
        ) from error


def _turned_back(file: pdfium.PdfDocument) -> Path | None:
    """A copy where pages that are shown turned lie as their letters stand: the library reads lines from the top of
    the page as it is shown. None if there are no such pages."""
    found = False
    for number in range(len(file)):
        try:
            page = file[number]
        except pdfium.PdfiumError:
            continue
        if page.get_rotation() and is_upright(page):
            page.set_rotation(0)
            found = True
        page.close()
    if not found:
        return None
    target = Path(tempfile.mkdtemp()) / "turned.pdf"
    file.save(target, flags=raw.FPDF_REMOVE_SECURITY)
    return target


def _page(file: pdfium.PdfDocument, number: int) -> tuple[list[Line], float]:
    try:
        page = file[number]
    except pdfium.PdfiumError:
        return [], 0.0
    try:
        return lines_of(page, []), page.get_height()
    except pdfium.PdfiumError:
        return [], 0.0
    finally:
        page.close()


def _no_text(file: pdfium.PdfDocument) -> Problem:
    for number in range(min(len(file), 5)):
        if any(True for _ in file[number].get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3)):
            return Problem(
                "SCANNED_DOCUMENT",
                "the PDF holds pictures of pages and no text; run text recognition (OCR) on it first",
                "这是扫描件，只有页面图片没有文字；请先做文字识别（OCR）",
            )
    return Problem("NO_TEXT", "the PDF contains no text", "PDF 中没有文字")


def _pieces(file: pdfium.PdfDocument, path: Path, options: Options, style: Style, document: Document) -> Iterator[str]:
    tables = Tables(path, options.password)
    empty: list[int] = []
    damaged: list[int] = []
    dropped = False
    try:
        for number in range(len(file)):
            try:
                page = file[number]
            except pdfium.PdfiumError:
                damaged.append(number + 1)
                continue
            try:
                found = tables.on(number, page)
                height = page.get_height()
                lines = lines_of(page, [box for box, _ in found])
                kept = [line for line in lines if not style.is_running(line, height)]
                dropped |= len(kept) < len(lines)
                filled = "".join(f"- **{name}:** {one_line(value)}\n" for name, value in fields(file, page))
                if not (lines or found or filled):
                    empty.append(number + 1)
                yield from _merged(list(blocks(kept, style)), [(box[3], text) for box, text in found])
                yield f"{filled}\n" if filled else ""
            except pdfium.PdfiumError:
                damaged.append(number + 1)
            finally:
                page.close()
    finally:
        tables.close()
        file.close()
    _warn(document, empty, damaged, tables, dropped)


def _merged(texts: list[tuple[float, str]], tables: list[tuple[float, str]]) -> Iterator[str]:
    """Each table before the first text below it, and an empty line after the last item of a list."""
    waiting = sorted(tables, reverse=True)
    pieces: list[str] = []
    for top, text in texts:
        while waiting and waiting[0][0] >= top:
            pieces.append(waiting.pop(0)[1])
        pieces.append(text)
    pieces += [text for _, text in waiting]
    for piece, following in pairwise([*pieces, ""]):
        yield piece if piece.endswith("\n\n") or following.startswith("- ") else f"{piece}\n"


def _warn(document: Document, empty: list[int], damaged: list[int], tables: Tables, dropped: bool) -> None:
    for pages, english, chinese in (
        (empty, "no text on page {}; a scan, perhaps", "第 {} 页没有文字，可能是扫描页"),
        (damaged, "page {} is damaged and was left out", "第 {} 页已损坏，已略去"),
    ):
        if pages:
            named = ", ".join(map(str, pages[:MOST_NAMED])) + (", …" if len(pages) > MOST_NAMED else "")
            document.warnings.append((english.format(named), chinese.format(named)))
    if dropped:
        document.warnings.append(("running titles and page numbers were left out", "略去了重复的页眉、页脚和页码"))
    if tables.skipped:
        skipped = tables.skipped
        document.warnings.append((f"{skipped} pages were not searched for tables", f"有 {skipped} 页没有查找表格"))
