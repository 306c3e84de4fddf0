"""The interface of environments: E games of one kind, stepped together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Observations: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [E, 4, 84, 84], the newest frame last; zeros before an episode's first frame."""


@dataclass(frozen=True, slots=True)
class Step:
    """What E environments answer to E actions.

    Attributes:
        observations: uint8 [E, 4, 84, 84]. Where an episode ended it is the next one's first.
        rewards: float32 [E], the game's own (unclipped).
        terminated: bool [E], the game is over.
        truncated: bool [E], the time limit cut the game off.
        final_observations: uint8 [E, 4, 84, 84], what was seen last, in the rows where an episode
            ended (other rows are not to be read); None where none did.
    """

    observations: Observations
    rewards: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    final_observations: Observations | None


class Environments(Protocol):
    """E games of one kind, reset by themselves in the step in which they end."""

    @property
    def num_envs(self) -> int:
        """E."""
        ...

    @property
    def num_actions(self) -> int:
        """Actions are the integers below this."""
        ...

    def protocol(self) -> dict[str, Any]:
        """Says how the game is played, for the log and the run folder."""
        ...

    def reset(self, seed: int) -> Observations:
        """Starts every game anew; environment i uses seed + i."""
        ...

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Plays one step in every game.

        Raises:
            ValueError: an action that the game does not have, or not E of them.
        """
        ...

    def close(self) -> None:
        """Frees the games."""
        ...


def check_actions(actions: npt.NDArray[np.int64], num_envs: int, num_actions: int) -> None:
    """Raises ValueError unless actions is [num_envs] of integers in [0, num_actions).

    ale-py must never see an invalid action: its worker thread dies of it and `recv` waits forever.
    """
    if actions.shape != (num_envs,):
        raise ValueError(f"actions have shape {actions.shape}, not ({num_envs},)")
    if ((actions < 0) | (actions >= num_actions)).any():
        raise ValueError(f"actions {actions.tolist()} are not all in 0..{num_actions - 1}")
