"""`parse_file`: a document as Markdown."""

import logging
import re
from pathlib import Path
from typing import Any

from .document import Document, Options
from .problem import Problem, speaks_chinese
from .readers import read

INPUTS = Path("data/inputs/input")
OUTPUTS = Path("data/outputs")
LONGEST_CONTENT = 5_000_000
UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufeff]")
log = logging.getLogger(__name__)


def parse_file(password: str | None = None, max_chars: int = 200000, language: str = "en") -> dict[str, Any]:
    """Turn the one file under `input` into Markdown: the whole in a file, the beginning in the answer."""
    language = language if isinstance(language, str) else "en"
    try:
        _check(password, max_chars)
        path = _input()
        document = read(path, Options(password, language))
        output = OUTPUTS / f"{path.stem}.md"
        try:
            content, chars = _write(document, output, max_chars)
        except BaseException:  # half a document helps nobody
            output.unlink(missing_ok=True)
            raise
    except Problem as problem:
        return problem.result(language)
    return _answer(path, output, document, content, chars, max_chars, language)


def _check(password: object, max_chars: object) -> None:
    if password is not None and not isinstance(password, str):
        raise Problem("INVALID_PARAMETER", "`password` must be text", "`password` 必须是文本")
    if isinstance(max_chars, bool) or not isinstance(max_chars, int) or not 1 <= max_chars <= LONGEST_CONTENT:
        raise Problem(
            "INVALID_PARAMETER",
            f"`max_chars` must be a whole number from 1 to {LONGEST_CONTENT}",
            f"`max_chars` 必须是 1 到 {LONGEST_CONTENT} 之间的整数",
        )


def _input() -> Path:
    paths = sorted(path for path in INPUTS.glob("*") if path.is_file())
    if not paths:
        raise Problem("NO_INPUT", "no file was given under `input`", "没有在 `input` 下提供文件")
    if len(paths) > 1:
        raise Problem(
            "TOO_MANY_FILES",
            "give one file under `input`: call once for each file, or put them into a ZIP archive",
            "`input` 下只能有一个文件：请逐个调用，或打包成 ZIP",
        )
    return paths[0]


def _write(document: Document, output: Path, most: int) -> tuple[str, int]:
    """Everything goes to the file; the beginning, which the answer carries, is kept."""
    kept: list[str] = []
    length = written = 0
    with output.open("w", encoding="utf-8", newline="\n") as file:
        for piece in document.pieces:
            piece = UNWANTED.sub("", piece).encode("utf-8", "replace").decode()  # lone surrogates of broken fonts
            if not written:
                piece = piece.lstrip("\n")
            if not piece:
                continue
            file.write(piece)
            written += len(piece)
            if length <= most:
                kept.append(piece[: most + 1 - length])
                length += len(kept[-1])
    content = "".join(kept)
    if not content.strip() and written <= most:
        raise Problem("NO_TEXT", "there is no text in this file", "文件中没有文字")
    return content, written


def _answer(
    path: Path, output: Path, document: Document, content: str, chars: int, most: int, language: str
) -> dict[str, Any]:
    chinese = speaks_chinese(language)
    warnings = [warning[chinese] for warning in document.warnings]
    truncated = len(content) > most
    if truncated:
        content = _cut(content[:most])
        note = (
            f"内容共 {chars} 个字符，这里只有前 {len(content)} 个；全文在输出文件 {output.name} 中"
            if chinese
            else f"these are the first {len(content)} of {chars} characters; the output file {output.name} has them all"
        )
        warnings.append(note)
        content += f"\n\n*[{note}]*"
    message = f"已将 {path.name} 转换为 Markdown" if chinese else f"turned {path.name} into Markdown"
    message += "".join(f"{'；' if chinese else '; '}{warning}" for warning in warnings[:5])
    metadata = {
        "format": document.format,
        "title": (document.title and " ".join(document.title.split())[:500]) or None,
        "pages": document.pages,
        "sheets": document.sheets,
        "encoding": document.encoding,
        "characters": chars,
        "truncated": truncated,
        "output": output.name,
        "warnings": warnings,
    }
    return {
        "success": True,
        "message": message,
        "content": content.rstrip("\n"),
        "metadata": metadata | document.details,
    }


def _cut(text: str) -> str:
    """At the end of a line where there is one: half a table row misleads."""
    end = text.rfind("\n", len(text) // 2)
    return text[:end] if end > 0 else text
