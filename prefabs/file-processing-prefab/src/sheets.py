"""Spreadsheets: every sheet with something in it as a table."""

import datetime
import itertools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import python_calamine as calamine

from . import office
from .document import Document, Options
from .docx import core_title
from .kinds import kind_of
from .markdown import heading, table
from .number_formats import shown
from .problem import Problem
from .sheet_cells import Book, Cells, column_number

MOST_CELLS = 40_000_000  # the library holds the whole rectangle up to the last cell in memory, 24 bytes for each
CHUNK = 1 << 20
LONGEST_TAG = 1024
NOT_EMPTY = rb"(?!</c>|<v ?/></c>|<v></v></c>)"  # a cell may only have a style
FILLED = re.compile(rb"<(?:\w+:)?c\s[^<>]{0,200}?\br=[\"']([A-Z]{1,3})(\d{1,7})[\"'][^<>]{0,200}(?<!/)>" + NOT_EMPTY)


def read(path: Path, options: Options) -> Document:
    office.check(path)
    _check_extent(path)
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
        if "limit exceeded" in str(error):
            raise _too_large("") from error
        raise office.damaged() from error
    if not book.sheets_metadata:  # how the library answers if the list of sheets is missing
        raise office.damaged()
    shown = [sheet for sheet in book.sheets_metadata if sheet.typ == calamine.SheetTypeEnum.WorkSheet]
    document = Document(kind, iter(()), sheets=[sheet.name for sheet in shown])
    hidden = [sheet.name for sheet in shown if sheet.visible != calamine.SheetVisibleEnum.Visible]
    if hidden:
        names = ", ".join(hidden[:10])
        document.warnings.append((f"hidden sheets are included: {names}", f"包含隐藏的工作表：{names}"))
    document.pieces = _pieces(book, [sheet.name for sheet in shown], Book(path) if kind == "xlsx" else None, document)
    return document


def _pieces(book: calamine.CalamineWorkbook, names: list[str], more: Book | None, document: Document) -> Iterator[str]:
    for name in names:
        sheet = book.get_sheet_by_name(name)
        cells = more.cells(name) if more else Cells()
        _warn(cells, name, document)
        columns = [column for row in cells.texts.values() for column in row]
        if sheet.end is not None and sheet.start is not None:
            columns += [sheet.start[1], sheet.end[1]]
        if not columns:
            continue
        yield heading(2, name)
        yield from table(_rows(sheet, cells, min(columns)), max(columns) - min(columns) + 1)


def _warn(cells: Cells, name: str, document: Document) -> None:
    if count := cells.formulas:
        english = f"{count} formulas on {name} have no stored result; open the file in Excel and save it to get them"
        document.warnings.append((english, f"{name} 中有 {count} 个公式没有保存结果；请在 Excel 中打开并保存"))
    if not cells.is_complete:
        document.warnings.append((f"numbers far down on {name} are without format", f"{name} 后部的数字未按格式显示"))


def _rows(sheet: calamine.CalamineSheet, cells: Cells, first: int) -> Iterator[list[str]]:
    """Rows with something in them. Columns begin with the first that is used."""
    top, left = sheet.start or (0, first)
    rows = sheet.iter_rows() if sheet.start is not None else iter(())
    for number in itertools.count():
        values = next(rows, None) if number >= top else []
        if values is None and number > max(cells.texts, default=-1):
            return
        texts, formats = cells.texts.get(number, {}), cells.formats.get(number, {})
        line = [""] * (left - first)
        line += [_text(value, formats.get(column, "")) for column, value in enumerate(values or (), left)]
        for column, text in texts.items():
            line += [""] * (column - first + 1 - len(line))
            line[column - first] = text
        if any(line):
            yield line


def _text(value: object, code: str = "") -> str:
    if code and isinstance(value, float) and (text := shown(value, code)):
        return text
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


def _check_extent(path: Path) -> None:
    """One stray cell at the end of the world would make the library ask for hundreds of gigabytes."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                with archive.open(name) as file:
                    last, column, row = _extent(file)
                if column * row > MOST_CELLS:
                    raise _too_large(last)


def _extent(file: IO[bytes]) -> tuple[str, int, int]:
    """The last filled cell, and how many columns and rows there are up to it."""
    columns: set[bytes] = set()
    row, rest = 0, b""
    while chunk := file.read(CHUNK):
        found = FILLED.findall(rest + chunk)
        columns.update(letters for letters, _ in found)
        row = max(row, max((int(number) for _, number in found), default=0))
        rest = chunk[-LONGEST_TAG:]
    widest = max(columns, key=column_number, default=b"")
    return f"{widest.decode()}{row}", column_number(widest), row


def _too_large(last: str) -> Problem:
    english = f"a sheet reaches as far as cell {last}" if last else "a sheet has too many cells"
    chinese = f"工作表一直延伸到单元格 {last}" if last else "工作表的单元格过多"
    return Problem(
        "TOO_LARGE",
        f"{english}, which is more than can be read; delete what lies far away, or save the sheet as CSV",
        f"{chinese}，超出可读取的范围；请删除远处的单元格，或另存为 CSV",
    )
