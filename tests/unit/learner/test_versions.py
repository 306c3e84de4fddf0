"""Versions of the weights: how old a message is, in updates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asyncade_proto.messages import Trajectory
from rigs.learner import (
    PATIENCE_S,
    REPORT_S,
    UPDATES,
    Rig,
    begun,
    computed,
    played,
)


def made_with(version: int, number: int) -> Trajectory:
    return replace(played()[number], policy_version=version, sequence=number)


def lag(rig: Rig) -> float | None:
    """Returns the sum of the lags of all messages used."""
    return rig.metric("policy_lag_updates_sum")


# --- policy lag ----------------------------------------------------------------------------------


def test_the_lag_is_the_updates_since_the_weights_of_a_message(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    lags = []
    for number, version in enumerate((1, 2, 2)):
        rig.step(made_with(version, number))
        lags.append(lag(rig))
    assert lags == [0, 0, UPDATES]
    rig.wait(REPORT_S)
    assert rig.folder.read_metrics()[-1]["policy_lag_mean"] == pytest.approx(UPDATES / 3, abs=1e-3)


def test_a_version_without_an_update_adds_no_lag(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    for _ in range(3):
        rig.wait(PATIENCE_S + 0.5)
    assert rig.newest().policy_version == 4
    rig.step(made_with(1, 0))
    assert (lag(rig), rig.progress.updates) == (0, UPDATES)


def test_a_version_has_the_steps_of_one_actor_in_gradient_mode(tmp_path: Path) -> None:
    rig = begun(tmp_path, mode="gradients")
    for message in computed()[:3]:  # all of version 1
        rig.step(message)
    assert lag(rig) == (0 + 1 + 2) * UPDATES


def test_the_lag_of_an_earlier_processs_versions_is_known(tmp_path: Path) -> None:
    first = begun(tmp_path)
    for number in range(2):
        first.step(made_with(number + 1, number))
    first.end()
    rig = begun(tmp_path)
    assert rig.newest().policy_version == 3
    rig.step(made_with(3, 2))
    assert lag(rig) == 0
    rig.step(made_with(2, 3))
    assert lag(rig) == 2 * UPDATES


def test_of_versions_that_a_checkpoint_does_not_keep_each_counts_as_one_update(
    tmp_path: Path,
) -> None:
    """As of those in a checkpoint of an older release."""
    first = begun(tmp_path)
    for number in range(2):
        first.step(made_with(number + 1, number))
    first.learner.versions.restore([], -1)
    first.learner.finish()
    rig = begun(tmp_path)
    assert rig.newest().policy_version == 3
    rig.step(made_with(1, 2))
    assert lag(rig) == 2


def test_versions_that_are_no_longer_remembered_count_as_one_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncade_learner.versions.VERSIONS_REMEMBERED", 2)
    rig = begun(tmp_path, max_policy_lag=10 * UPDATES)
    for number in range(3):
        rig.step(made_with(number + 1, number))
    rig.step(made_with(1, 3))  # versions 3 and 4 are remembered
    assert lag(rig) == UPDATES + 2
