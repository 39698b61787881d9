"""The text of a PDF."""

import logging
from collections.abc import Iterator
from pathlib import Path

from pypdf import PageObject, PasswordType, PdfReader
from pypdf.errors import PdfReadError, PyPdfError

from .problem import Problem

log = logging.getLogger(__name__)


def read(path: Path) -> tuple[str, int, list[tuple[str, str]]]:
    with path.open("rb") as file:
        try:
            reader = PdfReader(file)
            # Many PDFs are encrypted with an empty password, only to forbid printing.
            if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
                raise Problem("ENCRYPTED", "the PDF is protected by a password", "PDF 有密码保护")
            count = len(reader.pages)
        except PyPdfError as error:
            raise _damaged(error) from error
        texts, unreadable = _pages(reader, count)
    if unreadable and len(unreadable) == count:
        raise _damaged(PdfReadError("no page can be read"))
    if not "".join(texts).strip():
        raise Problem(
            "NO_TEXT",
            "the PDF contains no text; it is probably a scan and needs text recognition (OCR) first",
            "PDF 中没有文字，可能是扫描件，需要先做文字识别（OCR）",
        )
    empty = [str(number) for number, text in enumerate(texts, 1) if not text.strip()]
    warnings = []
    if empty:
        warnings.append((f"no text on page {_list(empty)}", f"第 {_list(empty)} 页没有文字"))
    return "\n\n".join(texts), count, warnings


def _pages(reader: PdfReader, count: int) -> tuple[list[str], list[int]]:
    texts, unreadable = [], []
    for number in range(count):
        try:
            page = reader.pages[number]
            texts.append("\n".join([page.extract_text(), *_filled_in(page)]))
        except Exception:  # one damaged page must not take the others with it
            log.exception("cannot read page %d", number + 1)
            texts.append("")
            unreadable.append(number + 1)
    return texts, unreadable


def _filled_in(page: PageObject) -> Iterator[str]:
    """What is filled into the fields of a form, with the name of the field."""
    for annotation in page.annotations or ():
        field = annotation.get_object()
        owner = field if "/FT" in field else field.get("/Parent", field).get_object()
        value = owner.get("/V")
        if owner.get("/FT") in ("/Tx", "/Ch") and isinstance(value, str) and value.strip():
            yield f"{owner.get('/T', '')}: {value}"


def _list(pages: list[str]) -> str:
    return ", ".join(pages[:20]) + (", …" if len(pages) > 20 else "")


def _damaged(error: Exception) -> Problem:
    return Problem("CORRUPT_FILE", f"the PDF is damaged: {error}", f"PDF 已损坏：{error}")
