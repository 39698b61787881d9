"""Delimited text as a table of text columns, read by polars in pieces."""

import csv
import io
import math
import tempfile
from collections import Counter
from pathlib import Path

import polars as pl

from .encoding import CHUNK
from .problem import Problem
from .table import MOST_COLUMNS, Table, column

DELIMITERS = ",\t;|"
NULLS = ["", "na", "n/a", "#n/a", "null", "none", "nan"]


def read_csv(path: Path, codec: str, start: str, scratch: Path) -> Table:
    """`start` is the beginning of the file's text, with \\n line ends."""
    delimiter, width = _delimiter(path, start)
    lines = start.split("\n")
    blank = next(number for number, line in enumerate(lines) if line.strip())
    header = next(csv.reader(io.StringIO("\n".join(lines[blank:])), delimiter=delimiter))
    has_header = not all(_is_number(cell) for cell in header)
    names = _distinct((header if has_header else [""] * len(header)) + [""] * (width - len(header)))
    if len(names) > MOST_COLUMNS:
        raise Problem("FILE_TOO_LARGE", f"more than {MOST_COLUMNS} columns", f"超过 {MOST_COLUMNS} 列")
    table = Table("tsv" if delimiter == "\t" else "csv", names, pl.LazyFrame(), codec)
    table.dates_in_text = table.numbers_in_text = True
    if not has_header:
        table.warnings.append(("no header: the first row is data", "没有列名：首行就是数据"))
    source = _as_utf8(path, codec, scratch)
    columns = [column(index) for index in range(len(names))]

    def scan(quote: str | None) -> pl.LazyFrame:
        frame = pl.scan_csv(
            source,
            separator=delimiter,
            schema=dict.fromkeys(columns, pl.String),
            has_header=False,
            skip_rows=blank + has_header,
            quote_char=quote,
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            missing_columns="insert",  # of a first row that is shorter than others
            extra_columns="ignore",
            glob=False,
        )
        cells = [pl.col(name).str.strip_chars() for name in columns]
        frame = frame.select(pl.when(~cell.str.to_lowercase().is_in(NULLS)).then(cell) for cell in cells)
        return frame.filter(~pl.all_horizontal(pl.all().is_null())) if len(columns) > 1 else frame

    table.frame = scan('"')
    try:
        table.frame.select(pl.len()).collect(engine="streaming")
    except pl.exceptions.ComputeError:  # a quote that never closes
        table.frame = scan(None)
        table.warnings.append(("unbalanced quotes were read as text", "引号不成对，已按普通字符处理"))
    return table


def columns_in(path: Path, start: str) -> int:
    return _delimiter(path, start)[1]


def _delimiter(path: Path, start: str) -> tuple[str, int]:
    """The delimiter that cuts the first lines most evenly, and into how many columns."""
    lines = start.split("\n", 51)[:50]
    best, found = (0.0, 0), (",", 1)
    for delimiter in DELIMITERS:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        width, count = widths.most_common(1)[0] if widths else (1, 1)
        score = (count / widths.total() + (delimiter == "\t" and path.suffix.lower() == ".tsv"), width)
        if width > 1 and score > best:
            best, found = score, (delimiter, width)
    return found


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _distinct(header: list[str]) -> list[str]:
    """Every column has a name, and no two have the same."""
    names: dict[str, None] = {}
    for number, cell in enumerate(header, 1):
        name = base = " ".join(cell.lstrip("\ufeff").split()) or f"column_{number}"
        copy = 1
        while name in names:
            copy += 1
            name = f"{base} ({copy})"
        names[name] = None
    return list(names)


def _as_utf8(path: Path, codec: str, scratch: Path) -> Path:
    """A copy in UTF-8 with \\n line ends, if the file is not that already."""
    with path.open("rb") as raw:
        head = raw.read(CHUNK)
    old_line_ends = b"\r" in head and b"\n" not in head
    if codec in ("utf-8", "utf-8-sig") and not old_line_ends:
        return path
    with (
        path.open(encoding=codec, errors="replace") as source,
        tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=scratch, delete=False) as target,
    ):
        while chunk := source.read(CHUNK):
            target.write(chunk)
    return Path(target.name)
