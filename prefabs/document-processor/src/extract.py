"""The text of one document. The content decides its format; the extension only tells Markdown from plain text."""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

from . import docx, encoding, pdf
from .html import HtmlError, charset, html_text
from .problem import Problem

HEAD = 4096
LARGEST_TEXT = 100 * 1024 * 1024
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
OTHER = (
    (b"{\\rtf", "an RTF document; save it as DOCX or PDF", " RTF 文档；请另存为 DOCX 或 PDF"),
    (b"\x89PNG", "an image; its text cannot be extracted", "图片；无法提取其中的文字"),
    (b"\xff\xd8\xff", "an image; its text cannot be extracted", "图片；无法提取其中的文字"),
    (b"GIF8", "an image; its text cannot be extracted", "图片；无法提取其中的文字"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first", " gzip 压缩文件；请先解压"),
)
FRONT_MATTER = re.compile(r"\A---\n.*?\n(?:---|\.\.\.)(?:\n|\Z)", re.DOTALL)
_markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
log = logging.getLogger(__name__)


@dataclass
class Document:
    format: str
    text: str
    pages: int | None = None
    encoding: str | None = None
    warnings: list[tuple[str, str]] = field(default_factory=list)  # English, Chinese


def text_of(path: Path, language: str) -> Document:
    try:
        document = _read(path, language)
    except Problem:
        raise
    except Exception as error:  # whatever a parser makes of a damaged file
        log.exception("cannot read %r", path.name)
        raise Problem(
            "CORRUPT_FILE",
            f"the document is damaged and cannot be read ({type(error).__name__})",
            f"文档已损坏，无法读取（{type(error).__name__}）",
        ) from error
    document.text = _tidy(document.text)
    if not document.text:
        raise Problem("NO_TEXT", "the document contains no text", "文档中没有文字")
    return document


def _read(path: Path, language: str) -> Document:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.strip():
        raise Problem("EMPTY_FILE", "the file is empty", "文件是空的")
    if head.startswith(b"PK\x03\x04"):
        text, pages = docx.read(path)
        return Document("docx", text, pages)
    if b"%PDF-" in head[:1024]:
        text, pages, warnings = pdf.read(path)
        return Document("pdf", text, pages, warnings=warnings)
    if head.startswith(OLE):
        raise _old_office(path)
    for signature, english, chinese in OTHER:
        if head.startswith(signature):
            raise Problem("UNSUPPORTED_FORMAT", f"this is {english}", f"这是{chinese}")
    return _read_text(path, head, language)


def _old_office(path: Path) -> Problem:
    with path.open("rb") as file:
        if ENCRYPTED_PACKAGE in file.read(LARGEST_TEXT):
            return Problem("ENCRYPTED", "the document is protected by a password", "文档有密码保护")
    return Problem(
        "UNSUPPORTED_FORMAT",
        "this is an old Office document; save it as DOCX or PDF",
        "这是旧版 Office 文档；请另存为 DOCX 或 PDF",
    )


def _read_text(path: Path, head: bytes, language: str) -> Document:
    if path.stat().st_size > LARGEST_TEXT:
        size = LARGEST_TEXT >> 20
        raise Problem("FILE_TOO_LARGE", f"text files may have up to {size} MB", f"文本文件不能超过 {size} MB")
    codec = encoding.detect(path, language)
    suffix = path.suffix.lower()
    start = head.decode(codec, errors="replace").lstrip("\ufeff \t\r\n")[:100].lower()
    is_html = suffix in (".html", ".htm", ".xhtml") or re.match(r"<!doctype html|<html[\s>]", start) is not None
    if is_html and not codec.startswith("utf"):
        codec = charset(head) or codec
    text = path.read_bytes().decode(codec, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    text = text.removeprefix("\ufeff")
    warnings = []
    if lost := text.count("\ufffd"):
        warnings.append((f"{lost} characters could not be decoded as {codec}", f"{lost} 个字符无法按 {codec} 解码"))
    if is_html:
        try:
            return Document("html", html_text(text), encoding=codec, warnings=warnings)
        except HtmlError:
            raise Problem("NO_TEXT", "the page contains no text", "网页中没有文字") from None
    if suffix in (".md", ".markdown", ".mdown"):
        return Document(
            "markdown", html_text(_markdown.render(FRONT_MATTER.sub("", text))), encoding=codec, warnings=warnings
        )
    return Document("text", text, encoding=codec, warnings=warnings)


def _tidy(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # lone surrogates out of broken fonts
    text = re.sub(r"[\x00-\x08\x0b\x0e-\x1f]", "", text)
    text = re.sub(r"[ \t]+(?=\n)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
