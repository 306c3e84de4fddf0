"""Dodge, a game for Asyncade: the entry point in pyproject.toml names `DODGE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncade_rl.games import Game

if TYPE_CHECKING:
    from my_game.dodge import Dodge


def make() -> Dodge:
    """Returns a new game. Imported here, gymnasium is loaded by actors and not by the learner."""
    from my_game.dodge import Dodge

    return Dodge()


DODGE = Game(num_actions=3, make=make)
