"""`extract_text`: the text of documents, as files and as one string."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import extract
from .problem import Problem, speaks_chinese
from .words import count_words

INPUTS = Path("data/inputs")
OUTPUTS = Path("data/outputs")
GROUPS = {"input": "output", "input_docs": "output_docs"}
LONGEST_CONTENT = 1_000_000
log = logging.getLogger(__name__)


def extract_text(language: str = "en") -> dict[str, Any]:
    """Extract every document under `input` and `input_docs`; those that fail are reported beside the others."""
    if not isinstance(language, str):
        return Problem("INVALID_PARAMETER", "`language` must be text", "`language` 必须是文本").result("en")
    documents: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    texts: list[str] = []
    for group, path in _inputs():
        entry = {"name": path.name, "input": group}
        try:
            found = extract.text_of(path, language)
        except Problem as problem:
            failed.append(entry | {"error": problem.text(language), "error_code": problem.error_code})
            continue
        output = _free(OUTPUTS / GROUPS[group] / f"{path.stem}.txt")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(found.text + "\n", "utf-8")
        texts.append(found.text)
        entry |= {"output": output.name, "format": found.format, "encoding": found.encoding}
        entry |= {"word_count": count_words(found.text), "char_count": len(found.text), "pages": found.pages}
        documents.append(entry | {"warnings": [warning[speaks_chinese(language)] for warning in found.warnings]})
    return _answer(documents, failed, texts, language)


def _inputs() -> Iterator[tuple[str, Path]]:
    for group in GROUPS:
        for path in sorted((INPUTS / group).glob("*")):
            if path.is_file():
                yield group, path


def _free(path: Path) -> Path:
    """Two documents may differ in their extensions only."""
    number, wanted = 1, path
    while path.exists():
        number += 1
        path = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
    return path


def _answer(
    documents: list[dict[str, Any]], failed: list[dict[str, Any]], texts: list[str], language: str
) -> dict[str, Any]:
    if not documents and not failed:
        english, chinese = (
            "no document was given: use `input` or `input_docs`",
            "没有提供文档：请使用 `input` 或 `input_docs`",
        )
        return Problem("NO_INPUT", english, chinese).result(language)
    chinese = speaks_chinese(language)
    reasons = ("；" if chinese else "; ").join(f"{failure['name']}: {failure['error']}" for failure in failed)
    pages = [document["pages"] for document in documents if document["pages"] is not None]
    data = {
        "word_count": sum(document["word_count"] for document in documents),
        "char_count": sum(document["char_count"] for document in documents),
        "pages": sum(pages) if pages else None,
        "documents": documents,
        "failed": failed,
    }
    if not documents:
        return {"success": False, "error": reasons, "error_code": failed[0]["error_code"], "data": data}
    if chinese:
        message = f"已提取 {len(documents)} 个文档的文本，共 {data['word_count']} 字"
        message += f"；{len(failed)} 个文档失败：{reasons}" if failed else ""
    else:
        message = f"extracted the text of {len(documents)} document{'s' * (len(documents) > 1)}, "
        message += f"{data['word_count']} words in all"
        message += f"; {len(failed)} failed: {reasons}" if failed else ""
    if len(documents) > 1:
        texts = [f"# {document['name']}\n\n{text}" for document, text in zip(documents, texts, strict=True)]
    content = "\n\n".join(texts)
    data["content_truncated"] = len(content) > LONGEST_CONTENT
    return {"success": True, "message": message, "content": content[:LONGEST_CONTENT], "data": data}
