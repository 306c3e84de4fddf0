"""The autoscaling rule on the virtual cluster."""

from __future__ import annotations

from typing import Any

import pytest
from bench.cluster.autoscaling import Limits, Wish, limits, measured, path
from bench.cluster.cluster import Plan

from rigs.cluster import CATCH

# An env step takes an actor of one game 2 ms and the learner 0.26 ms: eight actors balance.
COSTS = {
    "actor": {"environment": {"1": 0.001}, "inference": {"1": 0.001}},
    "learner": {"forward_backward": {"8": 0.0021, "16": 0.0042}},
}
SETTINGS: dict[str, Any] = {
    **CATCH,
    "calibration_env_steps": 256,
}


def measure(actors: int) -> Wish:
    return measured(Plan(actors=actors, envs=1, settings=SETTINGS, costs=COSTS), env_steps=512)


@pytest.mark.parametrize("begin", [1, 12])
def test_the_rule_finds_where_both_sides_work_equally_long(begin: int) -> None:
    numbers = [actors for actors, _ in path(begin, limits(), measure)]
    assert numbers[-1] == numbers[-2] == 8


def test_a_scaling_goes_as_far_as_kubernetes_lets_it() -> None:
    of = Limits(1, 32, 1.0, 4, 0.2, 1)
    steps = {(1, 30): 5, (8, 30): 16, (20, 100): 32, (10, 1): 8, (3, 1): 2, (10, 10.9): 10}
    assert {given: of.scaled(*given) for given in steps} == steps


def test_a_rule_that_goes_in_circles_ends_with_two_numbers() -> None:
    wishes = {2: 4.0, 4: 3.0, 3: 2.0}
    of = Limits(1, 32, 1.0, 4, 1.0, 8)
    found = [number for number, _ in path(2, of, lambda actors: Wish(wishes[actors], 1.0))]
    assert found == [2, 4, 3, 2]
