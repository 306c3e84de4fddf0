"""One deterministic run of an arm on the virtual cluster, in a process of its own.

python -m bench.recipe.run < task.json > outcome.json

An arm may be a branch: then this is the branch's own module, started in its tree.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from asyncade_learner.learner import Learner
from asyncade_runtime.run_folder import RunFolder
from bench.cluster.arms import TARGET_SHARE, use_one_core
from bench.cluster.cluster import Cluster, Plan, temporary_folder

MEASURES: Final = ("share", "games_20", "games_100")
"""Env steps until the point share of the last 20,000 env steps, and the mean return of the last 20
and 100 games, are above their targets."""

_TARGET_RETURN: Final = 18.0
_REPORT_SECONDS: Final = 5.0
CURVE: Final = ("env_steps", "point_share", "mean_return_100", "loss_entropy", "loss_kl")
CURVE_ALSO: Final = ("loss_value", "loss_clip_fraction", "gradient_noise_scale", "updates_skipped")


class Measures:
    """Notes when each of `MEASURES` is first met."""

    def __init__(self) -> None:
        self.met: dict[str, int] = {}

    def look(self, learner: Learner) -> None:
        """Looks at the run's present state."""
        progress, points = learner.progress, learner.telemetry.points
        share, returns = points.share(), progress.recent_returns
        if points.full and share is not None and share > TARGET_SHARE:
            self.met.setdefault("share", progress.env_steps)
        for games in (20, 100):
            last = list(islice(reversed(returns), games))
            if len(last) == games and sum(last) / games > _TARGET_RETURN:
                self.met.setdefault(f"games_{games}", progress.env_steps)


def outcome(task: Mapping[str, Any]) -> dict[str, Any]:
    """Plays one seed of an arm to `max_env_steps`.

    Args:
        task: ``seed``, ``max_env_steps``, ``mode``, ``actors``, ``settings`` of the learner, and
            the measured ``costs`` of the mode.

    Returns:
        ``seed``; each of `MEASURES`, the limit where it was not met; ``met``: the names of those
        that were; ``point_share`` at the end; virtual ``seconds``; ``curve``: rows of some columns.
    """
    limit, measures = task["max_env_steps"], Measures()

    def over(learner: Learner) -> bool:
        measures.look(learner)
        return bool(learner.progress.env_steps >= limit)

    with temporary_folder() as folder:
        settings = {
            **{"checkpoint_seconds": 1e9, "report_seconds": _REPORT_SECONDS, "mode": task["mode"]},
            **task["settings"],
            **{"seed": task["seed"], "run_dir": folder, "target": None},
        }
        plan = Plan(actors=task["actors"], settings=settings, costs=task["costs"])
        cluster = Cluster(plan, Path(folder))
        cluster.run(over)
        rows = RunFolder(Path(folder)).read_metrics()
    columns = (*CURVE, *CURVE_ALSO)
    return {
        "seed": task["seed"],
        **{name: measures.met.get(name, limit) for name in MEASURES},
        "met": sorted(measures.met),
        "point_share": cluster.learner.telemetry.points.share(),
        "seconds": round(cluster.simulation.now, 1),
        "curve": [{name: row.get(name) for name in columns} for row in rows],
    }


def main(read: Callable[[], str] = sys.stdin.read) -> int:
    """Reads a task, plays it and prints the outcome; returns the exit code."""
    use_one_core()
    print(json.dumps(outcome(json.loads(read()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
