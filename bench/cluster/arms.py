"""Runs of one setting (an arm) over several seeds, and what they say beside another arm's.

Two trainings differ by luck more than most settings do: no claim rests on fewer than eight seeds.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from asyncade_learner.learner import Learner
from asyncade_rl.devices import prepare_processor
from bench.cluster.cluster import Cluster, Faults, Plan, temporary_folder
from bench.cluster.costs import Table
from bench.cluster.schedule import random_faults
from bench.result_files import read_result

TARGET_SHARE: Final = 0.75
"""Of the points; on Pong a mean return of 18."""

COSTS: Final = "cluster-costs"
"""Name of the result that holds what the stages cost."""

MARK_ENV_STEPS: Final = 25_000


@dataclass
class Outcome:
    """One run.

    Attributes:
        env_steps: to the target, or played without reaching it; those count twice that a restarted
            learner has lost and learned from again.
        seconds: virtual ones, until then.
        reached: whether it reached the target.
        updates: optimiser steps.
        versions: of the weights.
        bytes_up: of all messages; bytes_down: of the weights, each subscriber's counted.
        marks: env steps, virtual seconds and point share along the way.
        stage_shares: of the learner's time.
    """

    seed: int
    env_steps: int
    seconds: float
    reached: bool
    updates: int
    versions: int
    bytes_up: int
    bytes_down: int
    marks: list[tuple[int, float, float | None]] = field(default_factory=list)
    stage_shares: dict[str, float] = field(default_factory=dict)


class _Goal:
    """Ends a run at the target or at its limit, and notes the way there."""

    def __init__(self, max_env_steps: int, cluster: Cluster) -> None:
        self.marks: list[tuple[int, float, float | None]] = []
        self.reached = False
        self._max_env_steps = max_env_steps
        self._cluster = cluster

    def over(self, learner: Learner) -> bool:
        env_steps = learner.progress.env_steps + self._cluster.repeated_env_steps
        points, now = learner.telemetry.points, self._cluster.simulation.now
        share = points.share()
        if env_steps >= (len(self.marks) + 1) * MARK_ENV_STEPS:
            self.marks.append((env_steps, round(now, 2), share and round(share, 3)))
        self.reached = points.full and share is not None and share > TARGET_SHARE
        return self.reached or env_steps >= self._max_env_steps


def run(plan: Plan, seed: int, max_env_steps: int) -> Outcome:
    """Runs a cluster with one seed to the target."""
    with temporary_folder() as folder:
        settings = {"checkpoint_seconds": 1e9, **plan.settings, "seed": seed, "run_dir": folder}
        cluster = Cluster(Plan(**{**vars(plan), "settings": settings}), Path(folder))
        goal = _Goal(max_env_steps, cluster)
        cluster.run(goal.over)
    progress, network = cluster.learner.progress, cluster.network
    stages = cluster.learner.telemetry.metrics.stages.seconds()
    total = sum(stages.values()) or 1.0
    return Outcome(
        seed=seed,
        env_steps=progress.env_steps + cluster.repeated_env_steps,
        seconds=round(cluster.simulation.now, 3),
        reached=goal.reached,
        updates=progress.updates,
        versions=progress.policy_version,
        bytes_up=network.sent_up,
        bytes_down=network.sent_down,
        marks=goal.marks,
        stage_shares={name: round(spent / total, 3) for name, spent in stages.items()},
    )


def ratio(arm: Sequence[float], base: Sequence[float]) -> tuple[float, float, float]:
    """Returns the ratio of geometric means, and its 90% interval (Welch's t on the logarithms)."""
    logs = [[math.log(value) for value in values] for values in (arm, base)]
    difference = statistics.fmean(logs[0]) - statistics.fmean(logs[1])
    parts = [statistics.variance(one) / len(one) for one in logs]
    error = math.sqrt(sum(parts))
    if error == 0:
        return math.exp(difference), math.exp(difference), math.exp(difference)
    freedom = error**4 / sum(p**2 / (len(one) - 1) for p, one in zip(parts, logs, strict=True))
    half = t_95(freedom) * error
    return math.exp(difference), math.exp(difference - half), math.exp(difference + half)


def interval(found: tuple[float, float, float]) -> str:
    """Returns a ratio with its interval, as text."""
    return "{:.2f} ({:.2f} to {:.2f})".format(*found)


def geometric_mean(values: Sequence[float]) -> float:
    """Returns the geometric mean of positive values."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def t_95(freedom: float) -> float:
    """Returns the 95% quantile of Student's t (Abramowitz and Stegun 1964, 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(0.95)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def outcome_of(task: tuple[Mapping[str, Any], Mapping[str, Any], int]) -> dict[str, Any]:
    """Runs one seed of an arm in a process of its own; returns an `Outcome` for a result file.

    Args:
        task: the arm as in the result file, the measured costs of its mode, and the seed.
    """
    use_one_core()
    arm, costs, seed = task
    costs = with_updates(costs, arm["update_ms"])
    saves = {"checkpoint_seconds": 30.0} if arm.get("fault_every_s") else {}
    plan = Plan(
        actors=arm["actors"],
        envs=arm["envs"],
        settings={"mode": arm["mode"], **saves, **arm["settings"]},
        costs=costs,
        faults=_faults(arm, seed),
    )
    return asdict(run(plan, seed, arm["max_env_steps"]))


def _faults(arm: Mapping[str, Any], seed: int) -> Faults:
    if every_s := arm.get("fault_every_s"):
        return random_faults(seed, arm["actors"], every_s)
    return Faults(
        slow={} if arm["slow"] is None else {0: arm["slow"]},
        killed=tuple((1 + n, 1.0 + 0.7 * n, 0.5) for n in range(arm["kill"])),
    )


def measured_costs(machine: str) -> Mapping[str, Mapping[str, Table]] | None:
    """Returns what the stages cost, by mode; without a measurement says so and returns None."""
    found = read_result(COSTS, machine)
    if found is None:
        print(f"no costs for {machine}: run `python -m bench.cluster measure`")
        return None
    costs: Mapping[str, Mapping[str, Table]] = found["costs"]
    return costs


def with_updates(costs: Mapping[str, Table], update_ms: float | None) -> Mapping[str, Table]:
    """Returns costs with those of a learner that nobody measured: one number for an optimiser step.

    It decodes ahead in another thread, as learners with a GPU do, and prepares a batch in the time
    of four steps. Without a number the costs stay as they are.
    """
    if update_ms is None:
        return costs
    update_s = update_ms / 1e3
    learner = {
        "publish": costs["learner"]["publish"],
        "prepare": {"1": 4 * update_s},
        "forward_backward": {"1": update_s},
    }
    return {**costs, "learner": learner}


def use_one_core() -> None:
    """Uses one core: a run is repeated bit for bit, and two run side by side."""
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare_processor(1)


def settings_of(given: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields name and value of each ``NAME=VALUE``; values are JSON."""
    for one in given:
        name, _, value = one.partition("=")
        yield name, json.loads(value)
