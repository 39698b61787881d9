"""What a reader makes of a file."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Options:
    password: str | None
    language: str


@dataclass
class Document:
    """Markdown in pieces, joined as they are. While they are read, a reader may still add to the rest."""

    format: str
    pieces: Iterator[str]
    title: str | None = None
    pages: int | None = None
    sheets: list[str] | None = None
    encoding: str | None = None
    warnings: list[tuple[str, str]] = field(default_factory=list)  # English, Chinese
    details: dict[str, object] = field(default_factory=dict)  # what only some formats have
