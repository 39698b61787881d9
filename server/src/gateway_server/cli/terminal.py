"""What the commands write: data to standard output, words for people to standard error."""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TextIO

from gateway_server.cli.status import Status

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Controls but tab and line feed, and what turns the direction of writing, so that a text shows as another one."""
STARTING = "Starting the gateway"
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?( s)?")
_status: Status | None = None


def prepare() -> None:
    """Lets every text be written, whatever the terminal can show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def data(text: str, *, end: str = "\n") -> None:
    """To standard output, at once."""
    _write(sys.stdout, text + end)


def raw(content: bytes) -> None:
    """To standard output, byte by byte as it is."""
    _write(sys.stdout, "")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def document(value: Any) -> None:
    """JSON to standard output."""
    data(json.dumps(value, ensure_ascii=False, indent=2))


def line(value: Any) -> None:
    """JSON on one line to standard output."""
    data(json.dumps(value, ensure_ascii=False))


def say(text: str, *, end: str = "\n") -> None:
    """To standard error."""
    _write(sys.stderr, text + end)


def is_plain(stream: TextIO) -> bool:
    """Whether no escape codes may be written there."""
    is_unable = os.environ.get("TERM", "") in ("", "dumb")
    return not stream.isatty() or is_unable or bool(os.environ.get("NO_COLOR"))


def _write(stream: TextIO, text: str) -> None:
    is_terminal = stream.isatty()
    with _status.out_of_the_way(text) if _status is not None and is_terminal else nullcontext():
        # What strangers wrote must not steer the terminal that shows it.
        stream.write(_CONTROL.sub("", text) if is_terminal else text)
        stream.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """Rows to standard output, numbers to the right; on a terminal they are fitted to its width.

    Where there are none, `empty` says to people what to do about it.
    """
    texts = [[_CONTROL.sub("", "" if cell is None else str(cell)) for cell in row] for row in rows]
    if not texts and empty:
        say(empty)
        return
    numbers = [_are_numbers([row[index] for row in texts]) for index in range(len(columns))]
    numbers[0] = False  # it names what the row is about
    if sys.stdout.isatty():
        _fitted(columns, texts, numbers)
        return
    lines = [[column.upper() for column in columns], *([cell.replace("\n", " ") for cell in row] for row in texts)]
    widths = [max(_width(line[index]) for line in lines) for index in range(len(columns))]
    for cells in lines:
        data("  ".join(map(_padded, cells, widths, numbers)).rstrip())


def _are_numbers(cells: Sequence[str]) -> bool:
    return any(cells) and all(not cell or _NUMBER.fullmatch(cell) for cell in cells)


def _padded(text: str, width: int, is_number: bool) -> str:
    padding = " " * (width - _width(text))
    return padding + text if is_number else text + padding


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else int(unicodedata.category(char) not in ("Mn", "Me", "Cf"))
        for char in text
    )


def _fitted(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[bool]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if numbers[index] else "left"
        shown.add_column(column.upper(), no_wrap=index == 0, overflow="fold", justify=justify)
    for row in rows:
        shown.add_row(*row)
    colors: Literal["auto"] | None = None if is_plain(sys.stdout) else "auto"
    Console(color_system=colors, highlight=False, markup=False, emoji=False).print(shown)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Says on a terminal what takes its time, if it does. Blocks within one another are one."""
    global _status
    if not sys.stderr.isatty() or _status is not None:
        yield
        return
    _status = Status(text, is_plain=is_plain(sys.stderr))
    _status.start()
    try:
        yield
    finally:
        _status.end()
        _status = None


@contextmanager
def progress(text: str) -> Iterator[Any]:
    """Gives a function of (done, total) bytes that, on a terminal, draws a bar."""
    if is_plain(sys.stderr):
        with busy(text):
            yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def moment(text: str | None) -> str:
    """A time of an answer, short."""
    return text[:19].replace("T", " ") if text else ""


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def count(number: int, noun: str) -> str:
    """So many of something, for people."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
