"""Draws results/learning.png: return against minutes and against env steps, a line per seed.

python -m bench.picture
"""

from __future__ import annotations

import argparse
import bisect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report import RESULTS, read_result

COLOURS: Final = {"data": "#1f6fb4", "gradients": "#d9622b"}


def points(run: Mapping[str, Any], axis: str) -> tuple[list[float], list[float]]:
    """Returns what is drawn of a run: x, and the mean return of the last 100 games.

    Args:
        run: an entry of time-to-target-MODE.json.
        axis: minutes or env_steps.
    """
    rows = [row for row in run["rows"] if row["mean_return_100"] is not None]
    xs = [row["seconds"] / 60 if axis == "minutes" else row["env_steps"] / 1000 for row in rows]
    return xs, [row["mean_return_100"] for row in rows]


def draw(modes: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draws the picture.

    Args:
        modes: to the content of time-to-target-MODE.json.
        path: of the PNG.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _fill(left, modes, "minutes")
    _fill(right, modes, "env_steps")
    left.set_xlabel("minutes")
    right.set_xlabel("thousand env steps")
    left.set_ylabel("mean return of the last 100 games")
    handles, labels = left.get_legend_handles_labels()
    right.legend(handles, labels, loc="lower right", frameon=False)
    first = next(iter(modes.values()))
    figure.suptitle(
        f"{first['settings']['game']}, {first['cores']} cores, defaults: one line per seed"
    )
    figure.savefig(path, dpi=110)


def _fill(axes: Axes, modes: Mapping[str, Mapping[str, Any]], axis: str) -> None:
    for mode, result in modes.items():
        for number, run in enumerate(result["runs"]):
            xs, ys = points(run, axis)
            label = f"{mode} mode" if number == 0 else None
            axes.plot(xs, ys, color=COLOURS[mode], linewidth=1.1, alpha=0.85, label=label)
            if run["reached"] and xs:
                at = run["seconds"] / 60 if axis == "minutes" else run["env_steps"] / 1000
                passed = min(bisect.bisect_left(xs, at), len(xs) - 1)
                axes.plot(xs[passed], ys[passed], "o", color=COLOURS[mode], markersize=4)
    targets = {result["settings"].get("target") for result in modes.values()} - {None}
    game = next(iter(modes.values()))["settings"]["game"]
    target = next(iter(targets)) if targets else 18.0 if game == "pong" else None
    if target is not None:
        axes.axhline(target, color="0.4", linewidth=0.8, linestyle="--")
        axes.annotate(f"target {target:g}", (0.01, target), xycoords=("axes fraction", "data"),
                      va="bottom", fontsize=9, color="0.3")  # fmt: skip
    axes.grid(alpha=0.25)
    axes.set_xlim(left=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.picture", description=__doc__)
    parser.add_argument("--results", default=str(RESULTS), help="folder of the JSON files")
    folder = Path(parser.parse_args(argv).results)
    found = {mode: read_result(f"time-to-target-{mode}", folder) for mode in COLOURS}
    modes = {mode: result for mode, result in found.items() if result and result["runs"]}
    if not modes:
        print(f"no time-to-target-*.json in {folder}: run make bench-target", file=sys.stderr)
        return 2
    draw(modes, folder / "learning.png")
    print(f"wrote {folder / 'learning.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
