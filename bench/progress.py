"""How far a run is, on the terminal, or line by line where there is none."""

import time

from rich.console import Console
from rich.table import Table

STYLES = {"reached": "green", "met": "blue", "missed": "red"}


class Progress:
    """Tells what is being done; nothing of it runs while something is measured, but when a step begins."""

    def __init__(self, count: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._count = count
        self._number = 0
        self._part = ""
        self._began = time.monotonic()

    def part(self, name: str) -> None:
        """A part begins."""
        self._number += 1
        self._part = name
        self.step("")

    def step(self, text: str) -> None:
        """Something else is being done now."""
        minutes, seconds = divmod(round(time.monotonic() - self._began), 60)
        line = f"[{self._number}/{self._count}] {minutes}:{seconds:02d}  {self._part}{': ' if text else ''}{text}"
        self._console.print(line, markup=False)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False)

    def verdicts(self, rows: list[tuple[str, str, str]]) -> None:
        """The figures at the end."""
        table = Table(box=None, pad_edge=False)
        for title, side in (("", "left"), ("measured", "right"), ("verdict", "left")):
            table.add_column(title, justify="right" if side == "right" else "left")
        for title, figure, verdict in rows:
            table.add_row(title, figure, f"[{STYLES[verdict]}]{verdict}[/]")
        self._console.print(table)
