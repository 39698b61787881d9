"""Files of text: which of the formats that are text it is, by content as far as content tells."""

import re
from collections.abc import Iterator
from pathlib import Path

from . import csv_table, data, encoding, html, mail, rtf
from .document import Document, Options
from .kinds import READABLE
from .problem import Problem

HEAD = 8192
CHUNK = 1 << 20  # characters
LARGEST = 1 << 30
MARKDOWN = (".md", ".markdown", ".mdown", ".mkd")
PAGES = (".html", ".htm", ".xhtml", ".mht")
TABLES = (".csv", ".tsv", ".tab")
JSON = (".json", ".jsonl", ".ndjson", ".geojson", ".ipynb")
PROSE = (".txt", ".text", ".log", *MARKDOWN)
PAGE = re.compile(
    r"(?:<!--.{0,2000}?-->\s*)?(?:<!doctype\s+html|<html[\s>]|<head[\s>]|<body[\s>])", re.IGNORECASE | re.DOTALL
)
XHTML = re.compile(r"<\?xml[^>]{0,200}\?>\s*(?:<!doctype html|<html[\s>])", re.IGNORECASE)
FIELD = re.compile(
    r"^(?:From|To|Date|Subject|Message-ID|MIME-Version|Received|Return-Path|Content-Type): ?\S", re.M | re.I
)
MARKDOWN_TITLE = re.compile(r"^#\s+(.{1,500}?)\s*#*\s*$", re.MULTILINE)


def read(path: Path, options: Options) -> Document:
    if path.stat().st_size > LARGEST:
        raise Problem("TOO_LARGE", "texts may have up to 1 GB; split the file", "文本不能超过 1 GB；请拆分文件")
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.lstrip().startswith(b"{\\rtf"):
        return rtf.read(path, options)
    suffix = path.suffix.lower()
    codec = _codec(path, options.language)
    start = head.decode(codec, errors="replace").lstrip("\ufeff \t\r\n")
    if suffix in (".eml", ".mht", ".mhtml") or (suffix not in PROSE and _is_mail(start)):
        return mail.read(path, options)
    if PAGE.match(start) or XHTML.match(start) or (suffix in PAGES and "<" in start):
        return html.read(path, options)
    if start.startswith("<?xml") or (suffix in (".xml", ".svg", ".rss", ".xsd") and start.startswith("<")):
        return data.read_xml(path, html.declared(head, codec))
    if suffix in TABLES or (suffix not in (*PROSE, *JSON) and csv_table.looks_like_one(start)):
        return csv_table.read(path, codec)
    if suffix in JSON or (suffix not in PROSE and start.startswith(("{", "["))):
        document = data.read_json(path, codec, certain=suffix in JSON)
        if document is not None:
            return document
    return _plain(path, codec, suffix, start)


def _codec(path: Path, language: str) -> str:
    try:
        return encoding.detect(path, language)
    except Problem as problem:
        raise Problem(
            "UNSUPPORTED_FORMAT",
            f"this is no document that can be read; documents that can: {READABLE}",
            f"这不是可读取的文档；支持的格式：{READABLE}",
        ) from problem


def _is_mail(start: str) -> bool:
    """A block of header fields at the very beginning, among them at least two of mail."""
    block = re.split(r"\r?\n\r?\n", start, maxsplit=1)[0]
    lines = block.splitlines()
    ordered = all(re.match(r"[!-9;-~]+:|[ \t]", line) for line in lines)
    return ordered and len(lines) > 1 and len({found.lower().split(":")[0] for found in FIELD.findall(block)}) >= 2


def _plain(path: Path, codec: str, suffix: str, start: str) -> Document:
    is_markdown = suffix in MARKDOWN
    document = Document("markdown" if is_markdown else "text", iter(()), encoding=codec)
    if is_markdown and (found := MARKDOWN_TITLE.search(start)):
        document.title = found[1]
    document.pieces = _lines(path, document)
    return document


def _lines(path: Path, document: Document) -> Iterator[str]:
    lost = 0
    with path.open("r", encoding=document.encoding, errors="replace", newline=None) as file:
        while chunk := file.read(CHUNK):
            lost += chunk.count("\ufffd")
            yield chunk
    if lost:
        codec = document.encoding
        document.warnings.append(
            (f"{lost} characters could not be decoded as {codec}", f"{lost} 个字符无法按 {codec} 解码")
        )
