"""The interface of environments: E copies of one game, stepped together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Observations: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [E, 4, 84, 84], newest frame last; zeros before an episode's first frame."""


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step in E environments.

    Attributes:
        observations: uint8 [E, 4, 84, 84]; after an episode's end, the next one's first.
        rewards: float32 [E], unclipped.
        terminated: bool [E], the game is over.
        truncated: bool [E], the time limit ended the game.
        final_observations: uint8 [E, 4, 84, 84], the last observations of the episodes that ended;
            other rows are undefined. None if no episode ended.
    """

    observations: Observations
    rewards: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    final_observations: Observations | None


class Environments(Protocol):
    """E copies of one game; each restarts in the step in which it ends."""

    @property
    def num_envs(self) -> int:
        """E."""
        ...

    @property
    def num_actions(self) -> int:
        """A; actions are in [0, A)."""
        ...

    def protocol(self) -> dict[str, Any]:
        """Returns the preprocessing and rules, for the log and the evaluation report."""
        ...

    def reset(self, seed: int) -> Observations:
        """Restarts every game; environment i uses seed + i. Returns the first observations."""
        ...

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one step in every game.

        Args:
            actions: int64 [E].

        Raises:
            ValueError: an action out of range, or not E of them.
        """
        ...

    def close(self) -> None:
        """Frees the games."""
        ...


def check_actions(actions: npt.NDArray[np.int64], num_envs: int, num_actions: int) -> None:
    """Raises ValueError unless actions are [num_envs] integers in [0, num_actions).

    An invalid action kills ale-py's worker thread, and `recv` then waits forever.
    """
    if actions.shape != (num_envs,):
        raise ValueError(f"actions have shape {actions.shape}, not ({num_envs},)")
    if ((actions < 0) | (actions >= num_actions)).any():
        raise ValueError(f"actions {actions.tolist()} are not all in 0..{num_actions - 1}")
