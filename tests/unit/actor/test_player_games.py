"""A player whose number of games and unroll length change: no game is cut, lost or told twice."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from asyncade_actor.player import Player
from asyncade_proto.messages import GOES_ON, TERMINATED, TRUNCATED, Trajectory
from asyncade_rl.batch import stack_frames
from asyncade_rl.envs.groups import GameGroups
from rigs.play import actor_stages, header
from rigs.script import Script

AT_MOST = 8


def length(game: int) -> int:
    """Returns the length of a game's episodes: some are shorter than an unroll, some longer."""
    return 2 + game * 7 % 12


def make_player(games: int | None = None) -> Player:
    groups = GameGroups(lambda size: Script(size, length), AT_MOST)
    return Player(groups, 1, actor_stages(), games)


def network(stacks: Tensor) -> tuple[Tensor, Tensor]:
    """Values a stack with the name of the game and the age of the episode: 3.07 for 3 and 7."""
    newest = stacks[:, -1, 0].double()
    return torch.zeros(len(stacks), 3), newest[:, 0] + newest[:, 1] / 100


def play(player: Player, games: int | None, steps: int = 4) -> Trajectory:
    for _ in player.play(network, steps, games=games):
        pass
    return player.trajectory(header())


def games_of(unroll: Trajectory) -> list[int]:
    names = unroll.frames[:, -1, 0, 0]
    assert (unroll.frames[:, 3:, 0, 0] == names[:, None]).all()
    return names.tolist()


class Row(NamedTuple):
    """What an unroll has of one game."""

    number: int
    stacks: np.ndarray
    ends: np.ndarray


def rows_by_game(unrolls: list[Trajectory]) -> dict[int, list[Row]]:
    found = defaultdict(list)
    for number, unroll in enumerate(unrolls):
        stacks = stack_frames(unroll.frames, unroll.ends)
        for row, game in enumerate(games_of(unroll)):
            found[game].append(Row(number, stacks[:, row], unroll.ends[:, row]))
    return found


def played(seed: int) -> list[Trajectory]:
    """Plays unrolls of changing numbers of games and lengths."""
    rng = np.random.default_rng(seed)
    player = make_player(int(rng.integers(1, AT_MOST + 1)))
    unrolls = []
    for _ in range(12):
        games, steps = int(rng.integers(1, AT_MOST + 1)), int(rng.integers(1, 9))
        unrolls += [play(player, games, steps) for _ in range(int(rng.integers(1, 4)))]
    return unrolls


@pytest.fixture(params=range(6))
def unrolls(request: pytest.FixtureRequest) -> list[Trajectory]:
    return played(request.param)


def test_a_game_goes_on_from_unroll_to_unroll(unrolls: list[Trajectory]) -> None:
    """Its first stack is padded, every later unroll begins where the last one stopped."""
    for rows in rows_by_game(unrolls).values():
        assert not rows[0].stacks[0, :3].any()
        assert rows[0].stacks[0, -1, 0, 1] == 0
        for one, other in pairwise(rows):
            assert other.number == one.number + 1
            np.testing.assert_array_equal(one.stacks[-1], other.stacks[0])


def test_a_game_stops_where_its_episode_lies_in_the_last_unroll(unrolls: list[Trajectory]) -> None:
    stopped = 0
    for rows in rows_by_game(unrolls).values():
        if rows[-1].number < len(unrolls) - 1:
            stopped += 1
            assert rows[-1].stacks[-1, -1, 0, 1] <= len(rows[-1].ends)
    assert stopped


def test_every_finished_game_is_reported_once_and_whole(unrolls: list[Trajectory]) -> None:
    for unroll in unrolls:
        over = [games_of(unroll)[row] for _, row in np.argwhere(unroll.ends != GOES_ON)]
        assert unroll.episodes.lengths.tolist() == [length(game) for game in over]
        assert unroll.episodes.returns.tolist() == [game * length(game) for game in over]


def test_ends_and_bootstrap_values_are_those_of_the_games(unrolls: list[Trajectory]) -> None:
    """Odd games are truncated: the value of their final observation, in the order of `ends`."""
    for unroll in unrolls:
        games = games_of(unroll)
        for row, game in enumerate(games):
            assert set(unroll.ends[:, row]) <= {GOES_ON, TRUNCATED if game % 2 else TERMINATED}
        cut = [games[row] for _, row in np.argwhere(unroll.ends == TRUNCATED)]
        expected = [game + length(game) / 100 for game in cut]
        np.testing.assert_allclose(unroll.bootstrap_values, expected, rtol=1e-6)


def test_a_seed_determines_the_changes() -> None:
    for one, other in zip(played(3), played(3), strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.actions, other.actions)


def test_it_begins_with_its_games_and_more_begin_with_the_next_unroll() -> None:
    player = make_player(2)
    assert games_of(play(player, 2)) == [1, 2]
    assert len(games_of(play(player, 3))) == 3
    assert len(games_of(play(player, None))) == AT_MOST
