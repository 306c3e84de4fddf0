"""The learning curve of a run, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_curve(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> bool:
    """Draws mean return against env steps.

    Args:
        rows: of metrics.jsonl.
        title: above the picture.
        path: of the PNG.

    Returns:
        False, and draws nothing, when no game has ended yet.
    """
    points = [
        (row["env_steps"], row["mean_return_100"], row["seconds"])
        for row in rows
        if row.get("mean_return_100") is not None
    ]
    if not points:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure

    env_steps, returns, seconds = zip(*points, strict=True)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(env_steps, returns)
    axes.set_xlabel("env steps")
    axes.set_ylabel("mean return of the last 100 games")
    axes.set_title(f"{title} ({seconds[-1] / 60:.1f} minutes)")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return True
