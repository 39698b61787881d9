"""OpenDocument texts and presentations."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from . import office
from .document import Document, Options
from .markdown import heading, one_line, table
from .problem import Problem

LARGEST_PART = 64 << 20
NAMES = {
    "office": "urn:oasis:names:tc:opendocument:xmlns:office:1.0",
    "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
    "table": "urn:oasis:names:tc:opendocument:xmlns:table:1.0",
    "draw": "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0",
    "presentation": "urn:oasis:names:tc:opendocument:xmlns:presentation:1.0",
    "xlink": "http://www.w3.org/1999/xlink",
    "dc": "http://purl.org/dc/elements/1.1/",
}
SPACES = {"s": " ", "tab": "\t", "line-break": "\n"}
MOST_REPEATED = 100  # columns; sheets of a thousand equal cells are formatting


def read(path: Path, options: Options) -> Document:
    office.check(path, LARGEST_PART)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "META-INF/manifest.xml" in names and b"encryption-data" in archive.read("META-INF/manifest.xml"):
                raise Problem(
                    "ENCRYPTED_DOCUMENT",
                    "the document is protected by a password; save it without one",
                    "文档有密码保护；请另存为无密码的文档",
                )
            body = etree.fromstring(archive.read("content.xml"), parser).find("office:body", NAMES)
            meta = etree.fromstring(archive.read("meta.xml"), parser) if "meta.xml" in names else None
    except (KeyError, etree.XMLSyntaxError) as error:
        raise office.damaged() from error
    if body is None:
        raise office.damaged()
    slides = body.findall("office:presentation/draw:page", NAMES)
    title = meta.findtext(".//dc:title", None, NAMES) if meta is not None else None
    pieces = _slides(slides) if slides else _blocks(body[0] if len(body) else body)
    return Document("odp" if slides else "odt", pieces, title=title, pages=len(slides) or None)


def _slides(slides: list[etree._Element]) -> Iterator[str]:
    for number, slide in enumerate(slides, 1):
        yield heading(2, f"{number}.")
        for child in slide:
            if _is(child, "presentation", "notes"):
                for piece in _blocks(child):
                    yield "".join(f"> {line}\n" for line in piece.strip().splitlines()) + "\n"
            else:
                yield from _blocks(child)


def _is(element: etree._Element, space: str, *names: str) -> bool:
    return any(element.tag == f"{{{NAMES[space]}}}{name}" for name in names)


def _get(element: etree._Element, space: str, name: str) -> str:
    return element.get(f"{{{NAMES[space]}}}{name}", "")


def _blocks(element: etree._Element) -> Iterator[str]:
    for child in element:
        if _is(child, "text", "h"):
            level = _get(child, "text", "outline-level")
            yield heading(int(level) if level.isdecimal() else 1, _inline(child))
        elif _is(child, "text", "p"):
            notes: list[str] = []
            if text := _inline(child, notes).strip():
                yield text.replace("\n", "  \n") + "\n\n"
            yield from (f"> {note}\n\n" for note in notes)
        elif _is(child, "text", "list"):
            yield "".join(_list(child, 0)) + "\n"
        elif _is(child, "table", "table"):
            rows = [_cells(row) for row in child.iter(f"{{{NAMES['table']}}}table-row")]
            rows = [row for row in rows if any(row)]
            yield from table(rows, max(map(len, rows), default=1))
        elif not _is(child, "text", "tracked-changes", "sequence-decls", "table-of-content"):
            yield from _blocks(child)


def _list(element: etree._Element, depth: int) -> Iterator[str]:
    for item in element:
        marked = False
        for child in item:
            if _is(child, "text", "list"):
                yield from _list(child, depth + 1)
            elif text := one_line(_inline(child)):
                yield f"{'  ' * depth}{'  ' if marked else '- '}{text}\n"
                marked = True


def _cells(row: etree._Element) -> list[str]:
    cells: list[str] = []
    for child in row:
        if _is(child, "table", "table-cell", "covered-table-cell"):
            repeated = _get(child, "table", "number-columns-repeated")
            times = min(int(repeated), MOST_REPEATED) if repeated.isdecimal() else 1
            cells += ["\n".join(_inline(part) for part in child)] * max(times, 1)
    return cells


def _inline(element: etree._Element, notes: list[str] | None = None) -> str:
    """Text with links; notes are gathered, since they stand in the middle of a sentence."""
    parts = [element.text or ""]
    for child in element:
        if _is(child, "text", *SPACES):
            count = _get(child, "text", "c")
            parts.append(SPACES[etree.QName(child).localname] * (min(int(count), 1000) if count.isdecimal() else 1))
        elif _is(child, "text", "note"):
            if notes is not None:
                notes.append(one_line(_inline(child, None)))
        elif _is(child, "text", "a") and (target := _get(child, "xlink", "href")):
            parts.append(f"[{_inline(child, notes)}]({target})")
        elif not _is(child, "office", "annotation"):
            parts.append(_inline(child, notes))
        parts.append(child.tail or "")
    return "".join(parts)
