"""The text of a Word document, with tables, text boxes, notes and accepted insertions."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from .equations import EQUATIONS, linear
from .problem import Problem

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
STRICT = b"http://purl.oclc.org/ooxml/wordprocessingml/main"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
PAGES = "{http://schemas.openxmlformats.org/officeDocument/2006/extended-properties}Pages"
PARTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
LARGEST_PART = 200 * 1024 * 1024  # unpacked: a small archive can hold an absurd amount
MARKS = {W + "tab": "\t", W + "br": "\n", W + "cr": "\n", W + "noBreakHyphen": "-"}


def read(path: Path) -> tuple[str, int | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if PARTS[0] not in names:
                raise Problem(
                    "UNSUPPORTED_FORMAT",
                    "this is a zip file or another Office format, not a Word document",
                    "这是 zip 文件或其他 Office 格式，不是 Word 文档",
                )
            lines = [line for part in PARTS if part in names for line in _blocks(_xml(archive, part))]
            pages = _page_count(archive) if "docProps/app.xml" in names else None
    except (zipfile.BadZipFile, etree.XMLSyntaxError, EOFError) as error:
        raise Problem("CORRUPT_FILE", "the Word document is damaged", "Word 文档已损坏") from error
    return "\n".join(lines), pages


def _xml(archive: zipfile.ZipFile, part: str) -> etree._Element:
    with archive.open(part) as file:
        content = file.read(LARGEST_PART + 1)
    if len(content) > LARGEST_PART:
        raise Problem("FILE_TOO_LARGE", "the Word document is too large", "Word 文档太大")
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.fromstring(content.replace(STRICT, W[1:-1].encode()), parser)


def _page_count(archive: zipfile.ZipFile) -> int | None:
    text = _xml(archive, "docProps/app.xml").findtext(PAGES) or ""
    return int(text) if text.isdecimal() and int(text) else None


def _blocks(element: etree._Element) -> Iterator[str]:
    """Paragraphs and table rows, wherever they are nested."""
    for child in element.iterchildren("*"):
        if child.tag == W + "p":
            yield _paragraph(child)
        elif child.tag == W + "tr":
            cells = [" ".join(filter(None, _blocks(cell))) for cell in child.iter(W + "tc") if _row_of(cell) is child]
            yield "\t".join(cell.replace("\n", " ") for cell in cells)
        elif child.tag not in (FALLBACK, W + "sectPr"):
            yield from _blocks(child)


def _row_of(cell: etree._Element) -> etree._Element:
    return next(cell.iterancestors(W + "tr"))


def _paragraph(paragraph: etree._Element) -> str:
    return "".join(_runs(paragraph)).rstrip("\n")


def _runs(element: etree._Element) -> Iterator[str]:
    for child in element.iterchildren("*"):
        if child.tag == W + "t":
            yield child.text or ""
        elif child.tag in EQUATIONS:
            yield linear(child)
        elif child.tag in MARKS:
            yield MARKS[child.tag]
        elif child.tag == W + "p":  # a paragraph inside this one: a text box
            yield "\n" + _paragraph(child) + "\n"
        elif child.tag not in (FALLBACK, W + "moveFrom", W + "del", W + "pPr", W + "rPr"):
            yield from _runs(child)
