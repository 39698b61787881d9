"""What is filled into the forms of a PDF."""

import ctypes
from collections.abc import Callable, Iterator

import pypdfium2 as pdfium
import pypdfium2.raw as raw

FILLED = (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX)
TICKED = (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON)
TICK = "☑"


def fields(file: pdfium.PdfDocument, page: pdfium.PdfPage) -> Iterator[tuple[str, str]]:
    """Names and values of the fields of a page that are not empty. The document must have its forms initialized."""
    if file.formenv is None:
        return
    for number in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, number)
        try:
            kind = raw.FPDFAnnot_GetFormFieldType(file.formenv, annotation)
            if kind in FILLED:
                value = _text(raw.FPDFAnnot_GetFormFieldValue, file, annotation)
            else:
                value = TICK if kind in TICKED and raw.FPDFAnnot_IsChecked(file.formenv, annotation) else ""
            if value.strip():
                yield _text(raw.FPDFAnnot_GetFormFieldName, file, annotation), value
        finally:
            raw.FPDFPage_CloseAnnot(annotation)


def _text(ask: Callable[..., int], file: pdfium.PdfDocument, annotation: object) -> str:
    size = ask(file.formenv, annotation, None, 0)
    buffer = ctypes.create_string_buffer(size + 2)
    ask(file.formenv, annotation, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw[:size].decode("utf-16-le", "replace").rstrip("\0")
