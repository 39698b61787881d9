"""Tables as text: the separator is found by looking, rows are read as they come."""

import csv
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .document import Document
from .markdown import table
from .problem import Problem

SAMPLE = 64 * 1024
SEPARATORS = ",\t;|"
MOST_LINES = 1000  # in one row, before it looks like a mistake
LONGEST_FIELD = 4 << 20  # an unclosed quotation mark swallows the rest of the file up to here


def read(path: Path, codec: str) -> Document:
    with path.open("r", encoding=codec, errors="replace", newline="") as file:
        sample = file.read(SAMPLE)
    separator, width = _best(sample)
    document = Document("tsv" if separator == "\t" else "csv", iter(()), encoding=codec)
    document.pieces = table(_rows(path, codec, separator, document), width)
    return document


def looks_like_one(start: str) -> bool:
    """Three lines or more, all with the same number of columns; prose with a comma in each line has only two."""
    lines = start.splitlines()[:-1] if len(start) > SAMPLE // 16 else start.splitlines()
    if len([line for line in lines if line.strip()]) < 3:
        return False
    separator, width = _best("\n".join(lines))
    rows = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
    return min(rows) == max(rows) == width >= (2 if separator in "\t;" else 3)


def _best(sample: str) -> tuple[str, int]:
    """The separator by which most lines have the same number of columns, and that number."""
    lines = sample.splitlines()[:200]
    if len(sample) >= SAMPLE and len(lines) > 1:
        lines = lines[:-1]
    best = (0.0, 1, ",")
    for separator in SEPARATORS:
        widths = Counter(len(row) for row in _parsed(lines, separator) if row)
        if widths:
            width, count = widths.most_common(1)[0]
            best = max(best, (count / widths.total() if width > 1 else 0.0, width, separator), key=lambda b: b[:2])
    return best[2], best[1]


def _parsed(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return []


def _rows(path: Path, codec: str, separator: str, document: Document) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_FIELD)
    count = line = 0
    with path.open("r", encoding=codec, errors="replace", newline="") as file:
        text = itertools.chain([file.readline().removeprefix("\ufeff")], file)
        reader = csv.reader((line.replace("\0", "") for line in text), delimiter=separator)
        try:
            for row in reader:
                if reader.line_num - line > MOST_LINES:
                    document.warnings.append(
                        (
                            f"the row at line {line + 1} takes {reader.line_num - line} lines; a quotation mark is "
                            "perhaps not closed",
                            f"第 {line + 1} 行的记录占 {reader.line_num - line} 行，可能有引号没有闭合",
                        )
                    )
                line = reader.line_num
                if any(row):
                    count += 1
                    yield row
        except csv.Error as error:
            raise Problem(
                "CORRUPT_FILE",
                f"the table cannot be read near line {reader.line_num}: a quotation mark is never closed; correct it",
                f"表格在第 {reader.line_num} 行附近无法读取：引号没有闭合；请修正",
            ) from error
    document.details["rows"] = max(count - 1, 0)
