"""The table of games against ale-py, and suggestions for unknown names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms

from asyncade_rl.envs import make_environments
from asyncade_rl.games import CATCH, NUM_ACTIONS, UnknownGameError, largest_reward, num_actions

ATARI = [game for game in NUM_ACTIONS if game != CATCH]


def test_every_game_exists_in_ale_py() -> None:
    assert set(ATARI) <= set(roms.get_all_rom_ids())


def test_numbers_of_actions_are_those_of_ale_py() -> None:
    """Loads only games of the table: a game for two players ends the process."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    found = {}
    for game in ATARI:
        emulator = ALEInterface()
        emulator.loadROM(roms.get_rom_path(game))
        found[game] = len(emulator.getMinimalActionSet())
    assert found == {game: NUM_ACTIONS[game] for game in ATARI}


def test_a_known_game_has_its_actions() -> None:
    assert (num_actions("pong"), num_actions(CATCH)) == (6, 3)


@pytest.mark.parametrize(("game", "largest"), [("pong", 1.0), (CATCH, 1.0), ("breakout", math.inf)])
def test_no_env_step_brings_more_than_the_largest_reward(game: str, largest: float) -> None:
    assert largest_reward(game) == largest
    environments = make_environments(game, 4)
    environments.reset(1)
    draw = np.random.default_rng(1)
    for actions in draw.integers(environments.num_actions, size=(300, 4)):
        assert (np.abs(environments.step(actions).rewards) <= largest).all()
    environments.close()


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("pongg", "pong"), ("Pong", "pong"), ("spaceinvaders", "space_invaders"), ("cach", "catch")],
)
def test_an_unknown_game_gets_a_suggestion(asked: str, meant: str) -> None:
    with pytest.raises(UnknownGameError, match=rf"'{asked}'; did you mean {meant}\b"):
        num_actions(asked)


def test_a_name_unlike_any_game_gets_no_suggestion() -> None:
    with pytest.raises(UnknownGameError) as caught:
        num_actions("#####")
    assert "did you mean" not in str(caught.value)
    assert "pong" in str(caught.value)
