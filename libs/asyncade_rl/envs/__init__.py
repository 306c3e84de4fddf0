"""Environments of one game, stepped together; `make_environments` creates them."""

from __future__ import annotations

from asyncade_rl.envs.base import Environments, Observations, Step
from asyncade_rl.games import CATCH, NUM_ACTIONS

__all__ = ["Environments", "Observations", "Step", "make_environments"]


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
