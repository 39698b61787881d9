"""Lines become headings, lists and paragraphs; what repeats on every page is left out."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from .markdown import heading
from .pdf_lines import Line

BULLET = re.compile(r"[•●▪■◦‣∙·–○◆➢✓]\s*(?=\S)|[-*]\s+(?=\S)")
NUMBER = re.compile(r"(?:\d{1,3}[.)、]|[（(]\d{1,3}[)）])\s*(?=\D)")
LEADERS = re.compile(r"\s*(?:[.．·…]\s?){5,}\s*")  # between an entry of a table of contents and its page
CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f"
BOTH_CJK = re.compile(f"[{CJK}][{CJK}]")
SENTENCE_END = tuple('.!?:;。！？：；…”"')
LARGER = 1.15  # than the body, to be a heading
LONGEST_HEADING = 150
DIGITS = re.compile(r"\d+")
MARGIN = 0.09  # of the page, above and below, where running titles and page numbers stand


class Style:
    """What is normal in this document: learned from some of its pages."""

    def __init__(self, pages: list[tuple[list[Line], float]]) -> None:
        letters: Counter[float] = Counter()
        seen: Counter[tuple[str, int]] = Counter()
        for lines, height in pages:
            for line in lines:
                letters[line.size] += len(line.text)
            seen.update({_mark(line) for line in lines if _in_margin(line, height)})
        self.body = letters.most_common(1)[0][0] if letters else 0.0
        larger = sorted((size for size in letters if self.is_large(size)), reverse=True)
        self.levels = _levels(larger)
        enough = max(3, len(pages) * 0.6)
        self.running = {mark for mark, count in seen.items() if count >= enough}

    def is_large(self, size: float) -> bool:
        return size >= self.body * LARGER

    def level(self, size: float) -> int:
        nearest = min(self.levels, key=lambda known: abs(known - size), default=0.0)
        return self.levels.get(nearest, 2)

    def is_running(self, line: Line, height: float) -> bool:
        return bool(self.running) and _in_margin(line, height) and _mark(line) in self.running


def _levels(sizes: list[float]) -> dict[float, int]:
    """Sizes that differ by less than a twentieth are one level."""
    levels: dict[float, int] = {}
    level, last = 0, 0.0
    for size in sizes:
        if not level or size < last * 0.95:
            level, last = level + 1, size
        levels[size] = min(level, 6)
    return levels


def _in_margin(line: Line, height: float) -> bool:
    return line.bottom > height * (1 - MARGIN) or line.top < height * MARGIN


def _mark(line: Line) -> tuple[str, int]:
    return DIGITS.sub("0", line.text), round(line.bottom / 4)


def blocks(lines: Iterable[Line], style: Style) -> Iterator[tuple[float, str]]:
    """Pieces of Markdown, each with the height on the page where it begins."""
    for group in _groups(lines, style):
        yield group[0].top, _written(group, style)


def _groups(lines: Iterable[Line], style: Style) -> Iterator[list[Line]]:
    group: list[Line] = []
    for line in lines:
        if group and _begins(line, group, style):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _begins(line: Line, group: list[Line], style: Style) -> bool:
    """Whether a new paragraph begins with this line."""
    last = group[-1]
    if LEADERS.search(line.text) or LEADERS.search(last.text):
        return True
    size = max(line.size, 1.0)
    if abs(line.size - last.size) > 0.08 * max(line.size, last.size) and (
        style.is_large(line.size) or style.is_large(last.size)
    ):
        return True
    if BULLET.match(line.text) or (NUMBER.match(line.text) and last.text.endswith(SENTENCE_END)):
        return True
    down = last.bottom - line.bottom
    if down < -size:  # further up: another column
        return not last.hyphen and (last.text.endswith(SENTENCE_END) or style.is_large(size))
    usual = group[-2].bottom - last.bottom if len(group) > 1 else size * 1.6
    if down > max(usual * 1.35, size * 1.25) or down > size * 2.4:
        return True
    if last.hyphen:
        return False
    right = max(member.right for member in group)
    if last.right < line.right - 4 * size and last.right <= right and last.text.endswith(SENTENCE_END):
        return True
    indent = line.left - min(member.left for member in group)
    return len(group) > 1 and size < indent < 6 * size and line.left > last.left + size and not _is_listed(group)


def _is_listed(group: list[Line]) -> bool:
    return bool(BULLET.match(group[0].text) or NUMBER.match(group[0].text))


def _written(group: list[Line], style: Style) -> str:
    text = group[0].text
    for before, line in pairwise(group):
        together = BOTH_CJK.match(text[-1:] + line.text[:1])
        text += ("" if before.hyphen or together else " ") + line.text
    if LEADERS.search(text):
        return f"- {LEADERS.sub(' … ', text).strip()}\n"
    if style.is_large(group[0].size) and len(text) <= LONGEST_HEADING and not BULLET.match(text):
        return heading(style.level(group[0].size), text)
    if found := BULLET.match(text):
        return f"- {text[found.end() :]}\n"
    return f"{text}\n\n"
