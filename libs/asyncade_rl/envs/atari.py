"""Atari games with the usual preprocessing of published results.

Frame skip 4 with the maximum of the last two frames, 84x84 grey, stacks of 4, up to 30 no-ops at
the start, the minimal action set, whole games as episodes (Mnih et al. 2015, 2016). No sticky
actions by default (Machado et al. 2018 recommend 0.25).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Discrete

from asyncade_rl.envs.base import Observations, Step, check_actions
from asyncade_rl.envs.shown import Pictures
from asyncade_rl.games import FRAME_SIDE, num_actions

FRAME_SKIP: Final = 4
NOOP_MAX: Final = 30
MAX_FRAMES_PER_EPISODE: Final = 108_000

SCREEN: Final = (210, 160)
"""Height and width of the picture [pixels]."""


def emulator_options(repeat_action_probability: float) -> dict[str, Any]:
    """Returns the options of `AtariVectorEnv` that make the games: preprocessing and rules."""
    return {
        "max_num_frames_per_episode": MAX_FRAMES_PER_EPISODE,
        "repeat_action_probability": repeat_action_probability,
        "autoreset_mode": "SameStep",  # no reset steps to mask in the data
        "img_height": FRAME_SIDE,
        "img_width": FRAME_SIDE,
        "frameskip": FRAME_SKIP,
        "noop_max": NOOP_MAX,
        "reward_clipping": False,  # returns are reported in the game's own points
    }


class AtariEnvironments:
    """ALE games in `ale_py.vector_env.AtariVectorEnv` (C++, without Python work per game)."""

    def __init__(
        self, game: str, num_envs: int, *, repeat_action_probability: float, num_threads: int = 1
    ) -> None:
        self._protocol = {
            "game": game,
            "emulator": "ale-py AtariVectorEnv",
            "frame_skip": FRAME_SKIP,
            "max_pool": True,
            "screen": f"{FRAME_SIDE}x{FRAME_SIDE} grey, stack 4",
            "noop_max": NOOP_MAX,
            "repeat_action_probability": repeat_action_probability,
            "actions": num_actions(game),
            "episode": f"whole game, at most {MAX_FRAMES_PER_EPISODE} frames",
        }
        self.num_envs = num_envs
        self.num_actions = num_actions(game)
        self._envs = AtariVectorEnv(
            game,
            num_envs=num_envs,
            num_threads=num_threads,  # the default counts the host's cores, not the container's
            **emulator_options(repeat_action_probability),
        )
        if self._envs.single_action_space != Discrete(num_actions(game)):
            raise RuntimeError(
                f"ale-py gives {game} the actions {self._envs.single_action_space}, "
                f"asyncade_rl.games {num_actions(game)}: the installed releases do not match"
            )

    def protocol(self) -> dict[str, Any]:
        """Returns the preprocessing and rules."""
        return dict(self._protocol)

    def reset(self, seed: int) -> Observations:
        """Restarts every game; returns the first observations."""
        observations: Observations = self._envs.reset(seed=seed)[0]
        return observations

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one step in every game."""
        check_actions(actions, self.num_envs, self.num_actions)
        observations, rewards, terminated, truncated, info = self._envs.step(actions)
        return Step(
            observations=observations,
            rewards=np.asarray(rewards, dtype=np.float32),
            terminated=terminated,
            truncated=truncated & ~terminated,
            final_observations=info.get("final_obs"),
        )

    def close(self) -> None:
        """Frees the emulators."""
        self._envs.close()


class AtariScreen:
    """Shows an Atari game: a second emulator that plays it frame by frame, in colour.

    Seed, no-ops at the start, sticky actions and time limit are counted in frames, so the game is
    the same one; a difference in points or end is an error.
    """

    def __init__(self, game: str, repeat_action_probability: float) -> None:
        in_colour = {"img_height": SCREEN[0], "img_width": SCREEN[1], "grayscale": False}
        frame_by_frame = {"frameskip": 1, "maxpool": False, "stack_num": 1}
        options = emulator_options(repeat_action_probability) | in_colour | frame_by_frame
        self._envs = AtariVectorEnv(game, num_envs=1, num_threads=1, **options)
        self.action_names = tuple(action.name for action in self._envs.ale.get_action_set())

    def reset(self, seed: int, observations: Observations) -> Pictures:
        """Restarts the game; returns one picture, uint8 [1, 210, 160, 3]."""
        pictures: Pictures = self._envs.reset(seed=seed)[0][0]
        return pictures

    def step(self, actions: npt.NDArray[np.int64], step: Step) -> Pictures:
        """Plays the frames of an env step; returns uint8 [P, 210, 160, 3], P = 4, fewer at an end.

        Raises:
            RuntimeError: the game is another one than that of `step`.
        """
        frames: list[Pictures] = []
        reward, ended = 0.0, False
        while not ended and len(frames) < FRAME_SKIP:
            observations, rewards, terminated, truncated, info = self._envs.step(actions)
            reward += float(rewards[0])
            ended = bool(terminated[0] or truncated[0])
            frames.append(info["final_obs"][0, 0] if ended else observations[0, 0])
        played = float(step.rewards[0]), bool(step.terminated[0] | step.truncated[0])
        if (reward, ended) != played:
            raise RuntimeError("the emulator that shows the game plays another one: report this")
        return np.stack(frames)

    def close(self) -> None:
        """Frees the emulator."""
        self._envs.close()
