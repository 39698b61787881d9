"""What kind of file is it? The content decides; the extension only breaks ties."""

import json
from pathlib import Path

import polars as pl

from . import encoding
from .csv_table import columns_in, read_csv
from .json_table import read_json
from .problem import Problem
from .table import MOST_COLUMNS, Table, column

HEAD = 64 * 1024
SIGNATURES = (
    (b"PK\x03\x04", "an Office or zip file; save the table as CSV", " Office 或 zip 文件；请把表格另存为 CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save the table as CSV", "旧版 Excel 或 Word 文件；请另存为 CSV"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first", " gzip 压缩文件；请先解压"),
    (b"%PDF", "a PDF document", " PDF 文档"),
    (b"\x89PNG", "an image", "图片"),
    (b"\xff\xd8\xff", "an image", "图片"),
    (b"SQLite format 3", "a SQLite database", " SQLite 数据库"),
)


def read(path: Path, scratch: Path, sample_rows: int, language: str) -> Table:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        return _read_parquet(path)
    for signature, english, chinese in SIGNATURES:
        if head.startswith(signature):
            raise Problem("UNSUPPORTED_FORMAT", f"this is {english}", f"这是{chinese}")
    codec = encoding.detect(path, language)
    with path.open(encoding=codec, errors="replace") as text:
        start = text.read(HEAD)
    visible = start.lstrip()
    if not visible and len(start) < HEAD:
        raise Problem("EMPTY_FILE", "the file is empty", "文件是空的")
    if visible[:5].lower() in ("<!doc", "<html", "<?xml"):
        raise Problem("UNSUPPORTED_FORMAT", "this is a web page or XML, not a table", "这是网页或 XML，不是表格")
    if _is_json(path, visible):
        return read_json(path, codec, scratch, sample_rows)
    return read_csv(path, codec, start, scratch)


def _is_json(path: Path, text: str) -> bool:
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        # Unless it is a CSV file under a wrong name: it does not begin like JSON, and falls into columns.
        return text[0] in "[{" or _is_scalar(text.splitlines()[0]) or columns_in(path, text) < 2
    if text[0] == "{":
        return True
    return text[0] == "[" and text[1:].lstrip()[:1] in tuple('[{"]-0123456789tfn')


def _is_scalar(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> Table:
    """Structs become columns with dotted names."""
    frame = pl.scan_parquet(path, glob=False)
    columns = frame.collect_schema().names()
    frame = frame.rename({name: column(index) for index, name in enumerate(columns)})
    while structs := [n for n, dtype in frame.collect_schema().items() if isinstance(dtype, pl.Struct)]:
        chosen, names = [], []
        for name, (before, dtype) in zip(columns, frame.collect_schema().items(), strict=True):
            if before in structs:
                chosen += [pl.col(before).struct.field(field.name) for field in dtype.fields]
                names += [f"{name}.{field.name}" for field in dtype.fields]
            else:
                chosen.append(pl.col(before))
                names.append(name)
        frame = frame.select(expression.alias(column(index)) for index, expression in enumerate(chosen))
        columns = names
    table = Table("parquet", columns, frame)
    if len(columns) > MOST_COLUMNS:
        table.columns = columns[:MOST_COLUMNS]
        table.frame = frame.select(column(index) for index in range(MOST_COLUMNS))
        table.warnings.append((f"only the first {MOST_COLUMNS} columns are described", f"只分析前 {MOST_COLUMNS} 列"))
    return table
