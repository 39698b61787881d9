"""The results as people and programs read them: `latest.md`, `latest.json`, and the picture that `plot` draws."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import plot
from bench.goals import GOALS, Goal
from bench.machine import Machine, Noise
from bench.results import Results, Table, figure, spread_text
from bench.spread import Spread

NAME = "latest"


def write(folder: Path, results: Results, machine: Machine, noise: Noise, command: str) -> list[Path]:
    """Writes the three files; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    contents = {
        "md": markdown(results, machine, noise, command, moment),
        "json": json.dumps(data(results, machine, noise, command, moment), indent=1, ensure_ascii=False) + "\n",
        "svg": plot.draw(results, f"{moment}, {machine.cores} × {machine.processor}, {noise.verdict(results.noise)}"),
    }
    paths = []
    for ending, content in contents.items():
        paths.append(path := folder / f"{NAME}.{ending}")
        path.write_text(content, encoding="utf-8")
    return paths


def markdown(results: Results, machine: Machine, noise: Noise, command: str, moment: str) -> str:
    """The page."""
    parts = [
        f"# Measured {moment}\n",
        f"`{command}`, gateway {machine.gateway}. {_machine(machine)}\n",
        f"{_noise(noise, results.noise)}\n",
        f"![Every goal, and everybody beside Starlette]({NAME}.svg)\n",
        "## Goals\n",
        _lines(("", "must", "reach", "measured (lowest–highest)", "verdict"), _goal_rows(results)),
        "Ratios are medians of pairs that were measured one right after the other, in brackets the lowest and the"
        " highest pair. A verdict with a `?` is not that of every pair.\n",
    ]
    if results.missing:
        parts.append("Not measured:\n")
        parts.append("".join(f"- {name}: {why}\n" for name, why in results.missing.items()))
    parts += [_table(table) for table in results.tables]
    return "\n".join(parts)


def data(results: Results, machine: Machine, noise: Noise, command: str, moment: str) -> dict[str, Any]:
    """The same for programs."""
    return {
        "date": moment,
        "command": command,
        "machine": machine.facts(),
        "noise": {
            **asdict(noise),
            "verdict": noise.verdict(results.noise),
            "baseline_against_itself": asdict(results.noise) if results.noise else None,
        },
        "goals": [_goal_data(GOALS[key], spread) for key, spread in _in_order(results)],
        "beside_starlette": [{"name": bar.name, **asdict(bar.ratio)} for bar in results.bars],
        "tables": [asdict(table) for table in results.tables],
        "missing": results.missing,
        "seconds": results.seconds,
    }


def _in_order(results: Results) -> list[tuple[str, Spread]]:
    return [(key, results.findings[key]) for key in GOALS if key in results.findings]


def _goal_rows(results: Results) -> Iterable[tuple[str, ...]]:
    for key, spread in _in_order(results):
        goal = GOALS[key]
        mark = "" if goal.is_sure(spread) else "?"
        limits = [_limit(goal, value) for value in (goal.must, goal.reach)]
        measured = f"**{spread_text(spread)}** {goal.unit}"
        if goal.is_fact:
            measured = f"**{figure(goal, spread.median)}**"
        yield goal.title, *limits, measured, f"{goal.verdict(spread.median)}{mark}"


def _limit(goal: Goal, value: float) -> str:
    if goal.is_fact:
        return figure(goal, value)
    return f"{'≥' if goal.more_is_better else '≤'} {value:g} {goal.unit}"


def _goal_data(goal: Goal, spread: Spread) -> dict[str, Any]:
    return {**asdict(goal), **asdict(spread), "verdict": goal.verdict(spread.median), "sure": goal.is_sure(spread)}


def _machine(machine: Machine) -> str:
    return (
        f"{machine.cores} cores of {machine.processor}, {machine.memory_gb:g} GB, Linux {machine.kernel}, Python"
        f" {machine.python}, as {machine.user}. The baseline: {machine.baseline}."
        f" Load by {machine.load}; servers, load and clients share the cores."
    )


def _noise(noise: Noise, baseline: Spread | None) -> str:
    said = f"The machine was **{noise.verdict(baseline)}**: "
    if baseline:
        said += f"the baseline against itself gave {spread_text(baseline)}; "
    return said + (
        f"other machines took {noise.steal:.1%} of the processors (steal), other processes {noise.others:.1%};"
        f" load average {noise.load_before:.1f} before, {noise.load_after:.1f} after; {noise.seconds / 60:.1f} minutes."
    )


def _table(table: Table) -> str:
    note = f"\n{table.note}\n" if table.note else ""
    return f"## {table.title}\n\n{_lines(table.head, table.rows)}{note}"


def _lines(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = list(head)
    lines = [cells, ["---"] * len(cells), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def summary(results: Results) -> list[tuple[str, str, str]]:
    """What a terminal shows at the end: title, figure, verdict."""
    found = []
    for key, spread in _in_order(results):
        goal = GOALS[key]
        found.append((goal.title, figure(goal, spread.median), str(goal.verdict(spread.median))))
    return found
