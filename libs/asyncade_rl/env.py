"""Environments: many games of one kind, stepped together, on one protocol.

The protocol is that of the figures this project compares itself with (Mnih et al. 2015, 2016):
frame skip 4 with the maximum of the last two frames, 84x84 grey, stacks of 4, up to 30 no-op
starts, the game's minimal actions, an episode is a whole game, no sticky actions unless asked for
(Machado et al. 2018 recommend 0.25).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from asyncade_rl.games import CATCH, FRAME_SIDE, num_actions

FRAME_SKIP: Final = 4
NOOP_MAX: Final = 30
MAX_FRAMES_PER_EPISODE: Final = 108_000

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


class AtariEnvironments:
    """ALE games over `ale_py.vector_env.AtariVectorEnv` (C++, no per-game Python work)."""

    def __init__(
        self, game: str, num_envs: int, *, repeat_action_probability: float, num_threads: int = 1
    ) -> None:
        # Only actors have these two, and only those that play ALE need them.
        from ale_py.vector_env import AtariVectorEnv
        from gymnasium.spaces import Discrete

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
        self._num_envs = num_envs
        self._envs = AtariVectorEnv(
            game,
            num_envs=num_envs,
            num_threads=num_threads,  # its default reads the host's cores, not the container's
            max_num_frames_per_episode=MAX_FRAMES_PER_EPISODE,
            repeat_action_probability=repeat_action_probability,
            autoreset_mode="SameStep",  # contiguous data: no step is played that must be masked
            img_height=FRAME_SIDE,
            img_width=FRAME_SIDE,
            frameskip=FRAME_SKIP,
            noop_max=NOOP_MAX,
            reward_clipping=False,  # returns are reported in the game's own points
        )
        if self._envs.single_action_space != Discrete(num_actions(game)):
            raise RuntimeError(
                f"ale-py gives {game} the actions {self._envs.single_action_space}, "
                f"asyncade_rl.games says {num_actions(game)}: the releases do not fit together"
            )

    @property
    def num_envs(self) -> int:
        """E."""
        return self._num_envs

    @property
    def num_actions(self) -> int:
        """The size of the game's minimal action set."""
        return num_actions(str(self._protocol["game"]))

    def protocol(self) -> dict[str, Any]:
        """Says how the game is played."""
        return dict(self._protocol)

    def reset(self, seed: int) -> Observations:
        """Starts every game anew."""
        observations: Observations = self._envs.reset(seed=seed)[0]
        return observations

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Plays one step in every game."""
        check_actions(actions, self._num_envs, self.num_actions)
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


def make_environments(
    game: str, num_envs: int, *, repeat_action_probability: float = 0.0, num_threads: int = 1
) -> Environments:
    """Returns `num_envs` games of one kind.

    Args:
        game: an ALE id such as ``pong``, or ``catch``.
        num_envs: E.
        repeat_action_probability: sticky actions.
        num_threads: threads that step the emulators.

    Raises:
        UnknownGameError: there is no such game.
    """
    num_actions(game)
    if game == CATCH:
        from asyncade_rl.catch import Catch

        return Catch(num_envs)
    return AtariEnvironments(
        game,
        num_envs,
        repeat_action_probability=repeat_action_probability,
        num_threads=num_threads,
    )
