"""The rules of Catch. Its contract as an environment: tests/contract/test_environments.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs import Step, make_environments
from asyncade_rl.envs.catch import CELLS, Catch

E = 5
EPISODE = CELLS - 1
LEFT, STAY, RIGHT = 0, 1, 2

Actions = npt.NDArray[np.int64]


def optimal(observations: npt.NDArray[np.uint8]) -> Actions:
    """Moves the paddle towards the ball, both read from the newest frame."""
    cells = observations[:, -1, ::7, ::7] > 0
    ball = np.argmax(cells[:, :-1].any(axis=1), axis=1)
    paddle = np.argmax(cells[:, -1], axis=1)
    return np.sign(ball - paddle) + STAY


def play(catch: Catch, steps: int, seed: int = 0) -> list[Step]:
    rng = np.random.default_rng(seed)
    return [catch.step(rng.integers(3, size=catch.num_envs)) for _ in range(steps)]


def test_catch_is_made_by_name() -> None:
    environments = make_environments("catch", E)
    assert isinstance(environments, Catch)
    assert (environments.num_envs, environments.num_actions) == (E, 3)
    assert environments.protocol()["game"] == "catch"
    environments.close()


def test_the_only_reward_is_for_the_catch_at_the_end() -> None:
    catch = Catch(64)
    catch.reset(0)
    for number, step in enumerate(play(catch, 4 * EPISODE), start=1):
        at_the_end = number % EPISODE == 0
        assert step.terminated.all() if at_the_end else not step.terminated.any()
        assert not step.truncated.any()
        np.testing.assert_array_equal(np.abs(step.rewards), np.float32(at_the_end))
        if step.final_observations is not None:
            # Ball and paddle are in the last row, on one cell or two; the new ball is at the top.
            assert not step.final_observations[:, -1, :-7].any()
            assert step.observations[:, -1, :7].any(axis=(1, 2)).all()
            cells = (step.final_observations[:, -1, -1, ::7] > 0).sum(axis=1)
            np.testing.assert_array_equal(step.rewards, np.where(cells == 1, 1.0, -1.0))
            assert set(cells) == {1, 2}


def test_optimal_play_always_wins() -> None:
    """So every ball can be caught."""
    catch = Catch(512)
    observations = catch.reset(0)
    total = 0.0
    for _ in range(3 * EPISODE):
        step = catch.step(optimal(observations))
        observations = step.observations
        total += step.rewards.sum()
    assert total == 3 * 512


def test_the_paddle_moves_by_one_and_stops_at_the_walls() -> None:
    catch = Catch(64)
    moves = (LEFT, STAY, RIGHT, RIGHT)
    seen = [catch.reset(3), *(catch.step(np.full(64, move)).observations for move in moves)]
    paddles = [np.argmax(frames[:, -1, -1, ::7], axis=1) for frames in seen]
    assert {0, CELLS - 1} <= set(paddles[0])
    for before, after, move in zip(paddles[:-1], paddles[1:], moves, strict=True):
        np.testing.assert_array_equal(after, np.clip(before + move - STAY, 0, CELLS - 1))
