"""Where the autoscaling rule leads: the number of actors from scaling to scaling.

python -m bench.cluster.autoscaling                       data mode, a learner of one core
python -m bench.cluster.autoscaling --update-ms 1         an assumed learner
python -m bench.cluster.autoscaling --mode gradients --begin 32

The rule is docker/prometheus/rules/autoscaling.yml, the limits are the HorizontalPodAutoscaler's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from asyncade_cli.markdown import table as markdown
from asyncade_learner.learner import Learner
from asyncade_learner.settings import LearnerSettings
from asyncade_rl.choices import MODES
from bench.cluster import arms
from bench.cluster.cluster import Cluster, Plan, temporary_folder
from bench.result_files import ROOT, options

_AUTOSCALER: Final = ROOT / "k8s/components/autoscaling-hpa/autoscaler.yaml"
_TOLERANCE: Final = 0.1
"""Kubernetes ignores a wish this close to the present number (default of its controller)."""

_KNOWN_AFTER: Final = 2
"""Times the env steps of the calibration, in which the learner gets to know its actors."""

_IDLE: Final = {"actor": ("wait", "send"), "learner": ("wait",)}
"""Stages that the rule does not count as work."""


class Wish(NamedTuple):
    """What a cluster of some actors measures: the actors wanted, and env steps per second."""

    wanted: float
    env_steps_per_second: float


class Limits(NamedTuple):
    """How far one scaling goes: shares of the present number, at least so many actors."""

    least: int
    most: int
    up_share: float
    up_actors: int
    down_share: float
    down_actors: int

    def scaled(self, actors: int, wanted: float) -> int:
        """Returns the next number of actors."""
        if abs(wanted / actors - 1) <= _TOLERANCE:
            return actors
        highest = actors + max(math.ceil(actors * self.up_share), self.up_actors)
        lowest = actors - max(math.ceil(actors * self.down_share), self.down_actors)
        return max(self.least, min(self.most, highest, max(lowest, math.ceil(wanted))))


def limits() -> Limits:
    """Reads the limits of the HorizontalPodAutoscaler."""
    spec = yaml.safe_load(_AUTOSCALER.read_text())["spec"]
    given = [
        {one["type"]: one["value"] for one in spec["behavior"][direction]["policies"]}
        for direction in ("scaleUp", "scaleDown")
    ]
    steps = [step for one in given for step in (one["Percent"] / 100, one["Pods"])]
    return Limits(spec["minReplicas"], spec["maxReplicas"], *steps)


def measured(plan: Plan, env_steps: int) -> Wish:
    """Returns what the rule makes of some play, once the learner knows its actors."""
    marks = list[tuple[float, float, dict[str, float]]]()
    with temporary_folder() as folder:
        quiet = {"checkpoint_seconds": 1e9, "report_seconds": 1e9}
        settings = {**quiet, **plan.settings, "run_dir": folder}
        cluster = Cluster(Plan(**{**vars(plan), "settings": settings}), Path(folder))
        calibration = LearnerSettings(**settings).calibration_env_steps

        def over(learner: Learner) -> bool:
            first = _KNOWN_AFTER * calibration
            if learner.progress.env_steps >= (marks[0][0] + env_steps if marks else first):
                marks.append((learner.progress.env_steps, cluster.simulation.now, _work(cluster)))
            return len(marks) == 2

        cluster.run(over)
    (steps, since, before), (all_steps, until, after) = marks
    actors, learner = (after[role] - before[role] for role in ("actor", "learner"))
    return Wish(max(1.0, actors / learner), (all_steps - steps) / (until - since))


def _work(cluster: Cluster) -> dict[str, float]:
    """Returns the seconds that the rule counts as work so far, by role."""
    return {
        role: sum(s for one in stages for n, s in one.seconds().items() if n not in _IDLE[role])
        for role, stages in cluster.stages.items()
    }


def path(begin: int, of: Limits, measure: Callable[[int], Wish]) -> list[tuple[int, Wish]]:
    """Returns (actors, what they measure) from scaling to scaling, until a number comes again.

    If the rule converges, the last number comes twice in a row.
    """
    numbers, measures = [begin], dict[int, Wish]()
    while numbers[-1] not in numbers[:-1]:
        actors = numbers[-1]
        measures[actors] = measure(actors)
        numbers.append(of.scaled(actors, measures[actors].wanted))
    return [(actors, measures[actors]) for actors in numbers]


def main() -> int:
    """Prints the path; returns the exit code."""
    parser = options("cluster.autoscaling", __doc__, one_run=False)
    parser.add_argument("--mode", choices=MODES, default="data")
    parser.add_argument("--update-ms", type=float, help="assumed time of an optimiser step")
    parser.add_argument("--begin", type=int, default=1, help="actors at first")
    parser.add_argument("--env-steps", type=int, default=8192, help="played with each number")
    asked = parser.parse_args()
    if min(asked.begin, asked.env_steps) < 1:
        parser.error("--begin and --env-steps are at least 1")
    measured_costs = arms.measured_costs(asked.machine)
    if measured_costs is None:
        return 2
    costs = arms.with_updates(measured_costs[asked.mode], asked.update_ms)
    arms.use_one_core()

    def measure(actors: int) -> Wish:
        settings: dict[str, Any] = {"mode": asked.mode, "seed": 1}
        return measured(Plan(actors=actors, settings=settings, costs=costs), asked.env_steps)

    rows = [
        [actors, round(wish.wanted, 1), round(wish.env_steps_per_second)]
        for actors, wish in path(asked.begin, limits(), measure)
    ]
    print(markdown(["actors", "wanted", "env steps/s"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
