"""Games that begin and stop between unrolls: which, when, and that none is mistaken for another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from asyncade_rl.envs import Step
from asyncade_rl.envs.groups import GameGroups, in_groups
from rigs.play import Arcade
from rigs.script import Script


class Hall:
    """`GameGroups` of scripted games, and what the test knows of them.

    Attributes:
        made: the environments, in order.
        names: the game in each row.
    """

    def __init__(self, at_most: int, length: int = 9) -> None:
        self.made: list[Script] = []
        self.length = length
        self.groups = GameGroups(self._make, at_most)
        self.first = self.groups.reset(1)
        self.names: list[int] = []

    def _make(self, size: int) -> Script:
        self.made.append(Script(size, lambda _: self.length))
        return self.made[-1]

    def resize(self, games: int | None, may_stop: list[int] | None = None) -> list[int]:
        """Resizes; games by name may stop, all by default. Returns the number of former rows."""
        may = np.array([may_stop is None or name in may_stop for name in self.names], dtype=bool)
        rows, observations = self.groups.resize(games, may)
        shown = observations[:, -1, 0, 0]
        for row, name in zip(rows, shown, strict=True):
            assert row == -1 or self.names[row] == name
        stopped = {*self.names} - {*shown.tolist()}
        assert may_stop is None or stopped <= {*may_stop}
        self.names = shown.tolist()
        assert len({*self.names}) == len(self.names) == self.groups.num_envs
        return rows.tolist()

    def step(self) -> Step:
        return self.groups.step(np.zeros(len(self.names), np.int64))


def test_it_begins_without_games() -> None:
    hall = Hall(8)
    assert hall.groups.num_envs == len(hall.first) == 0
    assert hall.made == []


@pytest.mark.parametrize("at_most", [1, 2, 3, 6, 8, 13])
def test_it_has_any_number_of_games(at_most: int) -> None:
    for games in range(1, at_most + 1):
        hall = Hall(at_most)
        hall.resize(games)
        assert hall.names == [*range(1, games + 1)]
        assert len(hall.names) == games
        for other in range(1, at_most + 1):
            hall.resize(other)
            hall.step()
            hall.resize(other)
            assert len(hall.names) == other


@pytest.mark.parametrize("at_most", [2, 3, 6, 8, 13])
def test_more_games_begin_at_once(at_most: int) -> None:
    for few in range(1, at_most):
        for many in range(few + 1, at_most + 1):
            hall = Hall(at_most)
            hall.resize(few)
            hall.step()
            assert hall.resize(many, []) == [*range(few), *[-1] * (many - few)]


@pytest.mark.parametrize("games", [None, 8, 1000])
def test_all_games_are_one_group(games: int | None) -> None:
    """The emulators' own threads step them fastest."""
    hall = Hall(8)
    hall.resize(games)
    assert [script.num_envs for script in hall.made] == [8]


def test_more_games_leave_the_others_alone() -> None:
    hall = Hall(8)
    hall.resize(4)
    hall.step()
    assert hall.resize(7, []) == [0, 1, 2, 3, -1, -1, -1]
    step = hall.step()
    assert step.observations[:, -1, 0, 1].tolist() == [2, 2, 2, 2, 1, 1, 1]
    assert step.rewards.tolist() == hall.names == [1, 2, 3, 4, 5, 6, 7]


def test_a_game_stops_only_when_it_may() -> None:
    hall = Hall(8)
    hall.resize(4)
    hall.resize(8)
    hall.step()
    assert hall.resize(4, []) == [*range(8)]
    assert hall.resize(4, [1, 6]) == [0, 1, 2, 3, 4, 6, 7]
    assert hall.names == [1, 2, 3, 4, 5, 7, 8]  # 1 is in the group that stays
    assert hall.step().rewards.tolist() == [1, 2, 3, 4, 5, 7, 8]
    assert hall.resize(4, [5, 7, 8]) == [0, 1, 2, 3]


def test_a_group_whose_games_have_stopped_is_not_stepped() -> None:
    hall = Hall(8)
    hall.resize(4)
    hall.resize(6)
    hall.step()
    hall.resize(4, [5])
    hall.step()
    hall.resize(4, [6])
    hall.step()
    assert [len(script.actions) for script in hall.made] == [3, 2]


def test_all_games_become_fewer_when_half_of_them_have_stopped() -> None:
    hall = Hall(8)
    hall.resize(8)
    hall.resize(4, [1, 2, 3])
    assert hall.names == [4, 5, 6, 7, 8]
    hall.resize(4, [4])
    assert hall.names == [5, 6, 7, 8, 9, 10, 11, 12]
    hall.step()
    hall.resize(4, [5, 6, 7, 8])
    assert hall.names == [9, 10, 11, 12]


def test_games_that_have_stopped_begin_anew_as_others() -> None:
    hall = Hall(4)
    hall.resize(2)
    hall.resize(1)
    hall.resize(2)
    assert hall.names == [3, 4]


def test_a_change_of_mind_before_a_game_has_stopped_changes_nothing() -> None:
    hall = Hall(8)
    hall.resize(8)
    hall.resize(4, [])
    assert hall.resize(8) == [*range(8)]
    assert len(hall.made) == 1


def test_actions_reach_their_games_and_stopped_games_get_valid_ones() -> None:
    hall = Hall(4)
    hall.resize(2)
    hall.resize(4)
    hall.resize(2, [])
    hall.resize(3, [])
    hall.resize(1, [1])
    names = hall.names
    actions = np.arange(len(names)) % 3
    hall.groups.step(actions)
    given = {game: action for script in hall.made for game, action in script.actions[-1].items()}
    assert {name: given[name] for name in names} == dict(zip(names, actions, strict=True))
    assert set(given.values()) <= {0, 1, 2}
    with pytest.raises(ValueError, match="actions"):
        hall.groups.step(actions[1:])


def test_final_observations_are_of_the_games_that_ended() -> None:
    hall = Hall(8, length=2)
    hall.resize(4)
    assert hall.step().final_observations is None
    hall.resize(8, [])
    step = hall.step()  # in it the first four end
    assert step.final_observations is not None
    assert step.final_observations.shape == step.observations.shape
    assert step.final_observations[:4, -1, 0].tolist() == [[1, 2], [2, 2], [3, 2], [4, 2]]
    assert (step.terminated | step.truncated).tolist() == [True] * 4 + [False] * 4
    assert step.truncated.tolist() == [True, False, True, False] + [False] * 4


@pytest.mark.parametrize("at_most", [1, 2, 5, 8])
def test_any_sequence_of_changes_comes_to_rest(at_most: int) -> None:
    rng = np.random.default_rng(at_most)
    for _ in range(20):
        hall = Hall(at_most)
        for target in rng.integers(1, at_most + 1, size=6):
            for _ in range(3):
                before = len(hall.names)
                hall.resize(target, [name for name in hall.names if rng.random() < 0.4])
                assert target <= len(hall.names) <= max(before, min(2 * target, at_most))
                hall.step()
        for _ in range(4):
            hall.resize(target)
        assert len(hall.names) == target


def test_a_reset_stops_all_games() -> None:
    hall = Hall(4)
    hall.resize(3)
    hall.groups.reset(10)
    hall.names = []
    hall.resize(2)
    assert hall.names == [10, 11]


def test_a_group_is_closed_when_its_games_have_stopped_or_with_the_others() -> None:
    hall = Hall(8)
    hall.groups.close()
    hall.resize(3)
    hall.resize(5, [])
    hall.resize(3, [4])
    assert [script.closed for script in hall.made] == [False, False]
    hall.resize(3, [5])
    assert [script.closed for script in hall.made] == [False, True]
    hall.groups.close()
    assert [script.closed for script in hall.made] == [True, True]


def test_groups_of_a_game_are_made_with_its_options() -> None:
    arcade = Arcade()
    groups = in_groups(arcade)("catch", 8, num_threads=2)
    groups.reset(0)
    nothing: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
    groups.resize(4, nothing)
    assert arcade.asked == [("catch", 4, {"num_threads": 2})]
    assert groups.protocol() == arcade.made[0].protocol()
    assert groups.num_actions == 3
