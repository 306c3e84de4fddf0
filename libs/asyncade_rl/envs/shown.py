"""One game that is also shown, in colour and at full size: for films and the live page.

The agent's emulator renders only what the agent sees. So a second emulator plays the same game
frame by frame, from the same seed, with the same actions: it shows what a person would see, and the
observations stay what they are in training, for it is the training's emulator that makes them.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from asyncade_rl.envs.base import Environments, Observations, Step

Pictures: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [P, H, W, 3], RGB, in the order in which they are shown."""

PICTURES_PER_SECOND: Final = 60
"""Real time: every frame of the emulator. Many games draw some of their objects in every second
frame only; the maximum of two frames has all of them."""

ENV_STEPS_PER_SECOND: Final = 15
"""Real time: the agent acts in every fourth frame."""

_PER_STEP: Final = PICTURES_PER_SECOND // ENV_STEPS_PER_SECOND


def in_words(action_name: str) -> str:
    """Returns an action's name as people read it: ``up right + fire`` of ``UPRIGHTFIRE``."""
    words = "wait" if action_name == "NOOP" else action_name.lower()
    words = re.sub("(up|down)(left|right)", r"\1 \2", words)
    return re.sub(r"(?<=\w)fire$", " + fire", words)


class Screen(Protocol):
    """Shows a game that is played elsewhere.

    Attributes:
        action_names: what each action does, such as ``LEFT``.
    """

    action_names: tuple[str, ...]

    def reset(self, seed: int, observations: Observations) -> Pictures:
        """Returns the pictures of the beginning; observations are those of the game."""
        ...

    def step(self, actions: npt.NDArray[np.int64], step: Step) -> Pictures:
        """Returns the pictures of an env step, int64 [1], and of its result in the game."""
        ...


class ShownGame:
    """An `Environments` with E = 1 that also has pictures. `make_shown_game` creates it.

    Attributes:
        action_names: what each action does, such as ``LEFT``; one for each of `num_actions`.
        pictures: of the latest env step, or of the beginning after `reset`. Those of a step that
            ends a game are of its end; the next game's beginning is not shown.
    """

    def __init__(self, environments: Environments, screen: Screen) -> None:
        self._environments = environments
        self._screen = screen
        self.pictures: Pictures = np.zeros((0, 1, 1, 3), dtype=np.uint8)
        self.num_envs = 1
        self.num_actions = environments.num_actions
        self.action_names = screen.action_names

    def protocol(self) -> dict[str, Any]:
        """Returns the preprocessing and rules."""
        return self._environments.protocol()

    def reset(self, seed: int) -> Observations:
        """Restarts the game; returns the first observations, uint8 [1, 4, 84, 84]."""
        observations = self._environments.reset(seed)
        self.pictures = self._screen.reset(seed, observations)
        return observations

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one env step; actions are int64 [1]."""
        step = self._environments.step(actions)
        self.pictures = self._screen.step(actions, step)
        return step

    def close(self) -> None:
        """Frees the game."""
        self._environments.close()


class GreyScreen:
    """Shows the newest frame that the agent sees: of games that have no other screen."""

    def __init__(self, action_names: tuple[str, ...]) -> None:
        self.action_names = action_names

    def reset(self, seed: int, observations: Observations) -> Pictures:
        """Returns the first frame."""
        return _grey(observations)

    def step(self, actions: npt.NDArray[np.int64], step: Step) -> Pictures:
        """Returns the newest frame; at an episode's end its last one."""
        final = step.final_observations
        return _grey(step.observations if final is None else final)


def _grey(observations: Observations) -> Pictures:
    frame = observations[0, -1]
    return np.stack([np.stack([frame] * 3, axis=-1)] * _PER_STEP)
