"""A learner that is stopped between two batches and resumed makes the same updates as without."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench.cluster.cluster import Cluster, Faults, Plan

from asyncade_learner.learner import Learner
from rigs.cluster import CATCH

COSTS = {
    "actor": {"environment": {"1": 0.001, "2": 0.002}, "inference": {"1": 0.001}},
    "learner": {"forward_backward": {"8": 0.0005}},
}
"""Seconds; invented. To publish and to save takes none: a restart that takes time lets the actors
play on meanwhile, with weights that are older then."""

SETTINGS = {
    **CATCH,
    "checkpoint_seconds": 1e9,
    "patience_seconds": 0.5,
}

CALIBRATION = 256  # env steps: it is over after about 0.2 s
BATCHES = 12


def hash_of(learner: Learner) -> str:
    """Of model and optimiser, bit for bit."""
    trainer, found = learner.trainer, hashlib.sha256()
    for tensors in (trainer.network.state_dict(), trainer.optimiser.state()):
        for name, tensor in sorted(tensors.items()):
            found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def updates(
    folder: Path, handovers: Sequence[float], actors: int, faults: dict[str, Any], **changes: Any
) -> list[tuple[int, int, str]]:
    """Returns updates, env steps and hash after every batch."""
    settings = SETTINGS | {"calibration_env_steps": CALIBRATION, "run_dir": folder} | changes
    plan = Plan(
        actors=actors,
        envs=2,
        settings=settings,
        costs=COSTS,
        faults=Faults(handovers=tuple(handovers), **faults),
    )
    found: list[tuple[int, int, str]] = []

    def over(learner: Learner) -> bool:
        progress = learner.progress
        if progress.updates and (not found or progress.updates != found[-1][0]):
            found.append((progress.updates, progress.env_steps, hash_of(learner)))
        return len(found) == BATCHES

    Cluster(plan, folder).run(over)
    return found


CASES = [
    pytest.param(1, {}, {}, id="one actor"),
    pytest.param(
        3, {"slow": {0: 3.0}}, {"messages_in_flight": 2}, id="three, one slow, messages in flight"
    ),
    pytest.param(3, {"joining": {1: 0.3}, "stopped": ((0, 0.25, 0.4),)}, {}, id="coming and going"),
]


@pytest.mark.parametrize("mode", ["data", "gradients"])
@pytest.mark.parametrize(("actors", "faults", "changes"), CASES)
def test_a_resumed_learner_makes_the_same_updates(
    tmp_path: Path, mode: str, actors: int, faults: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Bit for bit, while actors and messages live on; stopped within calibration and twice later.

    The resumed learner publishes the version that the actors have, once more: they play on.
    """
    twin = updates(tmp_path / "twin", (), actors, faults, mode=mode, **changes)
    resumed = updates(tmp_path / "one", (0.05, 0.3, 0.36), actors, faults, mode=mode, **changes)
    assert len(list((tmp_path / "one" / "checkpoints").iterdir())) >= 3
    assert resumed == twin


def test_the_wall_clock_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = updates(tmp_path / "one", (0.3,), 2, {})
    erratic = random.Random(1)
    for name in ("time", "monotonic", "perf_counter", "process_time"):
        monkeypatch.setattr(time, name, lambda: erratic.uniform(0.0, 1e9))
    assert updates(tmp_path / "other", (0.3,), 2, {}) == one
