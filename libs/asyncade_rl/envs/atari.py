"""Atari games with the usual preprocessing of published results.

Frame skip 4 with the maximum of the last two frames, 84x84 grey, stacks of 4, up to 30 no-ops at
the start, the minimal action set, whole games as episodes (Mnih et al. 2015, 2016). No sticky
actions by default (Machado et al. 2018 recommend 0.25).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ale_py import Action, ALEInterface, LoggerMode, roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Discrete

from asyncade_rl.envs.base import Observations, Step, check_actions
from asyncade_rl.envs.shown import Pictures
from asyncade_rl.games import FRAME_SIDE, num_actions

FRAME_SKIP: Final = 4
NOOP_MAX: Final = 30
MAX_FRAMES_PER_EPISODE: Final = 108_000

_ANOTHER_GAME: Final = "the emulator that shows the game plays another one: report this"


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
    """ALE games in `ale_py.vector_env.AtariVectorEnv` (C++, without Python work per game).

    Attributes:
        frames: int [E], how many each emulator has played since `reset`, no-ops included.
    """

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
        self.frames: npt.NDArray[np.int32] = np.zeros(num_envs, dtype=np.int32)
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
        observations: Observations
        observations, info = self._envs.reset(seed=seed)
        self.frames = info["frame_number"]
        return observations

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Takes one step in every game."""
        check_actions(actions, self.num_envs, self.num_actions)
        observations, rewards, terminated, truncated, info = self._envs.step(actions)
        self.frames = info["frame_number"]
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
    """Shows an Atari game: a second emulator that plays the same frames, in colour.

    Given the seed and the number of no-ops at the start, everything else follows, sticky actions
    included. A difference in points, end or frames is an error.

    Source: ale-py 0.12.1, src/ale/vector/preprocessed_env.cpp.

    Args:
        environments: play the game, E = 1.
        game: theirs.
        repeat_action_probability: theirs.
    """

    def __init__(
        self, environments: AtariEnvironments, game: str, repeat_action_probability: float
    ) -> None:
        self._environments = environments
        rom = roms.get_rom_path(game)
        assert rom is not None, "the other emulator has it too"
        self._rom = rom
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._ale = ALEInterface()
        self._ale.setFloat("repeat_action_probability", repeat_action_probability)
        self._ale.loadROM(self._rom)
        self._actions = self._ale.getMinimalActionSet()
        self.action_names = tuple(action.name for action in self._actions)

    def reset(self, seed: int, observations: Observations) -> Pictures:
        """Restarts the game; returns one picture, uint8 [1, H, W, 3]."""
        self._ale.setInt("random_seed", seed)
        self._ale.loadROM(self._rom)  # takes the seed over
        self._begin()
        pictures: Pictures = self._ale.getScreenRGB()[None]
        return pictures

    def step(self, actions: npt.NDArray[np.int64], step: Step) -> Pictures:
        """Plays the frames of an env step; returns uint8 [P, H, W, 3], P = 4, fewer at an end.

        Raises:
            RuntimeError: the game is another one than that of `step`.
        """
        pictures = np.empty((FRAME_SKIP, *self._ale.getScreenDims(), 3), dtype=np.uint8)
        played = reward = 0
        while played < FRAME_SKIP and not self._ale.game_over():
            reward += self._ale.act(self._actions[actions[0]])
            self._ale.getScreenRGB(pictures[played])
            played += 1
        if (reward, self._ale.game_over()) != (step.rewards[0], step.terminated[0]):
            raise RuntimeError(_ANOTHER_GAME)
        if step.terminated[0] or step.truncated[0]:
            self._begin()
        elif self._ale.getFrameNumber() != self._environments.frames[0]:
            raise RuntimeError(_ANOTHER_GAME)
        return pictures[:played]

    def _begin(self) -> None:
        """Begins a game with as many no-ops as the other emulator has drawn for it."""
        self._ale.reset_game()
        if Action.FIRE in self._actions:
            self._ale.act(Action.FIRE)
        while self._ale.getFrameNumber() < self._environments.frames[0]:
            self._ale.act(Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
