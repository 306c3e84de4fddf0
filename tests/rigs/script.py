"""Games that follow a script, so that every frame, reward and end says which game it is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs import Step

UInt8 = npt.NDArray[np.uint8]


class Script:
    """Games named by their seeds. A frame is two pixels, the game's name and the episode's age in
    env steps; a reward is the name.

    Args:
        size: number of games.
        length: env steps of every episode of a game; an odd game is truncated, an even one
            terminated.

    Attributes:
        actions: of every step, by game.
    """

    num_actions = 3

    def __init__(self, size: int, length: Callable[[int], int]) -> None:
        self.num_envs = size
        self.length = length
        self.actions: list[dict[int, int]] = []
        self.closed = False

    def protocol(self) -> dict[str, Any]:
        return {"size": self.num_envs}

    def reset(self, seed: int) -> UInt8:
        self.games = seed + np.arange(self.num_envs)
        self.ages = np.zeros(self.num_envs, np.int64)
        self.stack = np.zeros((self.num_envs, 4, 1, 2), np.uint8)
        self._show(np.full(self.num_envs, True))
        return self.stack.copy()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        assert actions.shape == (self.num_envs,)
        self.actions.append(dict(zip(self.games.tolist(), actions.tolist(), strict=True)))
        self.ages += 1
        self._show(np.full(self.num_envs, True))
        final = self.stack.copy()
        over = self.ages == [self.length(game) for game in self.games]
        self.ages[over] = 0
        self.stack[over] = 0
        self._show(over)
        return Step(
            observations=self.stack.copy(),
            rewards=self.games.astype(np.float32),
            terminated=over & (self.games % 2 == 0),
            truncated=over & (self.games % 2 == 1),
            final_observations=final if over.any() else None,
        )

    def close(self) -> None:
        self.closed = True

    def _show(self, games: npt.NDArray[np.bool_]) -> None:
        self.stack[games, :-1] = self.stack[games, 1:]
        self.stack[games, -1, 0] = np.stack([self.games, self.ages], axis=1)[games]
