"""Books: the chapters of an EPUB in reading order."""

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from lxml import etree

from . import office
from .document import Document, Options
from .html import markdown_of
from .problem import Problem

LARGEST_CHAPTER = 32 << 20
NAMES = {
    "c": "urn:oasis:names:tc:opendocument:xmlns:container",
    "opf": "http://www.idpf.org/2007/opf",
    "dc": "http://purl.org/dc/elements/1.1/",
}
PAGES = ("application/xhtml+xml", "text/html", "application/html")
FONTS = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")  # scrambled, as is allowed


def read(path: Path, options: Options) -> Document:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive)
            container = etree.fromstring(archive.read("META-INF/container.xml"), parser)
            opf = unquote(container.find(".//c:rootfile", NAMES).get("full-path"))
            package = etree.fromstring(archive.read(opf), parser)
    except (KeyError, AttributeError, TypeError, etree.XMLSyntaxError, zipfile.BadZipFile) as error:
        raise office.damaged() from error
    items = {item.get("id"): item for item in package.iterfind(".//opf:manifest/opf:item", NAMES)}
    chapters = []
    for reference in package.iterfind(".//opf:spine/opf:itemref", NAMES):
        item = items.get(reference.get("idref"))
        if item is not None and item.get("media-type") in PAGES and item.get("href"):
            chapters.append(posixpath.normpath(posixpath.join(posixpath.dirname(opf), unquote(item.get("href")))))
    document = Document("epub", iter(()), title=package.findtext(".//dc:title", None, NAMES))
    authors = [author.text for author in package.iterfind(".//dc:creator", NAMES) if author.text]
    document.details = {"authors": authors, "chapters": len(chapters)}
    document.pieces = _pieces(path, chapters, document)
    return document


def _check(archive: zipfile.ZipFile) -> None:
    if sum(info.file_size for info in archive.infolist()) > office.LARGEST_PACKAGE:
        raise Problem("TOO_LARGE", "the book unpacks to more than can be read", "电子书解压后过大，无法读取")
    if "META-INF/encryption.xml" in archive.namelist():
        told = archive.read("META-INF/encryption.xml")
        if told.count(b"EncryptionMethod ") > sum(told.count(font) for font in FONTS):
            raise Problem("ENCRYPTED_DOCUMENT", "the book is protected (DRM)", "电子书有版权保护（DRM）")


def _pieces(path: Path, chapters: list[str], document: Document) -> Iterator[str]:
    missing = 0
    with zipfile.ZipFile(path) as archive:
        for chapter in chapters:
            try:
                info = archive.getinfo(chapter)
                if info.file_size > LARGEST_CHAPTER:
                    raise Problem("TOO_LARGE", "a chapter is too large to be read", "有一章过大，无法读取")
                text = markdown_of(archive.read(info))[0].strip()
            except (KeyError, zipfile.BadZipFile):
                missing += 1
                continue
            if text:
                yield text + "\n\n"
    if missing:
        document.warnings.append((f"{missing} chapters are missing or damaged", f"{missing} 章缺失或损坏"))
