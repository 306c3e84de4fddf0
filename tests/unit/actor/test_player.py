"""The player, on a tape: games with frames, rewards and ends that the test chooses."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from asyncade_actor.player import Player
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import GOES_ON, STACK, TERMINATED, TRUNCATED, Trajectory
from asyncade_rl.envs import Step
from rigs.play import actor_stages, header

E, T = 2, 4
SIDE = 2
FIRST = (10, 110)  # number of the first frame of each game

Ends = Mapping[tuple[int, int], int]


class Tape:
    """Games with numbered frames, each of 2x2 pixels of its number.

    An ended game's final frame is numbered too, so that a misplaced frame shows.
    """

    num_envs, num_actions = E, 3

    def __init__(self, ends: Ends | None = None, rewards: Any = 0.0) -> None:
        self.ends = ends or {}
        self.rewards = np.broadcast_to(np.float32(rewards), (64, E))
        self.seeds: list[int] = []
        self.actions: list[npt.NDArray[np.int64]] = []
        self.closed = 0

    def protocol(self) -> dict[str, Any]:
        return {}

    def reset(self, seed: int) -> npt.NDArray[np.uint8]:
        self.seeds.append(seed)
        self.number = np.array(FIRST)
        self.stack = np.zeros((E, STACK, SIDE, SIDE), dtype=np.uint8)
        self.stack[:, -1] = self.number[:, None, None]
        return self.stack.copy()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        t = len(self.actions)
        self.actions.append(actions.copy())
        self._show(np.arange(E))
        final = self.stack.copy()
        ends = np.array([self.ends.get((t, env), GOES_ON) for env in range(E)])
        over = np.flatnonzero(ends != GOES_ON)
        self.stack[over] = 0
        self._show(over)
        return Step(
            observations=self.stack.copy(),
            rewards=self.rewards[t].copy(),
            terminated=ends == TERMINATED,
            truncated=ends == TRUNCATED,
            final_observations=final if len(over) else None,
        )

    def _show(self, games: npt.NDArray[np.int64]) -> None:
        self.number[games] += 1
        self.stack[games, :-1] = self.stack[games, 1:]
        self.stack[games, -1] = self.number[games, None, None]

    def close(self) -> None:
        self.closed += 1


class Judge:
    """A network whose value encodes the whole stack: a number in base 256, newest frame first."""

    def __init__(self) -> None:
        self.shown: list[list[list[int]]] = []

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        numbers = frames[:, :, 0, 0].double()
        self.shown.append(numbers.int().tolist())
        logits = (numbers[:, -1:] / 100 * torch.tensor([0.0, 1.0, -1.0])).float()
        return logits, numbers @ (256.0 ** -torch.arange(STACK).flip(0).double())


def value_of(*stack: int) -> float:
    """Returns the value that `Judge` gives a stack, oldest frame first."""
    return sum(number / 256**age for age, number in enumerate(reversed(stack)))


def make_player(tape: Tape, seed: int = 0) -> Player:
    return Player(tape, seed, actor_stages())


def play(player: Player, network: Any, steps: int = T) -> Trajectory:
    for _ in player.play(network, steps):
        pass
    return player.trajectory(header())


def numbers(unroll: Trajectory, env: int) -> list[int]:
    assert (unroll.frames[env] == unroll.frames[env, :, :1, :1]).all()
    return unroll.frames[env, :, 0, 0].tolist()


def test_an_incomplete_unroll_cannot_be_taken() -> None:
    player = make_player(Tape())
    for _ in islice(player.play(Judge(), T), T):  # before its last step
        pass
    with pytest.raises(AssertionError):
        player.trajectory(header())


def test_play_yields_before_every_step() -> None:
    tape, judge = Tape(), Judge()
    played = [(len(tape.actions), len(judge.shown)) for _ in make_player(tape).play(judge, T)]
    assert played == [(t, t) for t in range(T)]


def test_the_network_sees_the_recorded_stacks() -> None:
    judge = Judge()
    play(make_player(Tape({(1, 0): TERMINATED})), judge)
    assert [shown[0] for shown in judge.shown] == [
        [0, 0, 0, 10],
        [0, 0, 10, 11],
        [0, 0, 0, 13],  # 12 was the final frame of the ended game
        [0, 0, 13, 14],
    ]


def test_frames_hold_each_observation_once_and_no_final_ones() -> None:
    unroll = play(make_player(Tape({(1, 0): TERMINATED, (2, 0): TRUNCATED})), Judge())
    assert unroll.frames.shape == (E, T + STACK, SIDE, SIDE)
    assert numbers(unroll, 0) == [0, 0, 0, 10, 11, 13, 15, 16]  # after an end, the next game's
    assert numbers(unroll, 1) == [0, 0, 0, 110, 111, 112, 113, 114]
    assert unroll.ends.T.tolist() == [[GOES_ON, TERMINATED, TRUNCATED, GOES_ON], [GOES_ON] * T]


def test_an_unroll_fits_the_wire() -> None:
    unroll = play(make_player(Tape({(1, 0): TRUNCATED})), Judge())
    assert isinstance(decode(encode(unroll)), Trajectory)  # which checks dtypes and shapes


def test_recorded_actions_and_log_probabilities_are_those_of_the_policy() -> None:
    tape, judge = Tape({(5, 1): TERMINATED}), Judge()
    unroll = play(make_player(tape), judge, steps=30)
    np.testing.assert_array_equal(unroll.actions, tape.actions)
    assert set(unroll.actions.flatten()) == {0, 1, 2}
    for t, stacks in enumerate(judge.shown):
        policy = np.exp(np.array([stack[-1] for stack in stacks])[:, None] / 100 * [0, 1, -1])
        policy /= policy.sum(axis=1, keepdims=True)
        chosen = policy[np.arange(E), unroll.actions[t]]
        np.testing.assert_allclose(unroll.behaviour_log_probs[t], np.log(chosen), rtol=1e-5)


def test_actions_are_drawn_from_the_policy() -> None:
    """Environment 0 has one action with a chance, environment 1 two that are equally likely."""

    def policy(frames: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.tensor([[-1e9, 0.0, -1e9], [0.0, -1e9, 0.0]])
        return logits, torch.zeros(E)

    unroll = play(make_player(Tape()), policy, steps=60)
    assert set(unroll.actions[:, 0]) == {1}
    assert not unroll.behaviour_log_probs[:, 0].any()
    counts = np.bincount(unroll.actions[:, 1], minlength=3)
    assert counts[1] == 0
    assert 20 <= counts[0] <= 40
    np.testing.assert_allclose(unroll.behaviour_log_probs[:, 1], np.log(0.5), rtol=1e-6)


def test_a_seed_determines_the_actions() -> None:
    def actions(seed: int) -> list[list[int]]:
        return play(make_player(Tape(), seed), Judge(), steps=30).actions.tolist()

    assert actions(1) == actions(1) != actions(2)


@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**32 - 1])
def test_seeds_of_games_fit_the_emulator(seed: int) -> None:
    """They are an int32, counted up from game to game."""
    tape = Tape()
    make_player(tape, seed)
    assert len(tape.seeds) == 1
    assert 0 <= tape.seeds[0] < 2**31 - 1024


def test_rewards_are_clipped_but_returns_are_not() -> None:
    rewards = np.zeros((64, E))
    rewards[:5, 0] = [7, 0.5, -3, 0, -0.25]
    unroll = play(make_player(Tape({(3, 0): TERMINATED}, rewards)), Judge(), steps=5)
    assert unroll.rewards[:, 0].tolist() == [1, 0.5, -1, 0, -0.25]
    assert unroll.episodes.returns.tolist() == [4.5]
    assert unroll.episodes.lengths.tolist() == [4]


def test_games_continue_across_unrolls() -> None:
    """With ends in the first and last row, and lengths and returns that span unrolls."""
    tape = Tape({(5, 0): TERMINATED, (7, 1): TRUNCATED, (8, 0): TERMINATED}, [2.0, 3.0])
    player, judge = make_player(tape), Judge()
    one, two, three = (play(player, judge) for _ in range(3))
    assert numbers(two, 0) == [11, 12, 13, 14, 15, 17, 18, 19]
    assert numbers(two, 1)[-2:] == [117, 119]
    assert numbers(three, 0) == [0, 17, 18, 19, 21, 22, 23, 24]
    assert numbers(three, 1)[:4] == [0, 0, 0, 119]
    assert [unroll.episodes.lengths.tolist() for unroll in (one, two, three)] == [[], [6, 8], [3]]
    assert [unroll.episodes.returns.tolist() for unroll in (one, two, three)] == [
        [],
        [12.0, 24.0],
        [6.0],
    ]
    assert len(tape.seeds) == 1  # reset once: games reset themselves


def test_games_that_end_together_are_all_reported() -> None:
    ends = {(2, 0): TERMINATED, (2, 1): TRUNCATED, (3, 0): TERMINATED}
    unroll = play(make_player(Tape(ends, [1.0, 10.0])), Judge())
    assert unroll.episodes.returns.tolist() == [3.0, 30.0, 1.0]
    assert unroll.episodes.lengths.tolist() == [3, 3, 1]
    assert len(unroll.bootstrap_values) == 1


def test_bootstrap_values_are_those_of_the_final_observations() -> None:
    """In the order of `ends`. Final observations are in no unroll."""
    ends = {(1, 1): TRUNCATED, (2, 0): TERMINATED, (3, 0): TRUNCATED, (3, 1): TRUNCATED}
    unroll = play(make_player(Tape(ends)), Judge())
    np.testing.assert_allclose(
        unroll.bootstrap_values,
        [value_of(0, 110, 111, 112), value_of(0, 0, 14, 15), value_of(0, 113, 114, 115)],
        rtol=1e-7,
    )
    assert not {112, 15, 115} & {*numbers(unroll, 0), *numbers(unroll, 1)}


def test_without_truncation_there_are_no_bootstrap_values() -> None:
    judge = Judge()
    unroll = play(make_player(Tape({(1, 0): TERMINATED})), judge)
    assert unroll.bootstrap_values.shape == (0,)
    assert len(judge.shown) == T


def test_an_unroll_is_not_changed_by_the_next() -> None:
    player, judge = make_player(Tape({(2, 0): TRUNCATED})), Judge()
    one = play(player, judge)
    names = ("frames", "actions", "behaviour_log_probs", "rewards", "ends", "bootstrap_values")
    copies = {name: getattr(one, name).copy() for name in names}
    play(player, judge)
    for name, copy in copies.items():
        np.testing.assert_array_equal(getattr(one, name), copy)
