"""Catch: a ball falls, a paddle moves below it.

Learned in seconds, for tests that have no time for Pong (Mnih et al. 2014, "Recurrent models of
visual attention").

Twelve rows and columns of 7x7 pixels. The ball falls one row a step from a random column; the
paddle in the last row stays or moves by one. +1 for a catch, -1 for a miss, then a new ball.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs.base import Observations, Step, check_actions
from asyncade_rl.games import CATCH, FRAME_SIDE, num_actions

CELLS: Final = 12
_PIXELS: Final = FRAME_SIDE // CELLS


class Catch:
    """E games of Catch, in numpy."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.num_actions = num_actions(CATCH)  # left, stay, right
        self._random = np.random.default_rng(0)
        self._row = np.zeros(num_envs, dtype=np.int64)
        self._column = np.zeros(num_envs, dtype=np.int64)
        self._paddle = np.zeros(num_envs, dtype=np.int64)
        self._stack = np.zeros((num_envs, 4, FRAME_SIDE, FRAME_SIDE), dtype=np.uint8)

    def protocol(self) -> dict[str, Any]:
        """Returns the rules."""
        return {"game": CATCH, "screen": "84x84 grey, stack 4", "episode": f"{CELLS - 1} steps"}

    def reset(self, seed: int) -> Observations:
        """Restarts every game; one seed serves all games together."""
        self._random = np.random.default_rng(seed)
        self._begin(np.arange(self.num_envs))
        return self._stack.copy()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one step in every game."""
        check_actions(actions, self.num_envs, self.num_actions)
        self._paddle = np.clip(self._paddle + actions - 1, 0, CELLS - 1)
        self._row += 1
        self._push_frames(np.arange(self.num_envs))
        ended = self._row == CELLS - 1
        caught = np.where(self._paddle == self._column, 1.0, -1.0)
        final = self._stack.copy() if ended.any() else None
        self._begin(np.flatnonzero(ended))
        return Step(
            observations=self._stack.copy(),
            rewards=np.where(ended, caught, 0.0).astype(np.float32),
            terminated=ended,
            truncated=np.zeros(self.num_envs, dtype=bool),
            final_observations=final,
        )

    def close(self) -> None:
        """Nothing to free."""

    def _begin(self, games: npt.NDArray[np.int64]) -> None:
        """Starts new episodes in these games."""
        self._row[games] = 0
        self._column[games] = self._random.integers(CELLS, size=len(games))
        self._paddle[games] = self._random.integers(CELLS, size=len(games))
        self._stack[games] = 0
        self._push_frames(games)

    def _push_frames(self, games: npt.NDArray[np.int64]) -> None:
        """Draws the current frames of these games and pushes them onto their stacks."""
        cells = np.zeros((len(games), CELLS, CELLS), dtype=np.uint8)
        each = np.arange(len(games))
        cells[each, self._row[games], self._column[games]] = 255
        cells[each, CELLS - 1, self._paddle[games]] = 255
        self._stack[games, :-1] = self._stack[games, 1:]
        self._stack[games, -1] = cells.repeat(_PIXELS, axis=1).repeat(_PIXELS, axis=2)
