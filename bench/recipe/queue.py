"""Which run comes next, and which arms are out: decided from the runs that there are, without I/O.

Source of the halving: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.cluster.arms import ratio

FIRST_LOOK: Final = 4
"""Seeds after which an arm that is clearly behind is stopped."""

MEASURE: Final = "share"
"""The measure that arms are judged by: the only one without lag."""

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Arm, then its runs; see `bench.recipe.run.outcome`."""


def behind(runs: Runs, arm: str, base: str) -> bool:
    """Returns whether an arm is clearly slower than the base: its whole 90% interval is above 1.

    Only seeds that both have played count, and at least `FIRST_LOOK` of them.
    """
    if arm == base:
        return False
    by_seed = [{one["seed"]: one[MEASURE] for one in runs.get(a, ())} for a in (arm, base)]
    shared = sorted(by_seed[0].keys() & by_seed[1].keys())
    if len(shared) < FIRST_LOOK:
        return False
    _, low, _ = ratio(*([one[seed] for seed in shared] for one in by_seed))
    return low > 1


def missing(
    arms: Sequence[str], seeds: Sequence[int], runs: Runs, under_way: Sequence[tuple[str, int]]
) -> tuple[str, int] | None:
    """Returns the next (arm, seed) to play, or None if there is none to start now.

    Seed by seed, so that arms can be compared early; the first arm is the base of comparison.

    Args:
        arms: in the order in which they were added.
        seeds: that every arm is to play.
        runs: that there are.
        under_way: (arm, seed) of the runs that have begun and not ended.
    """
    out = {arm for arm in arms if behind(runs, arm, arms[0])}
    for seed in seeds:
        for arm in arms:
            played = any(one["seed"] == seed for one in runs.get(arm, ()))
            if not played and arm not in out and (arm, seed) not in under_way:
                return arm, seed
    return None
