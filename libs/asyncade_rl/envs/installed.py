"""Games of installed packages: any gymnasium.Env with images as observations.

Its images become grey, are resized to 84x84 and stacked by four, like those of Atari games. A step
here is a step there: an environment whose screen changes little from one to the next should skip
frames itself. Rewards and the end of an episode are its own.
"""

from __future__ import annotations

from typing import Any, Final

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import StickyAction

from asyncade_rl.envs.base import Observations, Step, check_actions
from asyncade_rl.games import FRAME_SIDE, UnknownGameError, installed

_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Grey of red, green and blue (ITU-R BT.601)."""


class InstalledEnvironments:
    """E environments of one game, stepped one after the other.

    Args:
        game: name of an entry point.
        num_envs: E.
        repeat_action_probability: sticky actions, in [0, 1).

    Raises:
        UnknownGameError: there is no such game, or it is not one of images and discrete actions.
    """

    def __init__(self, game: str, num_envs: int, *, repeat_action_probability: float) -> None:
        found = installed(game)
        self.num_envs = num_envs
        self.num_actions = found.num_actions
        self._envs: list[gymnasium.Env[Any, Any]] = [found.make() for _ in range(num_envs)]
        shape = _check(game, self._envs[0], self.num_actions)
        if repeat_action_probability:
            self._envs = [StickyAction(env, repeat_action_probability) for env in self._envs]
        self._rows, self._columns = (_area_weights(side) for side in shape[:2])
        self._stack = np.zeros((num_envs, 4, FRAME_SIDE, FRAME_SIDE), dtype=np.uint8)
        self._protocol = {
            "game": game,
            "emulator": str(self._envs[0].unwrapped),
            "frame_skip": "the game's own",
            "screen": f"{FRAME_SIDE}x{FRAME_SIDE} grey of {'x'.join(map(str, shape))}, stack 4",
            "repeat_action_probability": repeat_action_probability,
            "actions": self.num_actions,
            "episode": "the game's own",
        }

    def protocol(self) -> dict[str, Any]:
        """Returns the preprocessing and rules."""
        return dict(self._protocol)

    def reset(self, seed: int) -> Observations:
        """Restarts every game; environment i uses seed + i."""
        for number, env in enumerate(self._envs):
            self._begin(number, env.reset(seed=seed + number)[0])
        return self._stack.copy()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one step in every game."""
        check_actions(actions, self.num_envs, self.num_actions)
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        final = None
        for number, env in enumerate(self._envs):
            image, reward, terminated[number], cut, _ = env.step(actions[number])
            rewards[number] = float(reward)
            truncated[number] = cut and not terminated[number]
            self._push(number, image)
            if terminated[number] or truncated[number]:
                final = np.zeros_like(self._stack) if final is None else final
                final[number] = self._stack[number]
                self._begin(number, env.reset()[0])
        return Step(self._stack.copy(), rewards, terminated, truncated, final)

    def close(self) -> None:
        """Closes the games."""
        for env in self._envs:
            env.close()

    def _begin(self, number: int, image: npt.NDArray[np.uint8]) -> None:
        self._stack[number] = 0
        self._push(number, image)

    def _push(self, number: int, image: npt.NDArray[np.uint8]) -> None:
        """Pushes an image of a game onto its stack."""
        grey = image if image.ndim == 2 else image[..., 0] if image.shape[2] == 1 else image @ _LUMA
        stack = self._stack[number]
        stack[:-1] = stack[1:]
        stack[-1] = np.rint(self._rows @ grey.astype(np.float32) @ self._columns.T)


def _check(game: str, env: gymnasium.Env[Any, Any], num_actions: int) -> tuple[int, ...]:
    """Returns the shape of the images, or raises UnknownGameError."""
    images, actions = env.observation_space, env.action_space
    if not isinstance(actions, Discrete) or (actions.n, actions.start) != (num_actions, 0):
        raise UnknownGameError(f"game {game!r} has actions {actions}, not Discrete({num_actions})")
    shape = images.shape if isinstance(images, Box) and images.dtype == np.uint8 else None
    if shape is None or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise UnknownGameError(
            f"game {game!r} has observations {images}, not images: uint8 [H, W], [H, W, 1] or"
            " [H, W, 3]"
        )
    return shape


def _area_weights(side: int) -> npt.NDArray[np.float32]:
    """Returns float32 [84, side]: the share of each old pixel in each new one along an axis."""
    edges = np.arange(FRAME_SIDE + 1) * (side / FRAME_SIDE)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: npt.NDArray[np.float32] = (overlap.clip(min=0) * (FRAME_SIDE / side)).astype("f4")
    return weights
