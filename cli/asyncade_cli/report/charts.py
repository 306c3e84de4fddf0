"""Line charts as SVG whose colours are the page's, so that they suit light, dark and paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 440
HEIGHT: Final = 250

_LEFT: Final = 56
_RIGHT: Final = 12
_TOP: Final = 10
_BOTTOM: Final = 42
_TICKS: Final = 5


class Line(NamedTuple):
    """A curve.

    Attributes:
        label: shown when the pointer rests on it.
        colour: number of a colour of the page, from 0.
        points: x and y, in the order of x.
    """

    label: str
    colour: int
    points: Sequence[tuple[float, float]]


def line_chart(lines: Sequence[Line], x_label: str, target: float | None = None) -> str:
    """Returns an SVG element, or an empty text if no line has a point.

    Args:
        lines: drawn in this order.
        x_label: below the axis.
        target: y of a dashed line.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    heights = [y for _, y in points] + ([] if target is None else [target])
    x_ticks = ticks(min(0.0, *(x for x, _ in points)), max(x for x, _ in points))
    y_ticks = ticks(min(heights), max(heights))
    # The range of x is that of the data: a gap up to the next tick would look like an end.
    across = _Scale(x_ticks[0], max(x for x, _ in points), _LEFT, WIDTH - _RIGHT)
    up = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up(y)}" y2="{up(y)}"/>'
        f'<text x="{_LEFT - 6}" y="{up(y)}" dy="0.35em" text-anchor="end">{short(y)}</text>'
        for y in y_ticks
    ]
    parts += [
        f'<text x="{across(x)}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{short(x)}</text>'
        for x in x_ticks
        if x <= across.high
    ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle:g}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>'
    )
    if target is not None:
        parts.append(
            f'<line class="target" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up(target)}"'
            f' y2="{up(target)}"><title>target {target:g}</title></line>'
        )
    parts += [_polyline(line, across, up) for line in lines if line.points]
    names = ", ".join(escape(line.label, quote=True) for line in lines)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{names}">'
        f"{''.join(parts)}</svg>"
    )


class _Scale(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)


def _polyline(line: Line, across: _Scale, up: _Scale) -> str:
    title = f"<title>{escape(line.label)}</title>"
    colour = f"c{line.colour % 6}"
    if len(line.points) == 1:
        ((x, y),) = line.points
        return f'<circle class="dot {colour}" cx="{across(x)}" cy="{up(y)}" r="3">{title}</circle>'
    drawn = " ".join(f"{across(x):g},{up(y):g}" for x, y in line.points)
    return f'<polyline class="line {colour}" points="{drawn}">{title}</polyline>'


def ticks(low: float, high: float) -> list[float]:
    """Returns about five round numbers, the first at most `low`, the last at least `high`."""
    if high <= low:  # a flat curve; of zeros, such as a policy lag, on the axis
        low, high = (0.0, 1.0) if low == 0 else (low - 0.5, low + 0.5)
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def short(value: float) -> str:
    """Returns a number for an axis, such as 350k, with a minus sign."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{value / scale:g}{unit}".replace("-", "\N{MINUS SIGN}")
    return f"{value:,g}".replace("-", "\N{MINUS SIGN}")
