"""The emulators: stacks that can be rebuilt from single frames, seeds, time limit, rewards.

The wire carries every frame once, which requires that ale-py stacks and pads as it does now.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from asyncade_actor.player import Player
from asyncade_proto.messages import GOES_ON, TERMINATED, TRUNCATED
from asyncade_rl.batch import stack_frames
from asyncade_rl.envs import Environments, Step, atari, make_environments
from rigs.play import actor_stages, header

E = 2

UInt8 = npt.NDArray[np.uint8]


@pytest.fixture
def short_episodes(monkeypatch: pytest.MonkeyPatch) -> int:
    """Shortens the time limit; returns it in env steps."""
    monkeypatch.setattr(atari, "MAX_FRAMES_PER_EPISODE", 80)
    return 80 // atari.FRAME_SKIP


@pytest.fixture
def breakout() -> Environments:
    return make_environments("breakout", E)


class Onlooker:
    """A network that plays at random and keeps what it was shown."""

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions
        self.shown: list[UInt8] = []

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        self.shown.append(frames.numpy().copy())
        return torch.zeros(len(frames), self.num_actions), torch.zeros(len(frames))


def check_rebuilt(environments: Environments, unrolls: int, steps: int) -> npt.NDArray[np.uint8]:
    """Compares what the network was shown with what the learner rebuilds; returns the ends."""
    onlooker = Onlooker(environments.num_actions)
    player = Player(environments, 0, actor_stages())
    played = []
    for _ in range(unrolls):
        for _ in player.play(onlooker, steps):
            pass
        played.append(player.trajectory(header()))
    shown: Iterator[UInt8] = iter(onlooker.shown)
    before = next(shown)
    for number, unroll in enumerate(played):
        stacks = stack_frames(unroll.frames, unroll.ends)
        for t in range(steps):
            np.testing.assert_array_equal(stacks[t], before)
            cut_off = unroll.ends[t] == TRUNCATED
            if cut_off.any():  # the final observation, for the bootstrap value
                last_seen = next(shown)
                np.testing.assert_array_equal(last_seen[:, :-1], before[cut_off, 1:])
                assert last_seen[:, -1].any()
            if number < unrolls - 1 or t < steps - 1:
                before = next(shown)
        if number < unrolls - 1:  # the stack after the last step
            np.testing.assert_array_equal(stacks[steps], before)
    assert next(shown, None) is None
    return np.concatenate([unroll.ends for unroll in played])


def test_stacks_are_rebuilt_across_terminated_games(breakout: Environments) -> None:
    ends = check_rebuilt(breakout, unrolls=20, steps=13)
    assert (ends == TERMINATED).sum(axis=0).min() >= 1
    assert not (ends == TRUNCATED).any()


@pytest.mark.parametrize("game", ["pong", "qbert"])
def test_stacks_are_rebuilt_across_truncated_games(game: str, short_episodes: int) -> None:
    """Unrolls of 7 steps and games of 20: ends lie in every row."""
    ends = check_rebuilt(make_environments(game, E), unrolls=20, steps=7)
    where = np.flatnonzero((ends == TRUNCATED).all(axis=1))
    np.testing.assert_array_equal(where, np.arange(1, 8) * short_episodes - 1)
    assert set(where % 7) == set(range(7))
    assert ((ends == GOES_ON) | (ends == TRUNCATED)).all()


# --- the environments themselves -----------------------------------------------------------------


def play(environments: Environments, steps: int) -> list[Step]:
    rng = np.random.default_rng(0)
    actions = rng.integers(environments.num_actions, size=(steps, environments.num_envs))
    return [environments.step(row) for row in actions]


def screens(environments: Environments, seed: int, steps: int = 60) -> UInt8:
    """Returns all observations, [1 + steps, E, 4, 84, 84]."""
    first = environments.reset(seed)
    return np.stack([first, *(step.observations for step in play(environments, steps))])


def test_environment_i_has_seed_plus_i(breakout: Environments) -> None:
    """With the same actions in all, so that only the seeds differ."""

    def fire(seed: int) -> UInt8:
        breakout.reset(seed)
        return np.stack([breakout.step(np.ones(E, np.int64)).observations for _ in range(60)])

    np.testing.assert_array_equal(fire(4)[:, 1], fire(5)[:, 0])
    assert not np.array_equal(fire(4)[:, 0], fire(5)[:, 0])


def test_sticky_actions_change_the_game() -> None:
    sticky = make_environments("breakout", E, repeat_action_probability=0.25)
    assert sticky.protocol()["repeat_action_probability"] == 0.25
    assert not np.array_equal(screens(sticky, 1), screens(make_environments("breakout", E), 1))


def test_the_time_limit_truncates(short_episodes: int) -> None:
    pong = make_environments("pong", E)
    pong.reset(0)
    for number, step in enumerate(play(pong, 3 * short_episodes), start=1):
        assert step.truncated.tolist() == [number % short_episodes == 0] * E
        assert not step.terminated.any()


def test_rewards_are_the_points_of_the_game() -> None:
    asterix = make_environments("asterix", E)
    asterix.reset(0)
    assert max(step.rewards.max() for step in play(asterix, 200)) == 50.0


def test_an_unknown_game_is_refused_without_an_emulator() -> None:
    with pytest.raises(ValueError, match="did you mean pong"):
        make_environments("pongg", E)


def test_an_ale_py_with_other_action_sets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "num_actions", lambda game: 5)
    with pytest.raises(RuntimeError, match="do not match"):
        make_environments("breakout", E)
