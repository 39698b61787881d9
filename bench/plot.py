"""The picture: every figure against its goal, and everybody's requests a second against the baseline's, as SVG."""

import math
from collections.abc import Iterable
from html import escape

from bench.goals import GOALS, Goal, Verdict
from bench.results import Results, figure, text
from bench.spread import Spread

WIDTH = 960
LEFT, RIGHT = 420, 130
"""Room for names, and for figures."""
ROW = 26
TOP = 92
LEAST, MOST = 0.01, 10.0
"""What the picture of the goals shows at most, in multiples of `must`."""
STYLE = """
text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2937 }
.title { font-size: 17px; font-weight: 600 } .soft { fill: #6b7280; font-size: 12px } .end { text-anchor: end }
.middle { text-anchor: middle } .grid { stroke: #e5e7eb } .must { stroke: #6b7280; stroke-width: 1.5 }
.reach { fill: none; stroke: #6b7280; stroke-width: 1.5 } .back { fill: #ffffff } .stripe { fill: #f8fafc }
.reached { fill: #059669; stroke: #059669 } .met { fill: #2563eb; stroke: #2563eb }
.missed { fill: #dc2626; stroke: #dc2626 }
.peer { fill: #94a3b8 } .own { fill: #2563eb } .whisker { stroke: #1f2937; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
 text { fill: #e5e7eb } .soft { fill: #9ca3af } .grid { stroke: #374151 } .back { fill: #111827 }
 .stripe { fill: #161f2e }
 .must { stroke: #9ca3af } .reach { stroke: #9ca3af } .whisker { stroke: #e5e7eb }
 .reached { fill: #34d399; stroke: #34d399 }
 .met, .own { fill: #60a5fa; stroke: #60a5fa } .missed { fill: #f87171; stroke: #f87171 }
}
"""


class Scale:
    """A logarithmic axis across the picture."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = math.log10(low), math.log10(high)

    def x(self, value: float) -> float:
        """Where a value is; beyond the ends it is at the end."""
        share = (math.log10(max(value, 1e-9)) - self._low) / (self._high - self._low) if value < math.inf else 1.0
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> Iterable[float]:
        """Values for lines: 1, 2 and 5 of every power of ten."""
        for power in range(math.floor(self._low), math.ceil(self._high) + 1):
            for step in (1, 2, 5):
                if self._low - 1e-9 <= math.log10(step * 10.0**power) <= self._high + 1e-9:
                    yield step * 10.0**power


def draw(results: Results, subtitle: str) -> str:
    """The whole picture."""
    goals = [(GOALS[key], results.findings[key]) for key in GOALS if key in results.findings]
    bars = sorted(results.bars, key=lambda bar: -bar.ratio.median)
    second = TOP + len(goals) * ROW + 120
    height = second + len(bars) * ROW + 30 if bars else second - 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        _text(24, 32, "Every goal: how far beyond what it must keep", "title"),
        _text(24, 52, subtitle, "soft"),
        *_goals(goals),
    ]
    if bars:
        parts.append(
            _text(24, second - 52, "Requests a second at 16 connections, against Starlette in-process", "title")
        )
        parts += _bars([(bar.name, bar.ratio, bar.is_product) for bar in bars], second)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _goals(goals: list[tuple[Goal, Spread]]) -> Iterable[str]:
    least = min((goal.advance(spread.median) for goal, spread in goals), default=1.0)
    scale = Scale(min(0.1, 10 ** math.floor(math.log10(max(LEAST, least)))), MOST)
    bottom = TOP + len(goals) * ROW
    yield from _stripes(len(goals), TOP)
    yield from _axis(scale, TOP, bottom)
    yield f'<path class="must" d="M{scale.x(1):.1f} {TOP - 6}V{bottom}"/>'
    for at, (goal, spread) in enumerate(goals):
        y = TOP + at * ROW + ROW / 2
        verdict = goal.verdict(spread.median)
        ends = sorted(scale.x(goal.advance(value)) for value in (spread.low, spread.high))
        middle, reach = scale.x(goal.advance(spread.median)), scale.x(goal.advance(goal.reach))
        yield _text(LEFT - 14, y + 4.5, goal.title, "end")
        yield f'<path class="reach" d="M{reach:.1f} {y - 7}v14"/>'
        yield f'<path class="{verdict}" stroke-width="2" d="M{ends[0]:.1f} {y}H{ends[1] + 0.5:.1f}"/>'
        yield f'<circle class="{verdict}" cx="{middle:.1f}" cy="{y}" r="4.5"/>'
        yield _text(WIDTH - RIGHT + 16, y + 4.5, figure(goal, spread.median))
    yield from _legend(bottom + 24)


def _legend(y: float) -> Iterable[str]:
    x = float(LEFT)
    for verdict, said in ((Verdict.REACHED, "reached"), (Verdict.MET, "met"), (Verdict.MISSED, "missed")):
        yield f'<circle class="{verdict}" cx="{x + 5}" cy="{y - 4}" r="4.5"/>{_text(x + 15, y, said, "soft")}'
        x += 30 + 7 * len(said)
    said = "1×: what it must keep; mark: what it is to reach; right is better"
    yield _text(LEFT - 14, y, said, "soft end")


def _bars(bars: list[tuple[str, Spread, bool]], top: float) -> Iterable[str]:
    least = min(spread.low for _, spread, _ in bars)
    scale = Scale(10 ** math.floor(math.log10(least)), max(2.0, *(spread.high for _, spread, _ in bars)))
    yield from _stripes(len(bars), top)
    yield from _axis(scale, top, top + len(bars) * ROW)
    yield f'<path class="must" d="M{scale.x(1):.1f} {top - 6}v{len(bars) * ROW + 6}"/>'
    for at, (name, spread, is_product) in enumerate(bars):
        y = top + at * ROW + ROW / 2
        width = scale.x(spread.median) - LEFT
        kind = "own" if is_product else "peer"
        yield _text(LEFT - 14, y + 4.5, name, "end")
        yield f'<rect class="{kind}" x="{LEFT}" y="{y - 7}" width="{width:.1f}" height="14" rx="2"/>'
        yield f'<path class="whisker" d="M{scale.x(spread.low):.1f} {y}H{scale.x(spread.high) + 0.5:.1f}"/>'
        yield _text(WIDTH - RIGHT + 16, y + 4.5, f"{text(spread.median)}×")


def _axis(scale: Scale, top: float, bottom: float) -> Iterable[str]:
    for tick in scale.ticks():
        x = scale.x(tick)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        yield _text(x, top - 10, f"{tick:g}×", "soft middle")


def _stripes(count: int, top: float) -> Iterable[str]:
    for at in range(0, count, 2):
        yield f'<rect class="stripe" x="16" y="{top + at * ROW}" width="{WIDTH - 32}" height="{ROW}"/>'


def _text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(said)}</text>'
