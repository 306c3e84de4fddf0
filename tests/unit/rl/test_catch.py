"""Catch keeps the contract of `asyncade_rl.envs`. ALE: tests/contract/test_atari_stacks.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_rl.envs import Step, make_environments
from asyncade_rl.envs.catch import CELLS, Catch

E = 5
EPISODE = CELLS - 1
LEFT, STAY, RIGHT = 0, 1, 2

Actions = npt.NDArray[np.int64]


def stay(envs: int = E) -> Actions:
    return np.full(envs, STAY)


def optimal(observations: npt.NDArray[np.uint8]) -> Actions:
    """Reads ball and paddle off the newest frame and goes towards the ball."""
    cells = observations[:, -1, ::7, ::7] > 0
    ball = np.argmax(cells[:, :-1].any(axis=1), axis=1)
    paddle = np.argmax(cells[:, -1], axis=1)
    return np.sign(ball - paddle) + STAY


def play(catch: Catch, steps: int, seed: int = 0) -> list[Step]:
    rng = np.random.default_rng(seed)
    return [catch.step(rng.integers(3, size=catch.num_envs)) for _ in range(steps)]


def test_it_is_made_by_name() -> None:
    environments = make_environments("catch", E)
    assert isinstance(environments, Catch)
    assert (environments.num_envs, environments.num_actions) == (E, 3)
    assert environments.protocol()["game"] == "catch"
    environments.close()


def test_shapes_and_dtypes() -> None:
    catch = Catch(E)
    observations = catch.reset(0)
    assert (observations.shape, observations.dtype) == ((E, 4, 84, 84), np.uint8)
    for number, step in enumerate(play(catch, 2 * EPISODE), start=1):
        assert (step.observations.shape, step.observations.dtype) == ((E, 4, 84, 84), np.uint8)
        assert (step.rewards.shape, step.rewards.dtype) == ((E,), np.float32)
        for flags in (step.terminated, step.truncated):
            assert (flags.shape, flags.dtype) == ((E,), np.bool_)
        assert not step.truncated.any()
        assert (step.final_observations is not None) == (number % EPISODE == 0)


def test_an_observation_is_the_last_four_frames_and_nothing_before_the_first() -> None:
    catch = Catch(E)
    before = catch.reset(0)
    assert not before[:, :-1].any()
    assert before[:, -1].any(axis=(1, 2)).all()
    for step in play(catch, 3 * EPISODE):
        over = step.terminated
        goes_on = ~over
        np.testing.assert_array_equal(step.observations[goes_on, :-1], before[goes_on, 1:])
        assert not step.observations[over, :-1].any()
        assert step.observations[:, -1].any(axis=(1, 2)).all()
        if step.final_observations is not None:
            np.testing.assert_array_equal(step.final_observations[over, :-1], before[over, 1:])
            # The ball is where it was caught or missed; a new one starts at the top.
            assert not step.final_observations[over, -1, :-7].any()
            assert step.observations[over, -1, :7].any(axis=(1, 2)).all()
        before = step.observations


def test_what_was_handed_out_does_not_change() -> None:
    catch = Catch(E)
    handed_out = [catch.reset(0)]
    copies = [handed_out[0].copy()]
    for step in play(catch, EPISODE + 2):
        handed_out.append(step.observations)
        copies.append(step.observations.copy())
        if step.final_observations is not None:
            handed_out.append(step.final_observations)
            copies.append(step.final_observations.copy())
    for array, copy in zip(handed_out, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        array[:] = 1  # and writing to it does no harm
    assert set(np.unique(catch.step(stay()).observations)) == {0, 255}


def test_the_only_reward_comes_at_the_end_and_says_whether_it_was_caught() -> None:
    catch = Catch(64)
    catch.reset(0)
    for number, step in enumerate(play(catch, 4 * EPISODE), start=1):
        at_the_end = number % EPISODE == 0
        assert step.terminated.all() if at_the_end else not step.terminated.any()
        np.testing.assert_array_equal(np.abs(step.rewards), np.float32(at_the_end))
        if step.final_observations is not None:
            # Ball and paddle are in the last row: on one cell, or on two.
            cells = (step.final_observations[:, -1, -1, ::7] > 0).sum(axis=1)
            np.testing.assert_array_equal(step.rewards, np.where(cells == 1, 1.0, -1.0))
            assert set(cells) == {1, 2}


def test_optimal_play_always_wins() -> None:
    """From any column to any other, or the game could not be learned."""
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


def test_a_seed_is_a_game() -> None:
    def game(seed: int) -> npt.NDArray[np.uint8]:
        catch = Catch(E)
        play(catch, 3)  # whatever was played before
        return np.stack([catch.reset(seed), *(s.observations for s in play(catch, 3 * EPISODE))])

    assert np.array_equal(game(1), game(1))
    assert not np.array_equal(game(1), game(2))


@pytest.mark.parametrize(
    "actions", [[0] * (E - 1) + [3], [-1] + [0] * (E - 1), [0] * (E - 1), [[0]] * E]
)
def test_an_invalid_action_is_refused_and_plays_nothing(actions: list[int]) -> None:
    catch, twin = Catch(E), Catch(E)
    catch.reset(0)
    twin.reset(0)
    with pytest.raises(ValueError, match="actions"):
        catch.step(np.array(actions))
    for step, other in zip(play(catch, EPISODE), play(twin, EPISODE), strict=True):
        np.testing.assert_array_equal(step.observations, other.observations)
