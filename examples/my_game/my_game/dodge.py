"""Dodge: rocks fall, a ship moves below them. In the manner of MinAtar's games, ten cells wide.

Every step rocks fall by a row and, two times in three, a new one appears at the top. Half of these
are above the ship, so that it cannot stay where it is. The ship, green, moves left, stays or moves
right. One point for every rock, red, that falls past it. The game is over when one hits it, or,
truncated, after 200 steps.

Random play scores 6 points a game.
"""

from __future__ import annotations

from typing import Any, Final

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

CELLS: Final = 10
LEFT, STAY, RIGHT = range(3)
MAX_STEPS: Final = 200

Image = npt.NDArray[np.uint8]


class Dodge(gymnasium.Env[Image, np.int64]):
    """A gymnasium environment: images uint8 [10, 10, 3], three actions."""

    def __init__(self) -> None:
        self.observation_space = Box(0, 255, (CELLS, CELLS, 3), np.uint8)
        self.action_space = Discrete(3)
        self._rocks = np.zeros((CELLS, CELLS), dtype=bool)
        self._ship = self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """Begins a game: no rocks, the ship anywhere."""
        super().reset(seed=seed)
        self._rocks[:] = False
        self._ship = int(self.np_random.integers(CELLS))
        self._steps = 0
        return self._image(), {}

    def step(self, action: np.int64) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Moves the ship, then the rocks."""
        self._steps += 1
        self._ship = int(np.clip(self._ship + action - STAY, 0, CELLS - 1))
        passed = int(self._rocks[-1].sum())  # those beside the ship: one on it has ended the game
        self._rocks[1:] = self._rocks[:-1]
        self._rocks[0] = False
        if self.np_random.random() < 2 / 3:
            aimed = self.np_random.random() < 0.5
            self._rocks[0, self._ship if aimed else self.np_random.integers(CELLS)] = True
        hit = bool(self._rocks[-1, self._ship])
        return self._image(), float(passed), hit, self._steps >= MAX_STEPS and not hit, {}

    def _image(self) -> Image:
        image = np.zeros((CELLS, CELLS, 3), dtype=np.uint8)
        image[..., 0] = self._rocks * 255
        image[-1, self._ship] = (0, 255, 0)
        return image
