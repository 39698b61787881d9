"""What the commands write: data to standard output, words for people to standard error."""

import codecs
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO

from gateway_server.cli import tables
from gateway_server.cli.status import Status

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Controls but tab and line feed, and what turns the direction of writing, so that a text shows as another one."""
STARTING = "Starting the gateway"
BOLD = ("\x1b[1m", "\x1b[0m")
_status: Status | None = None
_is_answered = False
"""Whether a program that reads JSON has got the whole of it."""


def prepare() -> None:
    """Lets every text be written, whatever the terminal can show; a stream that was closed is none to fail at."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  until the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def let_go() -> None:
    """Has nothing more come to what cannot be written to, where nobody reads it any longer or a disk is full."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def data(text: str, *, end: str = "\n") -> None:
    """To standard output, at once."""
    _write(sys.stdout, text + end)


def raw(content: bytes) -> None:
    """To standard output, byte by byte as it is."""
    _write(sys.stdout, "")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def document(value: Any) -> None:
    """JSON to standard output: all that a command has to say there."""
    global _is_answered
    _is_answered = True
    data(as_json(value, indent=2))


def line(value: Any, *, is_last: bool = False) -> None:
    """JSON on one line to standard output, of several."""
    global _is_answered
    _is_answered |= is_last
    data(as_json(value))


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON for standard output. Where that is not UTF-8, what it cannot show is escaped as JSON has it."""
    is_unicode = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    return json.dumps(value, ensure_ascii=not is_unicode, indent=indent)


def failure(detail: dict[str, Any]) -> None:
    """What went wrong, to programs; nothing where they have been told in the command's own way."""
    if not _is_answered:
        line({"error": detail}, is_last=True)


def say(text: str, *, end: str = "\n") -> None:
    """To standard error."""
    _write(sys.stderr, text + end)


def is_shown() -> bool:
    """Whether people read standard output as it comes, rather than a program or a file."""
    return sys.stdout.isatty()


def is_shared() -> bool:
    """Whether what goes to standard error lands in the midst of standard output."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def is_plain(stream: TextIO) -> bool:
    """Whether no escape codes may be written there."""
    is_unable = os.environ.get("TERM", "") in ("", "dumb")
    return not stream.isatty() or is_unable or bool(os.environ.get("NO_COLOR"))


def _write(stream: TextIO, text: str, around: tuple[str, str] | None = None) -> None:
    is_terminal = stream.isatty()
    before, after = around or ("", "")
    with _status.out_of_the_way(text) if _status is not None and is_terminal else nullcontext():
        # What strangers wrote must not steer the terminal that shows it.
        stream.write(before + (_CONTROL.sub("", text) if is_terminal else text) + after)
        stream.flush()


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    empty: str = "",
    optional: Sequence[str] = (),
    flowing: Sequence[str] = (),
) -> None:
    """Rows to standard output; on a terminal they are fitted to its width.

    Columns that are `optional` are left out where there is no room, the first one first; those that are `flowing`, else
    the last one, are wrapped. Where there are no rows, `empty` says to people what to do about it.
    """
    texts = [[_CONTROL.sub("", "" if cell is None else str(cell)) for cell in row] for row in rows]
    if not texts and empty:
        say(empty)
        return
    width = shutil.get_terminal_size().columns if is_shown() else None
    head, *others = tables.lines(columns, texts, width=width, optional=optional, flowing=flowing)
    _write(sys.stdout, f"{head}\n", around=None if is_plain(sys.stdout) else BOLD)
    for text in others:
        data(text)


def say_more(cursor: object) -> None:
    """Says that a list was cut, and how to go on, if there is where to."""
    if cursor is not None:
        say(f"More: the same with --cursor {cursor}")


def paragraph(text: str, *, indent: int = 0, hang: int = 0) -> None:
    """A text to standard output; on a terminal it is wrapped between words, further lines `hang` to the right."""
    room = shutil.get_terminal_size().columns - indent - hang
    lines = tables.wrapped_text(text, room) if is_shown() else text.split("\n")
    for number, told in enumerate(lines):
        data(" " * (indent + (hang if number else 0)) + told)


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


def zone() -> tzinfo:
    """In which times are shown: where people read them theirs, else UTC. One for all, whatever summer does."""
    return datetime.now().astimezone().tzinfo or UTC if is_shown() else UTC


def timed(name: str) -> str:
    """The head of a column of times; to people it names their zone."""
    return f"{name} ({zone().tzname(None)})" if is_shown() else name


def moment(text: str | None, *, is_brief: bool = False) -> str:
    """A time of an answer, short; to people, if it is to be brief, today's without the date."""
    if not text:
        return ""
    at = datetime.fromisoformat(text).astimezone(zone())
    if not is_shown():
        return f"{at:%Y-%m-%d %H:%M:%S}"
    return f"{at:%H:%M:%S}" if is_brief and at.date() == datetime.now(zone()).date() else f"{at:%Y-%m-%d %H:%M}"


def moment_in_words(text: str) -> str:
    """A time of an answer with its zone, for a sentence."""
    return f"{moment(text)} {zone().tzname(None)}"


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
