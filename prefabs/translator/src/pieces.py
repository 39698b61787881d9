"""Long texts in pieces that a model can take; joined again, nothing is lost."""

import re
from dataclasses import dataclass
from itertools import pairwise

LONGEST_PIECE = 2500
SHORTEST_PIECE = 100  # a piece that a model cannot finish is halved, but not below this

# Where a text may be cut, best first: after a blank line, a line, a sentence, a part of a sentence, a word. What has
# been matched is not given back (++), so that a hundred thousand dots take no longer than other characters.
CUTS = [
    re.compile(pattern)
    for pattern in (
        r"\n[^\S\n]*\n\s*",
        r"\n\s*",
        r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+\s+|[。！？]++[”’」』）]*\s*",
        r"[,;:]\s+|[，；：、]\s*",
        r"\s+",
    )
]


@dataclass(frozen=True)
class Piece:
    """What is translated, between white space that stays as it is."""

    before: str
    text: str
    after: str


def cut(text: str, longest: int = LONGEST_PIECE) -> list[Piece]:
    """Pieces that join to the very same text."""
    return [_piece(part) for part in _packed(_parts(text, longest, 0), longest)]


def join(pieces: list[Piece], translations: list[str]) -> str:
    return "".join(piece.before + text + piece.after for piece, text in zip(pieces, translations, strict=True))


def _parts(text: str, longest: int, level: int) -> list[str]:
    if len(text.strip()) <= longest:
        return [text]
    if level == len(CUTS):
        return [text[start : start + longest] for start in range(0, len(text), longest)]
    ends = [0, *(match.end() for match in CUTS[level].finditer(text)), len(text)]
    parts = [text[start:end] for start, end in pairwise(ends) if start < end]
    return [smaller for part in parts for smaller in _parts(part, longest, level + 1)]


def _packed(parts: list[str], longest: int) -> list[str]:
    """Neighbours that fit together go together: fewer calls, and more context for the model."""
    packed: list[list[str]] = []
    length = 0
    for part in parts:
        if packed and length + len(part) <= longest:
            packed[-1].append(part)
            length += len(part)
        else:
            packed.append([part])
            length = len(part)
    return ["".join(group) for group in packed]


def _piece(text: str) -> Piece:
    inner = text.strip()
    start = text.index(inner)
    return Piece(text[:start], inner, text[start + len(inner) :])
