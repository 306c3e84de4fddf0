"""Learning curves as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

Rows: TypeAlias = Iterable[Mapping[str, Any]]
"""Rows of a run's metrics.jsonl; read are seconds, env_steps and mean_return_100."""

Point: TypeAlias = Mapping[str, float]

T = TypeVar("T")

_COLUMNS: Final = ("seconds", "env_steps", "mean_return_100")
MAX_POINTS: Final = 2000
"""Points of a curve, about one per pixel; of a longer run some rows are left out."""


def draw_curves(
    groups: Mapping[str, Sequence[Rows]], title: str, path: Path, target: float | None = None
) -> bool:
    """Draws mean return against env steps and against minutes, one line per run.

    Args:
        groups: label, such as the mode, to its runs; runs of a group share a colour.
        title: above the picture.
        path: of the PNG.
        target: drawn as a dotted line.

    Returns:
        False, with nothing drawn, when no game has ended in any run.
    """
    curves = []
    for number, (label, runs) in enumerate(groups.items()):
        drawn = [played for rows in runs if (played := points_of(rows))]
        for index, points in enumerate(drawn):
            in_legend = label if index == 0 else f"_{label}"  # matplotlib skips a leading _
            curves.append((f"C{number}", in_legend, points))
    if not curves:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    units = (("env steps", "env_steps", 1), ("minutes", "seconds", 60))
    for axes, (name, column, divisor) in zip(panels, units, strict=True):
        for colour, label, points in curves:
            xs = [row[column] / divisor for row in points]
            ys = [row["mean_return_100"] for row in points]
            axes.plot(xs, ys, color=colour, label=label, linewidth=1.2)
        if target is not None:
            axes.axhline(target, color="grey", linestyle=":", linewidth=1)
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean return of the last 100 games")
    if len(groups) > 1:
        panels[0].legend()
    figure.savefig(path, dpi=110)
    return True


def points_of(rows: Rows) -> list[Point]:
    """Returns at most `MAX_POINTS` of the rows after the first game, the last one included."""
    played = (row for row in rows if row.get("mean_return_100") is not None)
    points = ({name: row[name] for name in _COLUMNS} for row in played)
    return thinned(points, MAX_POINTS)


def thinned(rows: Iterable[T], at_most: int) -> list[T]:
    """Returns at most so many of the rows, evenly spread, the last one included.

    Reads the rows as a stream and keeps no others: every second one goes whenever there are too
    many.
    """
    kept: list[T] = []
    last: T | None = None
    every = 1
    for number, row in enumerate(rows):
        last = row
        if number % every == 0:
            kept.append(row)
        if len(kept) == at_most:
            del kept[1::2]
            every *= 2
    if last is not None and last is not kept[-1]:
        kept.append(last)
    return kept
