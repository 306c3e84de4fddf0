"""Poison never enters the model; a model that is wrecked all the same is replaced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from asyncade_learner import checkpoint
from asyncade_learner.checkpoint import CheckpointError, NotFiniteError
from asyncade_learner.recovery import (
    BARREN_BATCHES,
    NORMS_REMEMBERED,
    RECOVERED_AFTER,
    ROLL_BACKS,
    TIMES_MEDIAN,
    RecentNorms,
    Recovery,
)
from asyncade_proto.messages import Gradients, Trajectory
from asyncade_rl.saved_models import DIGEST, sealed
from asyncade_runtime import robust_mean
from asyncade_runtime.claims import Claims
from rigs.learner import CHECKPOINT_S, STEPS, UPDATES, Rig, begun, computed, played, same

GOOD = {"updates": 1, "skipped": 0, "growth": 1.0}
BARREN = {"updates": 0, "skipped": 1, "growth": 1.0}
OF_ANY_AGE = {"max_policy_lag": 10_000}


# --- decisions -----------------------------------------------------------------------------------


def test_a_gradient_is_absurd_far_beyond_the_median_of_those_before() -> None:
    norms = RecentNorms()
    assert norms.admit(1e30)  # nothing is known yet
    norms = RecentNorms([2.0, 3.0, 400.0])
    assert norms.limit() == 3.0 * TIMES_MEDIAN
    assert not norms.admit(3.1 * TIMES_MEDIAN)
    assert norms.kept() == [2.0, 3.0, 400.0]  # what is refused measures nothing
    assert norms.admit(2.9 * TIMES_MEDIAN)


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_never_admitted(norm: float) -> None:
    assert not RecentNorms().admit(norm)
    assert not RecentNorms([1.0]).admit(norm)


def test_the_first_point_after_a_long_time_without_any_is_not_absurd() -> None:
    norms = RecentNorms([1e-6] * NORMS_REMEMBERED)
    assert norms.admit(50.0)


def test_only_barren_batches_in_a_row_wreck_a_model() -> None:
    recovery = Recovery()
    for _ in range(5):
        assert not any(recovery.wrecked(**BARREN) for _ in range(BARREN_BATCHES - 1))
        assert not recovery.wrecked(**GOOD)
    # A batch that a stop cut short before its first update says nothing.
    assert not recovery.wrecked(updates=0, skipped=0, growth=1.0)
    assert [recovery.wrecked(**BARREN) for _ in range(BARREN_BATCHES)][-1]


@pytest.mark.parametrize("growth", [10.5, math.inf, math.nan])
def test_weights_that_have_grown_are_wrecked_at_once(growth: float) -> None:
    assert Recovery().wrecked(updates=1, skipped=0, growth=growth)


def test_roll_backs_are_forgotten_once_the_model_has_recovered() -> None:
    recovery = Recovery()
    for _ in range(ROLL_BACKS - 1):
        recovery.rolled_back()
    assert not recovery.exhausted
    for _ in range(RECOVERED_AFTER):
        recovery.wrecked(**GOOD)
    for _ in range(ROLL_BACKS - 1):
        recovery.rolled_back()
    assert not recovery.exhausted
    recovery.rolled_back()
    assert recovery.exhausted
    assert recovery.halvings == 2 * ROLL_BACKS - 1


# --- a learner -----------------------------------------------------------------------------------


@pytest.fixture
def believing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner that believes what actors send: what it looks at itself is the last line."""
    monkeypatch.setattr(Claims, "check", lambda *_: None)
    monkeypatch.setattr(robust_mean, "_TIMES_MEDIAN", math.inf)


def poisoned(mode: str, number: int, version: int) -> Trajectory | Gradients:
    """Play, or steps, with finite but absurd numbers."""
    if mode == "data":
        unroll = played()[number]
        rewards = np.full_like(unroll.rewards, 1e12)
        return replace(unroll, rewards=rewards, policy_version=version, sequence=number)
    steps = computed()[number]
    huge = {name: 2e4 * one for name, one in steps.tensors.items()}  # the wire ends at 57,344
    return replace(steps, tensors=huge, policy_version=version, sequence=number)


def good(mode: str, number: int, version: int) -> Trajectory | Gradients:
    message: Trajectory | Gradients = (played() if mode == "data" else computed())[number]
    return replace(message, policy_version=version, sequence=number)


def state_of(rig: Rig) -> dict[str, Tensor]:
    trainer = rig.learner.trainer
    tensors = {**trainer.network.state_dict(), **trainer.optimiser.state()}
    return {name: one.clone() for name, one in tensors.items()}


def model_in(path: Path) -> Mapping[str, Tensor]:
    return checkpoint.load(path).model


@pytest.mark.usefixtures("believing")
@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_an_absurd_update_is_skipped_and_counted(tmp_path: Path, mode: str) -> None:
    rig = begun(tmp_path, mode=mode, normalise_advantages=False, **OF_ANY_AGE)
    rig.step(good(mode, 0, 1))
    before, losses = state_of(rig), rig.metric("loss", part="value")
    rig.step(poisoned(mode, 1, 1))
    assert same(before, state_of(rig))
    assert rig.metric("updates_skipped_total") == (UPDATES if mode == "data" else 1)
    assert (rig.progress.updates, rig.metric("loss", part="value")) == (UPDATES, losses)
    rig.step(good(mode, 2, 1))
    assert rig.progress.updates == 2 * UPDATES
    assert not same(before, state_of(rig))
    assert rig.metric("roll_backs_total") == 0


def test_losses_that_an_actor_claims_decide_and_spoil_nothing(tmp_path: Path) -> None:
    rig = begun(tmp_path, mode="gradients", batch_samples=2 * STEPS)
    for number, total in enumerate((1e308, -1e308)):  # their mean overflows
        losses = {"total": total, "value": 1.0}
        rig.learner.phase.add(replace(computed()[number], losses=losses))
    rig.step()
    assert rig.progress.updates == UPDATES
    assert rig.metric("updates_skipped_total") == rig.metric("roll_backs_total") == 0
    assert rig.metric("loss", part="value") == 1.0
    assert math.isfinite(rig.metric("loss", part="total") or 0.0)


@pytest.mark.usefixtures("believing")
@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_barren_batches_roll_back_and_halve_the_step_size(tmp_path: Path, mode: str) -> None:
    rig = begun(tmp_path, mode=mode, normalise_advantages=False, **OF_ANY_AGE)
    rig.step(good(mode, 0, 1))
    rig.wait(CHECKPOINT_S)
    (saved,) = rig.folder.checkpoint_files()
    rig.step(good(mode, 1, 2))
    assert not same(rig.learner.trainer.network.state_dict(), model_in(saved))
    full = rig.newest().assignment.objective.learning_rate
    env_steps, version = rig.progress.env_steps, rig.progress.policy_version
    for number in range(BARREN_BATCHES):
        rig.step(poisoned(mode, 2, version + number))
    after = rig.newest()
    assert same(rig.learner.trainer.network.state_dict(), model_in(saved))
    assert same(rig.learner.trainer.optimiser.state(), checkpoint.load(saved).optimiser)
    assert after.policy_version == version + BARREN_BATCHES
    assert rig.progress.env_steps == env_steps + BARREN_BATCHES * STEPS
    assert after.assignment.objective.learning_rate == pytest.approx(full / 2, rel=1e-3)
    assert rig.metric("roll_backs_total") == 1
    # What was made with weights that are given up is too old, whatever the limit.
    rig.step(good(mode, 3, after.policy_version - 1))
    assert rig.metric("messages_dropped_total", reason="stale") == 1
    updates = rig.progress.updates
    rig.step(good(mode, 3, after.policy_version))
    assert rig.progress.updates == updates + UPDATES
    rig.wait(CHECKPOINT_S)
    row = rig.folder.read_metrics()[-1]
    assert (row["roll_backs"], row["policy_version"]) == (1, rig.progress.policy_version)
    assert rig.checkpoints()[0] > saved.name  # the newest, though it went back


def diverging(tmp_path: Path, mode: str) -> Rig:
    """A run with a learning rate of 1000, from the agent as it is after calibration to its end."""
    settings: dict[str, Any] = {"mode": mode, "learning_rate": 1000.0, **OF_ANY_AGE}
    rig = begun(tmp_path, calibration_env_steps=STEPS, **settings)
    rig.step(played()[0])
    for _ in range(ROLL_BACKS * BARREN_BATCHES):
        if rig.learner.ended():
            break
        rig.step(good(mode, 1, rig.progress.policy_version))
    return rig


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_a_learning_rate_of_1000_ends_the_run_with_its_reason(tmp_path: Path, mode: str) -> None:
    rig = diverging(tmp_path, mode)
    assert rig.learner.ended() == "diverged"
    assert rig.metric("roll_backs_total") == ROLL_BACKS
    *_, first = rig.folder.checkpoint_files()
    rig.learner.finish()
    newest = rig.folder.checkpoint_files()[0]
    assert newest != first
    assert same(model_in(newest), model_in(first))  # the last good state
    again = Rig(tmp_path, mode=mode, learning_rate=1000.0)
    assert again.end() == "diverged"
    assert again.progress.policy_version == rig.progress.policy_version


def test_a_lower_learning_rate_is_a_new_attempt(tmp_path: Path) -> None:
    diverging(tmp_path, "data").learner.finish()
    rig = begun(tmp_path, learning_rate=1e-3, **OF_ANY_AGE)
    assert rig.learner.ended() is None
    assert rig.newest().assignment.objective.learning_rate == pytest.approx(1e-3, rel=1e-2)
    rig.step(good("data", 1, rig.progress.policy_version))
    assert rig.progress.updates > 0


def test_a_resumed_run_keeps_its_halved_step_size(tmp_path: Path) -> None:
    rig = begun(tmp_path, calibration_env_steps=STEPS)
    rig.step(played()[0])
    rig.learner.keeper.roll_back()
    rig.learner.finish()
    resumed = begun(tmp_path)
    rate = resumed.newest().assignment.objective.learning_rate
    assert rate == pytest.approx(1e-3 / 2, rel=1e-2)


def test_each_roll_back_that_does_not_help_goes_further_back(tmp_path: Path) -> None:
    rig = begun(tmp_path, **OF_ANY_AGE)
    for number in range(3):
        rig.clock.now += CHECKPOINT_S
        rig.step(played()[number])
    reached = []
    for _ in range(2):
        rig.learner.keeper.roll_back()
        network = rig.learner.trainer.network.state_dict()
        files = rig.folder.checkpoint_files()
        reached.append([same(network, model_in(path)) for path in files])
    assert reached == [[True, False, False], [False, True, False]]


def test_without_a_checkpoint_a_wrecked_model_is_neither_saved_nor_published(
    tmp_path: Path,
) -> None:
    rig = begun(tmp_path, learning_rate=1000.0)
    rig.newest()
    rig.step(played()[0])
    assert rig.learner.ended() == "diverged"
    assert rig.silent()
    rig.learner.finish()
    assert rig.checkpoints() == []


# --- checkpoints ---------------------------------------------------------------------------------


def content(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Returns metadata and tensors of a file, which can be overwritten then."""
    with safetensors.safe_open(path, framework="pt") as file:
        names = list(file.keys())
        return file.metadata(), {name: file.get_tensor(name).clone() for name in names}


@pytest.mark.parametrize("part", ["model.value.bias", "optimiser.exp_avg.value.bias"])
def test_a_poisoned_checkpoint_is_passed_over(tmp_path: Path, part: str) -> None:
    rig = begun(tmp_path)
    for number in range(2):
        rig.clock.now += CHECKPOINT_S
        rig.step(played()[number])
    newest, older = rig.folder.checkpoint_files()
    metadata, tensors = content(newest)
    tensors[part][0] = math.nan
    newest.write_bytes(sealed(safetensors.torch.save(tensors, metadata | DIGEST)))
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.load(newest)
    resumed = Rig(tmp_path, resume="must")
    assert resumed.progress.policy_version == int(older.stem)


def test_a_poisoned_model_is_not_saved(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    rig.step(played()[0])
    with torch.no_grad():
        rig.learner.trainer.network.frame_mean[0, 0] = math.inf
    rig.wait(CHECKPOINT_S)
    assert rig.checkpoints() == []
    assert rig.metric("checkpoint_failures_total") == 1
    rig.learner.trainer.network.frame_mean[0, 0] = 0.0
    rig.wait(CHECKPOINT_S)
    saved = checkpoint.load(rig.folder.checkpoint_files()[0])
    with pytest.raises(NotFiniteError):
        checkpoint.save(rig.folder, replace(saved, model={"a": torch.tensor([math.nan])}), keep=1)


@pytest.mark.parametrize(
    "kept", ["[]", '{"roster": 3}', '{"norms": ["a"]}', '{"clock": NaN}', "{", '{"halvings": {}}']
)
def test_a_damaged_file_is_refused_and_what_is_unknown_is_left_out(
    tmp_path: Path, kept: str
) -> None:
    rig = begun(tmp_path)
    rig.step(played()[0])
    rig.learner.finish()
    (path,) = rig.folder.checkpoint_files()
    metadata, tensors = content(path)
    for text, readable in ((kept, False), ('{"of a newer release": 1}', True), (None, True)):
        changed = {n: v for n, v in metadata.items() if n not in {"kept", *DIGEST}}
        changed |= {} if text is None else {"kept": text}
        path.write_bytes(safetensors.torch.save(tensors, changed))
        if readable:
            assert checkpoint.load(path).kept.norms == []
            assert Rig(tmp_path).progress.env_steps == STEPS
        else:
            with pytest.raises(CheckpointError, match="cannot be read"):
                checkpoint.load(path)
