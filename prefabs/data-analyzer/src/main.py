"""`analyze`: what is in these tables?"""

import logging
from pathlib import Path
from typing import Any

from .problem import Problem, speaks_chinese

INPUTS = Path("data/inputs/input")
MOST_SAMPLE_ROWS = 100
log = logging.getLogger(__name__)


def analyze(columns: list[str] | None = None, sample_rows: int = 5, language: str = "en") -> dict[str, Any]:
    """Describe every file under `input`; files that cannot be read are reported beside the others."""
    # polars starts threads when it is imported. Imported here, the package stays free of threads until it is called,
    # and a process that has none can be forked into a ready worker in milliseconds.
    from . import analysis, report

    try:
        _check(columns, sample_rows)
        paths = sorted(path for path in INPUTS.glob("*") if path.is_file())
        if not paths:
            raise Problem("NO_INPUT", "no file was given under `input`", "没有在 `input` 下提供文件")
    except Problem as problem:
        return problem.result(language)

    files: list[dict[str, Any]] = []
    problems: list[tuple[str, Problem]] = []
    for path in paths:
        try:
            files.append(analysis.describe(path, columns, sample_rows, language))
        except Problem as problem:
            problems.append((path.name, problem))
        except Exception as error:
            log.exception("unexpected failure with %r", path.name)
            problems.append((path.name, analysis.unreadable(error)))
    return _answer(files, problems, language, report.markdown)


def _check(columns: object, sample_rows: object) -> None:
    if columns is not None and not (isinstance(columns, list) and all(isinstance(c, str) for c in columns)):
        raise Problem("INVALID_PARAMETER", "`columns` must be a list of column names", "`columns` 必须是列名的列表")
    if isinstance(sample_rows, bool) or not isinstance(sample_rows, int) or not 0 <= sample_rows <= MOST_SAMPLE_ROWS:
        raise Problem(
            "INVALID_PARAMETER",
            f"`sample_rows` must be a whole number from 0 to {MOST_SAMPLE_ROWS}",
            f"`sample_rows` 必须是 0 到 {MOST_SAMPLE_ROWS} 之间的整数",
        )


def _answer(files: list[dict[str, Any]], problems: list[tuple[str, Problem]], language: str, markdown: Any) -> Any:
    failed = [{"name": n, "error": p.text(language), "error_code": p.error_code} for n, p in problems]
    data = {"total_rows": sum(file["rows"] for file in files), "files": files, "failed": failed}
    if not files:
        reasons = ("；" if speaks_chinese(language) else "; ").join(f"{f['name']}: {f['error']}" for f in failed)
        return {"success": False, "error": reasons, "error_code": failed[0]["error_code"], "data": data}
    if speaks_chinese(language):
        message = f"已分析 {len(files)} 个文件，共 {data['total_rows']} 行"
        message += f"；{len(failed)} 个文件失败：{'、'.join(f['name'] for f in failed)}" if failed else ""
    else:
        message = f"analyzed {len(files)} file{'s' * (len(files) > 1)}, {data['total_rows']} rows in all"
        message += f"; {len(failed)} failed: {', '.join(f['name'] for f in failed)}" if failed else ""
    return {"success": True, "message": message, "content": markdown(data, language), "data": data}
