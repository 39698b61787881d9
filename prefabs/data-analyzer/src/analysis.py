"""The facts about one file: types, counts and statistics, computed by polars in a few streaming passes."""

import math
import tempfile
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from .problem import Problem, speaks_chinese
from .reading import read
from .table import Table, column

LONGEST_TEXT = 200
EXACT_UNIQUE = 100_000  # above this many distinct values, and in tables longer than that, they are estimated
EXACT_MEDIAN = 1_000_000
TOP = 5
DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y年%m月%d日", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y")
TIMES = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M")
ZONED = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
LONG = r"^[+-]?\d{19,}$"  # a floating point number would lose its last digits
THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"


def describe(path: Path, wanted: list[str] | None, sample_rows: int, language: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:  # in the workspace of this call
        try:
            table = read(path, Path(scratch), sample_rows, language)
            return _describe(path.name, table, wanted, sample_rows, language)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise unreadable(error) from error


def unreadable(error: BaseException) -> Problem:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:LONGEST_TEXT]
    return Problem("CORRUPT_FILE", f"the file cannot be read: {reason}", f"无法读取文件：{reason}")


def _describe(name: str, table: Table, wanted: list[str] | None, sample_rows: int, language: str) -> dict[str, Any]:
    chosen = _chosen(table, wanted)
    frame = table.frame.select(column(index) for index in chosen) if chosen else table.frame
    kinds, frame = _typed(frame, table, chosen)
    count = table.rows if table.rows is not None else _collect(frame.select(pl.len())).item()
    facts = _facts(frame, kinds, count)
    tops = _tops(frame, kinds, facts)
    columns = []
    for index in chosen:
        entry: dict[str, Any] = {"name": table.columns[index], "type": kinds[index]}
        entry.update(_column(facts[index], kinds[index], count))
        if index in tops:
            entry["top"] = tops[index]
        columns.append(entry)
    if table.sample is None:
        names = [table.columns[index] for index in chosen]
        rows = _collect(frame.head(sample_rows)).rows() if sample_rows and names else []
        sample = [dict(zip(names, row, strict=True)) for row in rows]
    else:
        names = [table.columns[index] for index in chosen]
        sample = [{key: value for key, value in row.items() if key in names} for row in table.sample]
    description = {"name": name, "format": table.format, "encoding": table.encoding, "rows": count, "columns": columns}
    description |= table.facts | {"sample": sample}
    description["warnings"] = [texts[speaks_chinese(language)] for texts in table.warnings]
    return plain(description)


def _chosen(table: Table, wanted: list[str] | None) -> list[int]:
    if wanted is None:
        return list(range(len(table.columns)))
    unknown = [name for name in wanted if name not in table.columns]
    if unknown:
        there = ", ".join(table.columns[:50])
        raise Problem(
            "UNKNOWN_COLUMN",
            f"no column {', '.join(map(repr, unknown))}; there are: {there}",
            f"没有列 {'、'.join(unknown)}；现有的列：{there}",
        )
    return [table.columns.index(name) for name in dict.fromkeys(wanted)]


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")


# Types


def _typed(frame: pl.LazyFrame, table: Table, chosen: list[int]) -> tuple[dict[int, str], pl.LazyFrame]:
    """The type of each column, and the frame with its columns in that type."""
    schema = frame.collect_schema()
    kinds = {index: table.kinds.get(index) or _kind(schema[column(index)]) for index in chosen}
    frame = frame.with_columns(_storable(column(index), kinds[index], schema[column(index)]) for index in chosen)
    texts = [index for index in chosen if kinds[index] == "string"]
    if not (texts and (table.dates_in_text or table.numbers_in_text)):
        return kinds, frame
    start = _collect(frame.select(pl.col(column(i)).drop_nulls().head(500).implode() for i in texts))
    guesses = {i: list(_guesses(start[column(i)][0], table)) for i in texts}
    tests = [pl.col(column(i)).count().alias(f"{i}") for i in texts]
    tests += [
        reading.count().alias(f"{i} {number}")
        for i in texts
        for number, (_, reading) in enumerate(_readings(i, guesses[i]))
    ]
    counts = _collect(frame.select(tests)).row(0, named=True)
    casts = []
    for i in texts:
        fits = [
            (kind, reading)
            for number, (kind, reading) in enumerate(_readings(i, guesses[i]))
            if counts[f"{i} {number}"] == counts[f"{i}"] > 0
        ]
        if fits and not (fits[0][0] == "date" and len(fits) > 1):  # 03/04/2024 may be March or April
            kinds[i] = fits[0][0]
            casts.append(fits[0][1].alias(column(i)))
        elif not counts[f"{i}"]:
            kinds[i] = "empty"
    return kinds, frame.with_columns(casts)


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "integer"
    if dtype.is_float() or dtype.is_decimal():
        return "number"
    if isinstance(dtype, pl.List | pl.Array):
        return "list"
    simple = {pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "datetime", pl.Time: "time", pl.Null: "empty"}
    return simple.get(
        dtype.base_type(), {pl.Duration: "duration", pl.Binary: "binary"}.get(dtype.base_type(), "string")
    )


def _storable(name: str, kind: str, dtype: pl.DataType) -> pl.Expr:
    """What the statistics can count: finite floats, text for text-like types, sizes for bytes, lists as they are."""
    cell = pl.col(name)
    if kind == "number":
        number = cell.cast(pl.Float64)
        return pl.when(number.is_finite()).then(number).alias(name)
    if kind == "integer":
        return cell.cast(pl.Int64, strict=False) if dtype != pl.UInt64 else cell.cast(pl.Float64)
    if kind == "duration":
        return cell.dt.total_milliseconds() / 1000
    if kind == "binary":
        return cell.bin.size()
    if kind == "string" and dtype != pl.String:
        return cell.cast(pl.String)
    return cell


def _guesses(values: Iterable[str], table: Table) -> Iterable[str]:
    """Types that the first values do not rule out, best first."""
    texts = pl.Series(values, dtype=pl.String)
    if not texts.len():
        return
    for name, (kind, reading) in _all_readings(pl.col("value")).items():
        if kind not in ("date", "datetime") and not table.numbers_in_text:
            continue
        if texts.to_frame("value").select(reading.count()).item() == texts.len():
            yield name


def _readings(index: int, guesses: list[str]) -> list[tuple[str, pl.Expr]]:
    everything = _all_readings(pl.col(column(index)))
    return [everything[name] for name in guesses]


def _all_readings(text: pl.Expr) -> dict[str, tuple[str, pl.Expr]]:
    """How text may be read; each expression is null where the text is not that."""
    code = text.str.contains(r"^[+-]?0\d")  # 007 is a code, not the number 7
    digits = pl.when(~code).then(
        pl.when(text.str.contains(THOUSANDS)).then(text.str.replace_all(",", "")).otherwise(text)
    )
    number = pl.when(~text.str.contains(LONG)).then(digits.cast(pl.Float64, strict=False))
    word = text.str.to_lowercase()
    truth = pl.when(word.is_in(["true", "yes", "是"])).then(True).when(word.is_in(["false", "no", "否"])).then(False)
    readings = {
        "boolean": ("boolean", truth),
        "integer": ("integer", digits.cast(pl.Int64, strict=False)),
        "number": ("number", pl.when(number.is_finite()).then(number)),
    }
    readings |= {form: ("date", text.str.to_date(form, strict=False)) for form in DATES}
    readings |= {form: ("datetime", text.str.to_datetime(form, strict=False)) for form in TIMES}
    readings |= {form: ("datetime", text.str.to_datetime(form, strict=False, time_zone="UTC")) for form in ZONED}
    return readings


# Statistics

NUMERIC = ("integer", "number", "duration")


def _facts(frame: pl.LazyFrame, kinds: dict[int, str], count: int) -> dict[int, dict[str, Any]]:
    """The raw statistics of every column, in one pass and a second for exact numbers of distinct values."""
    asked: list[pl.Expr] = []
    for index, kind in kinds.items():
        asked += [e.alias(f"{index} {name}") for name, e in _statistics(pl.col(column(index)), kind, count).items()]
    answers = _collect(frame.select(asked)).row(0, named=True) if asked else {}
    facts: dict[int, dict[str, Any]] = {index: {} for index in kinds}
    for key, value in answers.items():
        index, name = key.split(" ")
        facts[int(index)][name] = value
    exact = [i for i in kinds if "about" in facts[i] and (count <= EXACT_UNIQUE or facts[i]["about"] < EXACT_UNIQUE)]
    if exact:
        row = _collect(frame.select(pl.col(column(i)).drop_nulls().n_unique().alias(str(i)) for i in exact)).row(
            0, named=True
        )
        for index, value in row.items():
            facts[int(index)]["unique"] = value
    return facts


def _statistics(cell: pl.Expr, kind: str, count: int) -> dict[str, pl.Expr]:
    asked = {"count": cell.count()}
    if kind not in ("list", "binary", "empty"):
        asked["about"] = cell.drop_nulls().approx_n_unique() if kind != "boolean" else cell.drop_nulls().n_unique()
    if kind in NUMERIC:
        number = cell.cast(pl.Float64)
        asked |= {"min": cell.min(), "max": cell.max(), "mean": number.mean(), "std": number.std(), "sum": number.sum()}
        if kind == "integer":
            whole = cell.cast(pl.Int128)
            asked["std"] = (
                (whole - whole.min()).cast(pl.Float64).std()
            )  # of long numbers that differ in the last digits
            asked["whole_sum"] = cell.cast(pl.Int128).sum()
        if count <= EXACT_MEDIAN:
            asked["median"] = number.median()
    elif kind in ("date", "datetime", "time"):
        asked |= {"min": cell.min(), "max": cell.max()}
    elif kind == "boolean":
        asked |= {"true_count": cell.sum()}
    elif kind in ("string", "mixed"):
        length = cell.str.len_chars()
        asked |= {"min_length": length.min(), "max_length": length.max()}
    return asked


def _column(facts: dict[str, Any], kind: str, rows: int) -> dict[str, Any]:
    count = facts.pop("count", 0)
    entry = {"count": count, "null_count": rows - count}
    about = facts.pop("about", None)
    whole_sum = facts.pop("whole_sum", None)
    if "unique" in facts:
        entry["unique"] = facts.pop("unique")
    elif about is not None:
        entry |= {"unique": min(about, count), "unique_is_estimate": True}
    if whole_sum is not None and count:
        facts["sum"] = whole_sum
    if kind == "boolean":
        facts["false_count"] = count - facts["true_count"]
    return entry | (facts if count else {})


def _tops(
    frame: pl.LazyFrame, kinds: dict[int, str], facts: dict[int, dict[str, Any]]
) -> dict[int, list[dict[str, Any]]]:
    """The most frequent texts of the columns where some repeat."""
    repeating = [
        i
        for i, kind in kinds.items()
        if kind in ("string", "mixed") and 0 < facts[i].get("unique", 0) < facts[i]["count"]
    ]
    queries = [
        frame.select(pl.col(column(i)).alias("value"))
        .drop_nulls()
        .group_by("value")
        .len("count")
        .sort(["count", "value"], descending=[True, False])
        .head(TOP)
        for i in repeating
    ]
    answers = pl.collect_all(queries, engine="streaming") if queries else []
    return {i: answer.to_dicts() for i, answer in zip(repeating, answers, strict=True)}


# JSON


def plain(value: Any) -> Any:
    """The value as strict JSON: ISO dates, no NaN, long texts cut."""
    match value:
        case dict():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | pl.Series():
            return [plain(inner) for inner in value]
        case bool() | int() | None:
            return value
        case float() | Decimal():
            number = float(value)
            return round(number, 10) if math.isfinite(number) else None
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return f"<{len(value)} bytes>"
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
