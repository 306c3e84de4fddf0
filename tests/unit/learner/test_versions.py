"""Versions of the weights: how old a message is in updates, and publishing within a batch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from asyncade_proto.codec import decode
from asyncade_proto.messages import Trajectory, Weights
from asyncade_rl.optimiser import Optimiser
from rigs.learner import (
    PATIENCE_S,
    REPORT_S,
    UPDATES,
    Rig,
    begun,
    computed,
    parameters,
    played,
    same,
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


def test_a_version_has_one_update_in_gradient_mode(tmp_path: Path) -> None:
    rig = begun(tmp_path, mode="gradients")
    for message in computed()[:3]:  # all of version 1
        rig.step(message)
    assert lag(rig) == 0 + 1 + 2


def test_of_an_earlier_process_each_version_counts_as_one_update(tmp_path: Path) -> None:
    first = begun(tmp_path)
    for number in range(2):
        first.step(made_with(number + 1, number))
    first.end()
    rig = begun(tmp_path)
    assert rig.newest().policy_version == 5
    rig.step(made_with(5, 2))
    assert lag(rig) == 0
    rig.step(made_with(3, 3))
    assert lag(rig) == UPDATES + 2


def test_versions_that_are_no_longer_remembered_count_as_one_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncade_learner.learner._VERSIONS_REMEMBERED", 2)
    rig = begun(tmp_path, max_policy_lag=10 * UPDATES)
    for number in range(3):
        rig.step(made_with(number + 1, number))
    rig.step(made_with(1, 3))  # versions 3 and 4 are remembered
    assert lag(rig) == UPDATES + 2


# --- publishing within a batch -------------------------------------------------------------------


def published_before_each_update(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, message: Trajectory
) -> list[Weights | None]:
    """Steps the learner; returns the weights new before each update, and those at the end."""
    seen: list[Weights | None] = []
    step = Optimiser.step

    def look() -> None:
        frame = rig.weights.latest(0.0)
        message = None if frame is None else decode(frame)
        assert message is None or isinstance(message, Weights)
        seen.append(message)

    def looked(self: Optimiser, learning_rate: float) -> float | None:
        look()
        return step(self, learning_rate)

    rig.newest()
    with monkeypatch.context() as patch:
        patch.setattr(Optimiser, "step", looked)
        rig.step(message)
    look()
    return seen


@pytest.mark.parametrize(
    ("every", "versions"),
    [
        (None, [None, None, None, None, 2]),
        (1, [None, 2, 3, 4, 5]),
        (2, [None, None, 2, None, 3]),
        (3, [None, None, None, 2, 3]),
        (4, [None, None, None, None, 2]),
    ],
)
def test_weights_are_published_within_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int | None, versions: list[int | None]
) -> None:
    rig = begun(tmp_path, updates_per_version=every)
    seen = published_before_each_update(rig, monkeypatch, played()[0])
    assert [weights and weights.policy_version for weights in seen] == versions
    assert rig.progress.updates == UPDATES
    new = [weights for weights in seen if weights is not None]
    assert all(weights.received == {"a": 1} for weights in new)  # credit comes early
    for one, other in pairwise(new):
        assert not same(parameters(one), parameters(other))
    rig.step()
    assert rig.silent()


def test_weights_published_within_a_batch_do_not_change_what_is_learned(tmp_path: Path) -> None:
    one, other = (begun(tmp_path / str(n), updates_per_version=n) for n in (None, 1))
    for rig in (one, other):
        rig.step(played()[0])
    assert same(parameters(one.newest()), parameters(other.newest()))


def test_play_with_weights_from_within_a_batch_is_younger(tmp_path: Path) -> None:
    rig = begun(tmp_path, updates_per_version=1)
    rig.step(made_with(1, 0))
    rig.step(made_with(4, 1))  # published before the last update
    assert lag(rig) == 1
    rig.step(made_with(2, 2))  # published after the first update; another batch followed
    assert lag(rig) == 1 + (UPDATES - 1) + UPDATES
