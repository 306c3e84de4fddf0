"""The learner's reports and signs of life, and what ends a run."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyncade_learner import checkpoint
from asyncade_proto.codec import encode
from asyncade_rl.optimiser import Optimiser
from rigs.learner import REPORT_S, STEPS, UPDATES, Rig, begun, computed, played


def test_rows_are_written_when_due(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    rig.step(played()[0])
    assert rig.folder.read_metrics() == []
    rig.wait(REPORT_S)
    (row,) = rig.folder.read_metrics()
    assert (row["env_steps"], row["updates"], row["policy_version"]) == (STEPS, UPDATES, 2)
    assert (row["seconds"], row["env_steps_per_second"]) == (REPORT_S, STEPS / REPORT_S)
    assert (row["policy_lag_mean"], row["active_actors"]) == (0.0, 1)
    assert row["bytes_per_env_step"] == pytest.approx(len(encode(played()[0])) / STEPS, abs=0.01)
    assert sum(row["stage_shares"].values()) == pytest.approx(1.0, abs=0.01)
    assert {"loss_total", "loss_policy", "loss_value", "loss_entropy", "loss_kl"} <= row.keys()
    assert row["late_actors"] == 0
    rig.wait(60)
    last = rig.folder.read_metrics()[-1]
    assert (last["active_actors"], rig.metric("active_actors")) == (0, 0)
    assert last["policy_lag_mean"] is None


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_a_row_has_the_point_share(tmp_path: Path, mode: str) -> None:
    rig = begun(tmp_path, mode=mode)
    if mode == "data":
        rewards = np.zeros_like(played()[0].rewards)
        rewards[0], rewards[3, 0] = [1.0, 1.0], -0.5
        rig.step(replace(played()[0], rewards=rewards))
    else:
        rig.step(replace(computed()[0], points_won=2.0, points_lost=0.5))
    rig.wait(REPORT_S)
    (row,) = rig.folder.read_metrics()
    assert row["point_share"] == rig.metric("point_share") == 1.5 / 2.5
    assert rig.metric("reward_per_env_step") == 1.5 / STEPS
    assert row["reward_per_env_step"] == pytest.approx(1.5 / STEPS, abs=1e-6)


def test_every_step_is_a_sign_of_life(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    rig.clock.now += 1000
    assert not rig.health.alive()
    rig.step()
    assert rig.health.alive()


def test_every_update_of_a_long_batch_is_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = begun(tmp_path)
    healthy: list[bool] = []

    def slowly(self: Optimiser, learning_rate: float, limit: float) -> float:
        rig.clock.now += 50.0
        healthy.append(rig.health.alive())
        return 1.0

    monkeypatch.setattr(Optimiser, "step", slowly)
    rig.step(played()[0])
    assert healthy == [True] * UPDATES


def test_a_run_ends_at_its_first_limit(tmp_path: Path) -> None:
    rig = begun(tmp_path, target=0.5, max_env_steps=STEPS, max_minutes=2)
    assert rig.learner.ended() is None
    rig.clock.now += 120
    assert rig.learner.ended() == "max_minutes"
    rig.step(played()[0])
    assert rig.learner.ended() == "max_env_steps"
    rig.progress.count_episodes([1.0] * 100)
    rig.step(played()[1])
    assert rig.learner.ended() == "max_env_steps"  # past the target, but still cooling down
    rig.step(played()[2])
    assert rig.learner.ended() == "target"


def test_after_the_target_the_step_size_falls_and_then_the_run_ends(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"target": 0.5, "cooldown": 3.0, "max_policy_lag": 10 * UPDATES}
    rig = begun(tmp_path, **settings)
    rig.progress.count_episodes([1.0] * 100)
    rates = []
    for number in range(4):
        assert rig.learner.ended() is None
        rig.step(played()[number])
        rates.append(rig.metric("learning_rate") or 0.0)
        if number == 1:  # the learner restarts during the cooldown, and then loses games
            rig.end()
            rig = begun(tmp_path, **settings)
            rig.progress.count_episodes([-1.0] * 100)
    assert rig.learner.ended() == "target"
    fractions = [rate / rates[0] for rate in rates]
    assert fractions == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0], abs=1e-3)
    rig.wait(REPORT_S)
    assert rig.folder.read_metrics()[-1]["target_env_steps"] == STEPS
    rig.end()
    higher = begun(tmp_path, **settings | {"target": 0.9})
    assert higher.learner.ended() is None
    higher.wait(REPORT_S)
    assert higher.folder.read_metrics()[-1]["target_env_steps"] is None


def test_without_limits_only_a_signal_ends_a_run(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    rig.step(played()[0])
    rig.clock.now += 1e9
    rig.progress.count_episodes([1.0] * 100)
    assert rig.learner.ended() is None
    assert rig.end() == "signal"


def test_run_steps_until_a_limit_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_env_steps=2 * STEPS)
    rig.send(*played())
    assert rig.learner.run(threading.Event()) == "max_env_steps"
    assert rig.progress.env_steps == 2 * STEPS
    assert rig.checkpoints() == ["000000000003.safetensors"]
    assert rig.folder.read_metrics()[-1]["env_steps"] == 2 * STEPS


def test_a_stop_within_a_batch_discards_its_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint has the updates made until then."""
    rig, stop = Rig(tmp_path), threading.Event()
    step = Optimiser.step

    def step_and_stop(self: Optimiser, learning_rate: float, limit: float) -> float:
        stop.set()
        return step(self, learning_rate, limit=limit)

    monkeypatch.setattr(Optimiser, "step", step_and_stop)
    rig.send(played()[0])
    assert rig.learner.run(stop) == "signal"
    saved = checkpoint.load(rig.folder.checkpoint_files()[0])
    assert (saved.progress.updates, saved.progress.env_steps) == (1, STEPS)


def test_a_batch_ends_when_the_minutes_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, max_minutes=1)

    def slowly(self: Optimiser, learning_rate: float, limit: float) -> float:
        rig.clock.now += 40.0
        return 1.0

    monkeypatch.setattr(Optimiser, "step", slowly)
    rig.send(played()[0])
    assert rig.learner.run(threading.Event()) == "max_minutes"
    assert rig.progress.updates == 3 < UPDATES


def test_a_run_resumed_after_its_end_is_left_as_it_is(tmp_path: Path) -> None:
    rig = begun(tmp_path, max_env_steps=STEPS)
    rig.step(played()[0])
    assert rig.end() == "max_env_steps"

    def content() -> dict[str, bytes]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in files}

    before = content()
    again = Rig(tmp_path, max_env_steps=STEPS)
    again.clock.now += 60.0
    assert again.end() == "max_env_steps"
    assert content() == before
