"""Catch, the emulators and a game of a package keep the contract of `asyncade_rl.envs`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_rl.envs import Environments, Step, make_environments
from packages import MY_GAME, install

E = 2
SHAPE = (E, 4, 84, 84)

UInt8 = npt.NDArray[np.uint8]


@pytest.fixture(params=["catch", "breakout", "dodge"])
def environments(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Environments:
    if request.param == "dodge":
        for path in install(MY_GAME, tmp_path)["PYTHONPATH"].split(os.pathsep)[:2]:
            monkeypatch.syspath_prepend(path)
    return make_environments(request.param, E)


def play(environments: Environments, steps: int) -> Iterator[Step]:
    """Plays random actions, the same in every call."""
    rng = np.random.default_rng(0)
    for row in rng.integers(environments.num_actions, size=(steps, E)):
        yield environments.step(row)


def screens(environments: Environments, seed: int, steps: int = 60) -> UInt8:
    """Returns all observations of random play, [1 + steps, E, 4, 84, 84]."""
    first = environments.reset(seed)
    return np.stack([first, *(step.observations for step in play(environments, steps))])


def test_observations_are_stacks_of_four_frames_within_an_episode(
    environments: Environments,
) -> None:
    before = environments.reset(0)
    assert (before.shape, before.dtype) == (SHAPE, np.uint8)
    assert not before[:, :-1].any()
    ended = 0
    for step in play(environments, 300):
        assert (step.observations.shape, step.observations.dtype) == (SHAPE, np.uint8)
        assert (step.rewards.shape, step.rewards.dtype) == ((E,), np.float32)
        for flags in (step.terminated, step.truncated):
            assert (flags.shape, flags.dtype) == ((E,), np.bool_)
        over = step.terminated | step.truncated
        assert step.observations[:, -1].any(axis=(1, 2)).all()
        assert not step.observations[over, :-1].any()
        np.testing.assert_array_equal(step.observations[~over, :-1], before[~over, 1:])
        assert (step.final_observations is not None) == over.any()
        if step.final_observations is not None:
            np.testing.assert_array_equal(step.final_observations[over, :-1], before[over, 1:])
        before = step.observations
        ended += over.sum()
    assert ended >= 2


def test_observations_are_copies(environments: Environments) -> None:
    kept = screens(environments, 1)
    first = environments.reset(1)
    copies = [first.copy()]
    first[:] = 1
    for step in play(environments, 60):
        copies.append(step.observations.copy())
        step.observations[:] = 1  # must not change later observations
        if step.final_observations is not None:
            step.final_observations[:] = 1
    np.testing.assert_array_equal(kept, np.stack(copies))


def test_a_seed_determines_the_games(environments: Environments) -> None:
    first = screens(environments, 1)
    np.testing.assert_array_equal(first, screens(environments, 1))
    game = environments.protocol()["game"]
    np.testing.assert_array_equal(first, screens(make_environments(game, E), 1))
    assert not np.array_equal(first, screens(environments, 3))


def test_invalid_actions_are_refused_and_play_nothing(environments: Environments) -> None:
    """ale-py itself would never return from some of them."""
    undisturbed = screens(environments, 1, steps=20)
    first, n = environments.reset(1), environments.num_actions
    invalid: list[npt.ArrayLike] = [[0, n], [-1, 0], [2**40, 0], [0], [0, 0, 0], [[0, 0]]]
    for actions in invalid:
        with pytest.raises(ValueError, match="actions"):
            environments.step(np.array(actions))
    seen = [first, *(step.observations for step in play(environments, 20))]
    np.testing.assert_array_equal(np.stack(seen), undisturbed)
