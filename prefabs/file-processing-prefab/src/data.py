"""JSON and XML. Records become a table; everything else stays what it is, in a block of code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from .document import Document
from .markdown import fenced, table

LARGEST = 32 << 20  # parsed; beyond it is passed through
CHUNK = 1 << 20
MOST_COLUMNS = 100
LONG_LINE = 1000
DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]{0,1000}\[", re.IGNORECASE)
SCALARS = (str, int, float, bool, type(None))
NOT_PARSED = (ValueError, RecursionError)


def read_json(path: Path, codec: str, certain: bool) -> Document | None:
    """None if it is no JSON and nobody said that it is."""
    document = Document("json", iter(()), encoding=codec)
    if path.stat().st_size > LARGEST:
        document.pieces = _passed_through(path, codec, "json")
        return document
    text = path.read_text(codec, errors="replace").removeprefix("\ufeff")
    try:
        value = _parsed(text)
    except NOT_PARSED as error:
        if not certain:
            return None
        deep = isinstance(error, RecursionError)
        english = "the JSON is nested too deeply to be checked" if deep else f"this is not valid JSON: {error}"
        chinese = "JSON 嵌套过深，未做检查" if deep else f"这不是有效的 JSON：{error}"
        document.warnings.append((english[:300], chinese[:300]))
        document.pieces = iter([fenced(text, "json")])
        return document
    columns = _columns(value)
    if columns:
        document.details["rows"] = len(value)
        rows = ([_text(record.get(column)) for column in columns] for record in value)
        document.pieces = table(_headed(columns, rows), len(columns))
    else:
        document.pieces = iter([fenced(_laid_out(text), "json")])
    return document


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_float=str)  # 1.10 stays 1.10
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        try:
            return [json.loads(line, parse_float=str) for line in lines]  # JSON Lines
        except json.JSONDecodeError:
            pass
        raise


def _columns(value: Any) -> list[str]:
    """The fields of a list of flat records, in order; none if it is anything else."""
    if not isinstance(value, list) or not value or not all(isinstance(record, dict) and record for record in value):
        return []
    names: dict[str, None] = {}
    for record in value:
        names.update(dict.fromkeys(record))
        if len(names) > MOST_COLUMNS or not all(isinstance(field, SCALARS) for field in record.values()):
            return []
    return list(names)


def _headed(columns: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    yield columns
    yield from rows


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _laid_out(text: str) -> str:
    """On lines of its own, unless its author has already done so."""
    if len(text) < LONG_LINE * (text.strip().count("\n") + 1) and "\n" in text.strip():
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except NOT_PARSED:
        return text


def read_xml(path: Path, codec: str) -> Document:
    document = Document("xml", iter(()), encoding=codec)
    if path.stat().st_size > LARGEST:
        document.pieces = _passed_through(path, codec, "xml")
        return document
    text = path.read_text(codec, errors="replace").removeprefix("\ufeff")
    body = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    if DOCTYPE.search(body[:65536]):
        document.warnings.append(("the entities that it defines were not resolved", "其中定义的实体没有展开"))
    else:
        try:
            root = etree.fromstring(body.encode("utf-8", "replace"), _parser())
            if len(text) > LONG_LINE * (text.strip().count("\n") + 1):
                etree.indent(root)
                text = etree.tostring(root, encoding="unicode")
        except etree.XMLSyntaxError as error:
            document.warnings.append((f"this is not well-formed XML: {error}"[:300], f"XML 格式有误：{error}"[:300]))
    document.pieces = iter([fenced(text, "xml")])
    return document


def _parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, encoding="utf-8")


def _passed_through(path: Path, codec: str, language: str) -> Iterator[str]:
    fence = "`" * 12
    yield f"{fence}{language}\n"
    with path.open("r", encoding=codec, errors="replace", newline=None) as file:
        while chunk := file.read(CHUNK):
            yield chunk
    yield f"\n{fence}\n"
