"""Pieces of Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence

from html_to_markdown import ConversionOptions, PreprocessingOptions, convert

from .shallow import shallow

OPTIONS = ConversionOptions(
    extract_metadata=False,
    bullets="-",
    compact_tables=True,
    br_in_tables=True,
    inline_data_media="alt_text_only",
    preprocessing=PreprocessingOptions(enabled=False),
)
LARGEST_HTML = 64 << 20  # characters
ROWS = 500  # of a table in one piece


def from_html(html: str) -> str:
    return convert(shallow(html), OPTIONS).content or ""


def heading(level: int, text: str) -> str:
    return f"{'#' * min(max(level, 1), 6)} {one_line(text)}\n\n"


def one_line(text: str) -> str:
    return " ".join(text.split())


def cell(text: str) -> str:
    text = text.strip().replace("|", "\\|")
    return re.sub(r"\s*[\r\n\v\f\u2028\u2029]+\s*", "<br>", text)


def table(rows: Iterable[Sequence[str]], width: int) -> Iterator[str]:
    """A table as it is read, with the first row as its head. Short rows are filled, long ones are kept whole."""
    lines: list[str] = []
    for number, row in enumerate(rows):
        cells = [cell(value) for value in row]
        cells += [""] * (width - len(cells))
        lines.append(f"| {' | '.join(cells)} |\n")
        if number == 0:
            lines.append("|" + " --- |" * max(len(cells), 1) + "\n")
        if len(lines) >= ROWS:
            yield "".join(lines)
            lines = []
    yield "".join(lines) + "\n"


def fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
