"""Spreadsheets: every sheet with something in it as a table."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import python_calamine as calamine

from . import office
from .document import Document, Options
from .docx import core_title
from .kinds import kind_of
from .markdown import heading, table


def read(path: Path, options: Options) -> Document:
    office.check(path)
    kind = "ods" if kind_of(path) == "ods" else "xlsx"
    try:
        document = _opened(path, kind)
    except calamine.PasswordError:  # only an .ods is encrypted from within
        document = _opened(office.decrypted(path, options.password), kind)
    document.title = core_title(path)
    return document


def read_old(path: Path, options: Options) -> Document:
    try:
        return _opened(path, "xls")
    except calamine.PasswordError:
        return _opened(office.decrypted(path, options.password), "xls")


def _opened(path: Path, kind: str) -> Document:
    try:
        book = calamine.load_workbook(str(path))
    except calamine.PasswordError:
        raise
    except calamine.CalamineError as error:
        raise office.damaged() from error
    if not book.sheets_metadata:  # how the library answers if the list of sheets is missing
        raise office.damaged()
    shown = [sheet for sheet in book.sheets_metadata if sheet.typ == calamine.SheetTypeEnum.WorkSheet]
    document = Document(kind, iter(()), sheets=[sheet.name for sheet in shown])
    hidden = [sheet.name for sheet in shown if sheet.visible != calamine.SheetVisibleEnum.Visible]
    if hidden:
        names = ", ".join(hidden[:10])
        document.warnings.append((f"hidden sheets are included: {names}", f"包含隐藏的工作表：{names}"))
    document.pieces = _pieces(book, [sheet.name for sheet in shown])
    return document


def _pieces(book: calamine.CalamineWorkbook, names: list[str]) -> Iterator[str]:
    for name in names:
        sheet = book.get_sheet_by_name(name)
        if sheet.start is None or sheet.end is None:
            continue
        yield heading(2, name)
        yield from table(_rows(sheet), sheet.end[1] - sheet.start[1] + 1)


def _rows(sheet: calamine.CalamineSheet) -> Iterator[list[str]]:
    """Rows with something in them. Columns begin with the first that is used."""
    for row in sheet.iter_rows():
        cells = [_text(value) for value in row]
        if any(cells):
            yield cells


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ", "seconds" if not value.microsecond else "milliseconds")
    if isinstance(value, datetime.timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return str(value)
