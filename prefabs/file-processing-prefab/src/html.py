"""Web pages."""

import codecs
import html
import re
from pathlib import Path

from . import encoding
from .document import Document, Options
from .markdown import LARGEST_HTML, from_html
from .problem import Problem

HEAD = 4096
CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
TITLE = re.compile(r"<title[^>]{0,500}>([^<]{1,2000})", re.IGNORECASE)
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "iso-8859-1": "cp1252"}  # as browsers do


def read(path: Path, options: Options) -> Document:
    if path.stat().st_size > LARGEST_HTML:
        size = LARGEST_HTML >> 20
        raise Problem("TOO_LARGE", f"web pages may have up to {size} MB; split it", f"网页不能超过 {size} MB；请拆分")
    codec = declared(path.read_bytes()[:HEAD], encoding.detect(path, options.language))
    text = path.read_bytes().decode(codec, errors="replace")
    document = Document("html", iter([from_html(text)]), title=title_of(text), encoding=codec)
    return document


def declared(head: bytes, detected: str) -> str:
    """What a page says of its encoding counts, unless it is plainly something else."""
    if detected.startswith("utf") or not (found := CHARSET.search(head)):
        return detected
    name = found[1].decode("ascii").lower()
    try:
        codec = codecs.lookup(WIDER.get(name, name))
    except LookupError:
        return detected
    return codec.name if codec._is_text_encoding and not codec.name.startswith("utf") else detected


def markdown_of(content: bytes) -> tuple[str, str | None]:
    """A page inside something else."""
    try:
        text = content.decode("utf-8-sig" if not content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-16")
    except UnicodeDecodeError:
        text = content.decode(declared(content[:HEAD], "cp1252"), errors="replace")
    return from_html(text), title_of(text)


def title_of(text: str) -> str | None:
    found = TITLE.search(text[: HEAD * 16])
    return html.unescape(found[1]).strip() or None if found else None
