from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bench.recipe.run import MEASURES, Measures, outcome

from asyncade_learner.learner import Learner
from asyncade_learner.progress import Progress, RecentPoints

TASK: dict[str, Any] = {
    "seed": 3,
    "max_env_steps": 1500,
    "mode": "data",
    "actors": 2,
    "settings": {"game": "catch", "calibration_env_steps": 0, "report_seconds": 0.01},
    "costs": {
        "actor": {"inference": {"1": 1e-4}, "environment": {"1": 1e-4}},
        "learner": {"forward_backward": {"1": 1e-3}},
    },
}


def looked_at(returns: list[float], won: float, lost: float) -> dict[str, int]:
    progress, points = Progress(env_steps=30_000), RecentPoints()
    progress.count_episodes(returns)
    points.count(30_000, won, lost)
    measures = Measures()
    learner = SimpleNamespace(progress=progress, telemetry=SimpleNamespace(points=points))
    measures.look(cast(Learner, learner))
    return measures.met


def test_each_measure_is_met_by_its_own_condition() -> None:
    assert looked_at([0.0] * 100, won=1.0, lost=1.0) == {}
    assert looked_at([0.0] * 100, won=21.0, lost=1.0) == {"share": 30_000}
    assert looked_at([0.0] * 80 + [19.0] * 20, won=1.0, lost=1.0) == {"games_20": 30_000}
    assert looked_at([19.0] * 19, won=1.0, lost=1.0) == {}
    assert set(looked_at([19.0] * 100, won=21.0, lost=0.5)) == set(MEASURES)


def test_a_measure_keeps_the_first_time_that_it_was_met() -> None:
    measures = Measures()
    for env_steps in (30_000, 60_000):
        progress, points = Progress(env_steps=env_steps), RecentPoints()
        points.count(30_000, 21.0, 1.0)
        learner = SimpleNamespace(progress=progress, telemetry=SimpleNamespace(points=points))
        measures.look(cast(Learner, learner))
    assert measures.met == {"share": 30_000}


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_a_run_repeats_bit_for_bit_and_has_a_curve(mode: str) -> None:
    first, second = outcome({**TASK, "mode": mode}), outcome({**TASK, "mode": mode})
    assert json.dumps(first) == json.dumps(second)
    assert first["games_100"] == 1500
    assert "games_100" not in first["met"]
    assert first["curve"][-1]["env_steps"] > 1000
