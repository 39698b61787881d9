"""The report as Markdown, in English or Chinese."""

import json
from typing import Any

from .problem import speaks_chinese

MOST_COLUMNS = 100
MOST_SAMPLE_COLUMNS = 12
LONGEST_CELL = 60
CHINESE = {
    "Data analysis": "数据分析",
    "rows": "行",
    "columns": "列",
    "Column": "列名",
    "Type": "类型",
    "Missing": "缺失",
    "Distinct": "不同值",
    "Details": "详情",
    "First rows": "前几行",
    "Note": "注意",
    "Not analyzed": "未能分析",
    "rows of": "数据来自",
    "more columns": "列未显示",
    "true": "真",
    "false": "假",
    "length": "长度",
    "min": "最小",
    "max": "最大",
    "mean": "平均",
    "median": "中位数",
    "std": "标准差",
    "sum": "合计",
    "string": "文本",
    "integer": "整数",
    "number": "数值",
    "boolean": "布尔",
    "date": "日期",
    "datetime": "日期时间",
    "time": "时间",
    "duration": "时长",
    "list": "列表",
    "mixed": "混合",
    "binary": "二进制",
    "empty": "空",
}


def markdown(data: dict[str, Any], language: str) -> str:
    def say(text: str) -> str:
        return CHINESE.get(text, text) if speaks_chinese(language) else text

    parts = [f"# {say('Data analysis')}"]
    for file in data["files"]:
        parts += _file(file, say)
    if data["failed"]:
        parts.append(f"## {say('Not analyzed')}")
        parts.append("\n".join(f"- {_cell(failure['name'])}: {failure['error']}" for failure in data["failed"]))
    return "\n\n".join(parts) + "\n"


def _file(file: dict[str, Any], say: Any) -> list[str]:
    facts = [file["format"].upper(), file["encoding"], f"{file['rows']:,} {say('rows')}"]
    facts.append(f"{len(file['columns'])} {say('columns')}")
    if "rows_from" in file:
        facts.append(f"{say('rows of')} `{file['rows_from']}`")
    parts = [f"## {_cell(file['name'])}", " · ".join(fact for fact in facts if fact)]
    parts += [f"> {say('Note')}: {warning}" for warning in file["warnings"]]
    if file["columns"]:
        header = [say(word) for word in ("Column", "Type", "Missing", "Distinct", "Details")]
        rows = [
            [
                column["name"],
                say(column["type"]),
                _share(column["null_count"], file["rows"]),
                ("≈" if "unique_is_estimate" in column else "") + f"{column['unique']:,}" if "unique" in column else "",
                _details(column, say),
            ]
            for column in file["columns"][:MOST_COLUMNS]
        ]
        parts.append(_table(header, rows))
        if len(file["columns"]) > MOST_COLUMNS:
            parts.append(f"… {len(file['columns']) - MOST_COLUMNS} {say('more columns')}")
    if file["sample"]:
        names = [column["name"] for column in file["columns"]][:MOST_SAMPLE_COLUMNS]
        parts.append(f"### {say('First rows')}")
        parts.append(_table(names, [[row.get(name) for name in names] for row in file["sample"]]))
    return parts


def _details(column: dict[str, Any], say: Any) -> str:
    if "top" in column:
        return ", ".join(f"{_short(top['value'])} ({top['count']:,})" for top in column["top"])
    if "true_count" in column:
        return f"{say('true')} {column['true_count']:,}, {say('false')} {column['false_count']:,}"
    if "min_length" in column:
        return f"{say('length')} {column['min_length']}–{column['max_length']}"
    names = [name for name in ("min", "max", "mean", "median", "std", "sum") if column.get(name) is not None]
    return ", ".join(f"{say(name)} {_number(column[name])}" for name in names)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})" if part else "0"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if 0.01 <= abs(value) < 1e15 or value == 0 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        value = json.dumps(value, ensure_ascii=False)
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
