"""Environments of one game, stepped together; `make_environments` creates them.

`make_shown_game` creates a single one that has pictures in colour.
"""

from __future__ import annotations

from asyncade_rl.envs.base import Environments, Observations, Step
from asyncade_rl.envs.shown import GreyScreen, ShownGame
from asyncade_rl.games import CATCH, NUM_ACTIONS

__all__ = [
    "Environments",
    "Observations",
    "ShownGame",
    "Step",
    "is_atari",
    "make_environments",
    "make_shown_game",
]


def make_environments(
    game: str, num_envs: int, *, repeat_action_probability: float = 0.0, num_threads: int = 1
) -> Environments:
    """Returns E environments of one game.

    Args:
        game: an ALE id such as ``pong``, ``catch``, or a game of an installed package.
        num_envs: E.
        repeat_action_probability: sticky actions, in [0, 1); ignored by ``catch``.
        num_threads: threads that step the games.

    Raises:
        UnknownGameError: no game has this id, or that of a package cannot be used.
    """
    if game == CATCH:
        from asyncade_rl.envs.catch import Catch

        return Catch(num_envs)
    if game not in NUM_ACTIONS:
        from asyncade_rl.envs.installed import InstalledEnvironments  # loads gymnasium

        return InstalledEnvironments(
            game, num_envs, repeat_action_probability=repeat_action_probability
        )
    from asyncade_rl.envs.atari import AtariEnvironments  # loads ale-py only if needed

    return AtariEnvironments(
        game,
        num_envs,
        repeat_action_probability=repeat_action_probability,
        num_threads=num_threads,
    )


def make_shown_game(game: str, *, repeat_action_probability: float = 0.0) -> ShownGame:
    """Returns one game that is also shown as it is played: in colour if ale-py plays it.

    Args:
        game: an ALE id such as ``pong``, ``catch``, or a game of an installed package.
        repeat_action_probability: sticky actions, in [0, 1); ignored by ``catch``.

    Raises:
        UnknownGameError: no game has this id, or that of a package cannot be used.
    """
    sticky = repeat_action_probability
    if is_atari(game):
        from asyncade_rl.envs.atari import AtariEnvironments, AtariScreen  # loads ale-py

        played = AtariEnvironments(game, 1, repeat_action_probability=sticky)
        return ShownGame(played, AtariScreen(played, game, sticky))
    environments = make_environments(game, 1, repeat_action_probability=sticky)
    numbers = tuple(map(str, range(environments.num_actions)))
    names = ("LEFT", "STAY", "RIGHT") if game == CATCH else numbers
    return ShownGame(environments, GreyScreen(names))


def is_atari(game: str) -> bool:
    """Returns whether ale-py plays a game."""
    return game != CATCH and game in NUM_ACTIONS
