"""JSON as a table. Rows are read in batches; a file of more than one batch is kept as Parquet while it is described."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from .json_values import Rows
from .table import MOST_COLUMNS, Table, column

BATCH = 20_000
INTEGERS = range(-(2**63), 2**63)


def read_json(path: Path, codec: str, scratch: Path, sample_rows: int) -> Table:
    found: dict[str, set[str]] = {}  # kinds of values, by column
    batches: list[pl.LazyFrame] = []
    sample: list[dict[str, Any]] = []
    too_wide, count = False, 0
    with path.open(encoding=codec, errors="replace") as file:
        rows = Rows(file)
        for batch in _batches(rows):
            count += len(batch)
            sample += batch[: sample_rows - len(sample)]
            for row in batch:
                for name, value in row.items():
                    if name not in found and len(found) >= MOST_COLUMNS:
                        too_wide = True
                        continue
                    found.setdefault(name, set()).update(_kinds(value))
            frame = pl.DataFrame(
                [_series(column(index), [row.get(name) for row in batch]) for index, name in enumerate(found)]
            )
            batches.append(_kept(frame, scratch / f"{len(batches)}.parquet"))
    names = list(found)
    types = {index: _type(found[name]) for index, name in enumerate(names)}
    frame = pl.concat([_cast(batch, types) for batch in batches], how="diagonal") if batches else pl.LazyFrame()
    table = Table("json", names, frame, codec, count, dates_in_text=True, sample=sample)
    table.kinds = {index: kind for index, kind in types.items() if kind in ("list", "mixed")}
    if rows.path is not None:
        table.facts = {"rows_from": rows.path, "attributes": rows.attributes}
    if too_wide or rows.too_wide:
        table.warnings.append((f"only the first {MOST_COLUMNS} columns are described", f"只分析前 {MOST_COLUMNS} 列"))
    return table


def _batches(rows: Rows) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _kinds(value: Any) -> set[str]:
    match value:
        case None:
            return set()
        case bool():
            return {"boolean"}
        case int():
            return {"integer" if value in INTEGERS else "number"}
        case float():
            return {"number"}
        case str():
            return {"string"}
    return {"list"}


def _type(kinds: set[str]) -> str:
    if kinds == {"integer", "number"}:
        return "number"
    if len(kinds) > 1:
        return "mixed"
    return next(iter(kinds), "empty")


DTYPES: dict[str, Any] = {"boolean": pl.Boolean, "integer": pl.Int64, "number": pl.Float64}


def _series(name: str, values: list[Any]) -> pl.Series:
    kind = _type(set().union(*(_kinds(value) for value in values)))
    if kind == "number":
        values = [None if value is None else _float(value) for value in values]
    elif kind in ("list", "mixed"):
        values = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    if kind in ("string", "list", "mixed"):
        values = [v and v.encode("utf-8", "replace").decode() for v in values]  # lone surrogates
    return pl.Series(name, values, dtype=DTYPES.get(kind, pl.String))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _kept(frame: pl.DataFrame, path: Path) -> pl.LazyFrame:
    if frame.height < BATCH:
        return frame.lazy()
    frame.write_parquet(path)
    return pl.scan_parquet(path, glob=False)


def _cast(frame: pl.LazyFrame, types: dict[int, str]) -> pl.LazyFrame:
    there = frame.collect_schema().names()
    return frame.with_columns(
        pl.col(column(index)).cast(DTYPES.get(kind, pl.String))
        for index, kind in types.items()
        if column(index) in there
    )
