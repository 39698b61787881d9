"""The visible text of an HTML page: blocks on lines of their own, list marks, table cells apart."""

import codecs
import re

from lxml import etree
from lxml import html as parser

from .shallow import shallow

HIDDEN = {"script", "style", "noscript", "template", "head", "svg", "iframe", "object", "select"}
BLOCKS = {
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "dd",
    "details",
    "dialog",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hr",
    "html",
    "legend",
    "main",
    "nav",
    "section",
    "summary",
    "tbody",
    "tfoot",
    "thead",
    "tr",
    "ul",
    "ol",
}  # each on lines of its own
LISTS = ("ul", "ol")
APART = {"h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "table"}  # with an empty line around them
CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


class HtmlError(ValueError):
    """There is no page in it."""


def charset(head: bytes) -> str | None:
    """The encoding that the page declares, if Python knows it."""
    if not (declared := CHARSET.search(head)):
        return None
    name = declared[1].decode().lower()
    try:
        codec = codecs.lookup({"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}.get(name, name))
    except LookupError:
        return None
    # Text that is not UTF-8 may still say so.
    return codec.name if codec._is_text_encoding and not codec.name.startswith("utf") else None


def html_text(source: str) -> str:
    source = re.sub("[\x00-\x08\x0b\x0e-\x1f]", "", source)
    try:
        root = parser.document_fromstring(
            shallow(source).encode("utf-8", "replace"), parser=parser.HTMLParser(encoding="utf-8", no_network=True)
        )
    except etree.ParserError as error:
        raise HtmlError(str(error)) from error
    return _written(root)


def _written(element: etree._Element) -> str:
    page = _Page()
    _walk(element, page, verbatim=False)
    return "".join(page.written)


class _Page:
    """Text as it is written: white space only between words, empty lines only between blocks."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.gap = ""  # owed before the next word: a space or line ends
        self.after_mark = False

    def lines(self, count: int) -> None:
        if not self.after_mark and self.gap.count("\n") < count:
            self.gap = "\n" * count

    def mark(self, text: str) -> None:
        """The mark of a list item; what follows stays on its line."""
        self.lines(1)
        self.write(text)
        self.after_mark = True

    def text(self, text: str) -> None:
        words = text.split()
        if (not words or text[0].isspace()) and not self.gap:
            self.gap = " "
        if words:
            self.write(" ".join(words))
            self.gap = " " if text[-1].isspace() else ""

    def write(self, text: str) -> None:
        if self.written and not (self.after_mark and self.gap == " "):
            self.written.append(self.gap)
        self.written.append(text)
        self.gap = ""
        self.after_mark = False


def _walk(element: etree._Element, page: _Page, verbatim: bool) -> None:
    """`verbatim` inside `pre`: white space is kept as it is."""
    tag = element.tag
    if not isinstance(tag, str) or tag in HIDDEN:  # not a string: a comment
        return
    if tag == "tr" and next(element.iterdescendants("table"), None) is None:  # else tables only lay out the page
        page.lines(1)
        page.write("\t".join(" ".join(_written(cell).split()) for cell in element.iterchildren("td", "th")))
        page.lines(1)
        return
    verbatim = verbatim or tag in ("pre", "textarea")
    around = 2 if tag in APART or (tag in LISTS and not _inside_list(element)) else 1 if tag in BLOCKS else 0
    if tag == "br":
        page.lines(min(page.gap.count("\n") + 1, 2))
    elif tag == "li":
        page.mark(_list_mark(element))
    page.lines(around)
    _text(element.text, page, verbatim)
    for child in element:
        _walk(child, page, verbatim)
        _text(child.tail, page, verbatim)
    if tag == "li":
        page.after_mark = False
        page.lines(1)
    page.lines(around)


def _text(text: str | None, page: _Page, verbatim: bool) -> None:
    if text and verbatim:
        if body := text.rstrip("\n"):
            page.write(body)
        page.lines(len(text) - len(body))
    elif text:
        page.text(text)


def _inside_list(element: etree._Element) -> bool:
    return next(element.iterancestors("li"), None) is not None


def _list_mark(item: etree._Element) -> str:
    parent = item.getparent()
    indent = "  " * max(sum(1 for _ in item.iterancestors(*LISTS)) - 1, 0)
    if parent is None or parent.tag != "ol":
        return f"{indent}- "
    start = parent.get("start", "1")
    before = sum(1 for _ in item.itersiblings("li", preceding=True))
    return f"{indent}{(int(start) if start.isdecimal() else 1) + before}. "
