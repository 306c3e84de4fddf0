"""What one actor claims does not end a run, and does not drive it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyncade_proto.messages import Episodes, Upstream
from rigs.learner import PATIENCE_S, STEPS, begun, computed, played

TARGET = 0.9  # of at most 1
HUNDRED_GAMES = Episodes(returns=np.full(100, 21.0, np.float32), lengths=np.full(100, 30, np.int32))


def first(mode: str) -> Upstream:
    return (played() if mode == "data" else computed())[0]


@pytest.mark.parametrize(
    ("mode", "lie"),
    [
        ("data", {"episodes": HUNDRED_GAMES}),  # in Catch one game brings at most 1
        ("gradients", {"episodes": HUNDRED_GAMES}),
        ("gradients", {"episodes": HUNDRED_GAMES, "env_steps": 2**20, "points_won": 2e5}),
        ("gradients", {"env_steps": 2**20}),  # the end of the anneal
        ("gradients", {"samples": 2**20}),  # all of the mean
    ],
)
def test_a_false_claim_is_dropped_whole(tmp_path: Path, mode: str, lie: dict[str, Any]) -> None:
    rig = begun(tmp_path, mode=mode, target=TARGET, cooldown=0)
    rig.step(replace(first(mode), **lie))
    assert rig.learner.ended() is None
    assert rig.metric("messages_dropped_total", reason="claim") == 1
    assert (rig.progress.env_steps, rig.progress.episodes, rig.progress.updates) == (0, 0, 0)
    rig.newest()
    assert rig.silent()
    rig.wait(PATIENCE_S + 1)
    assert rig.newest().received == {}  # an honest actor, taken for a liar, could go on
    rig.step(replace(first(mode), sequence=1))
    assert rig.progress.env_steps == STEPS


def test_one_of_three_actors_cannot_end_a_run(tmp_path: Path) -> None:
    rig = begun(tmp_path, target=TARGET, cooldown=0)
    for name in ("b", "c", "liar"):
        rig.step(replace(first("data"), actor_id=name))
    rig.progress.count_episodes([1.0] * 100, "liar")
    rig.wait(0.0)
    assert rig.learner.ended() is None
    rig.progress.count_episodes([1.0] * 50, "b")
    rig.wait(0.0)
    assert rig.learner.ended() == "target"
