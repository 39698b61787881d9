"""Word documents."""

import io
import zipfile
from pathlib import Path
from typing import IO

import mammoth
from lxml import etree

from . import office
from .document import Document, Options
from .equations import EQUATIONS, linear
from .markdown import from_html

LARGEST_PART = 64 << 20  # its text alone; the tree of it takes ten times as much memory
TITLE = "{http://purl.org/dc/elements/1.1/}title"
# Beside the names that every Word writes, those of WPS and of translated templates.
STYLES = "\n".join(
    ["p[style-name='Title'] => h1:fresh", "p[style-name='标题'] => h1:fresh", "p[style-name='Subtitle'] => h2:fresh"]
    + [f"p[style-name='标题 {level}'] => h{level}:fresh" for level in range(1, 7)]
    + [f"p[style-name='标题{level}'] => h{level}:fresh" for level in range(1, 7)]
    + [f"p[style-name='heading {level}'] => h6:fresh" for level in (7, 8, 9)]
)


W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MAIN = "word/document.xml"
LISTS = "\n".join(  # styles that tell the level by their name alone
    f"p[style-name='List {name} {level}'] => {'ul|ol > li > ' * (level - 1)}{tag} > li:fresh"
    for name, tag in (("Bullet", "ul"), ("Number", "ol"))
    for level in range(2, 6)
)


def read(path: Path, options: Options) -> Document:
    office.check(path, LARGEST_PART)
    document = Document("docx", iter(()), title=core_title(path))
    with _with_equations(path) as file:
        result = mammoth.convert_to_html(
            file,
            style_map=f"{STYLES}\n{LISTS}",
            convert_image=lambda image: _picture(image, document),
            external_file_access=False,
        )
    document.pieces = iter([from_html(result.value)])
    if pictures := document.details.get("pictures"):
        document.warnings.append((f"{pictures} pictures were left out", f"略去了 {pictures} 张图片"))
    return document


def _with_equations(path: Path) -> IO[bytes]:
    """The document, with its equations as text, which is all that the library reads."""
    with zipfile.ZipFile(path) as archive:
        if MAIN not in archive.namelist() or b"oMath" not in (content := archive.read(MAIN)):
            return path.open("rb")
        root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
        for equation in list(root.iter(*EQUATIONS)):
            if equation.getparent() is not None:
                run = etree.Element(f"{W}r")
                etree.SubElement(run, f"{W}t").text = linear(equation)
                equation.getparent().replace(equation, run)
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as copy:
            for info in archive.infolist():
                copy.writestr(info.filename, etree.tostring(root) if info.filename == MAIN else archive.read(info))
    written.seek(0)
    return written


def _picture(image: object, document: Document) -> list[object]:
    document.details["pictures"] = int(str(document.details.get("pictures", 0))) + 1
    text = getattr(image, "alt_text", None)
    return [mammoth.html.text(f"[{text}]")] if text else []


def core_title(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        if "docProps/core.xml" not in archive.namelist():
            return None
        try:
            parser = etree.XMLParser(resolve_entities=False, no_network=True)
            return etree.fromstring(archive.read("docProps/core.xml"), parser).findtext(TITLE) or None
        except etree.XMLSyntaxError:
            return None
