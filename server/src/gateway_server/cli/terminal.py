"""What the commands write: data to standard output, words for people to standard error."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def document(value: Any) -> None:
    """JSON to standard output."""
    data(json.dumps(value, ensure_ascii=False, indent=2))


def line(value: Any) -> None:
    """JSON on one line to standard output."""
    data(json.dumps(value, ensure_ascii=False))


def say(text: str) -> None:
    """To standard error."""
    _write(sys.stderr, text + "\n")


def _write(stream: TextIO, text: str) -> None:
    # What strangers wrote must not steer the terminal that shows it.
    stream.write(_CONTROL.sub("", text) if stream.isatty() else text)
    stream.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows to standard output; on a terminal they are fitted to its width."""
    texts = [[_CONTROL.sub("", "" if cell is None else str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _fitted(columns, texts)
        return
    lines = [[column.upper() for column in columns], *texts]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for cells in lines:
        data("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _fitted(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        shown.add_column(column.upper(), no_wrap=index == 0, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console(no_color="NO_COLOR" in os.environ, highlight=False, markup=False, emoji=False).print(shown)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Shows, on a terminal, that something takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True, no_color="NO_COLOR" in os.environ, markup=False, emoji=False).status(text):
        yield


@contextmanager
def progress(text: str) -> Iterator[Any]:
    """Gives a function of (done, total) bytes that, on a terminal, draws a bar."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True, no_color="NO_COLOR" in os.environ)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
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
