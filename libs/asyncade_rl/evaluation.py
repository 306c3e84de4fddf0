"""Evaluation: whole games played with fixed weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from asyncade_rl.choices import Policy
from asyncade_rl.envs import Environments, Observations
from asyncade_rl.network import ActorCritic


class Chooser:
    """Chooses actions with a network.

    Args:
        network: its current weights are used.
        policy: sample or greedy.
        seed: of the draws.
    """

    def __init__(self, network: ActorCritic, policy: Policy, seed: int) -> None:
        self._network = network
        self._policy = policy
        self._generator = torch.Generator().manual_seed(seed)

    def actions(self, observations: Observations) -> npt.NDArray[np.int64]:
        """Returns int64 [E] for observations uint8 [E, 4, H, W]."""
        with torch.inference_mode():
            logits, _ = self._network(torch.from_numpy(observations))
            if self._policy == "greedy":
                return np.asarray(logits.argmax(-1).numpy())
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=self._generator)
            return np.asarray(drawn.squeeze(1).numpy())


class Round:
    """A fixed number of whole games, stepped in all environments together.

    Every environment plays an equal share of the games. Counting the first to finish instead would
    favour short games.

    Args:
        environments: E games; the round resets them.
        episodes: games to play.
        seed: of the games.

    Attributes:
        returns: of the finished games, unclipped.
        lengths: of the same games, in env steps.
    """

    def __init__(self, environments: Environments, episodes: int, seed: int) -> None:
        envs = environments.num_envs
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self._environments = environments
        self._observations = environments.reset(seed)
        self._share = [episodes // envs + (i < episodes % envs) for i in range(envs)]
        self._score = np.zeros(envs)
        self._length = np.zeros(envs, dtype=np.int64)

    @property
    def over(self) -> bool:
        """True once every game has ended."""
        return not any(self._share)

    def step(self, actions: Callable[[Observations], npt.NDArray[np.int64]]) -> None:
        """Takes one env step in every environment.

        Args:
            actions: chooses int64 [E] for observations uint8 [E, 4, H, W].
        """
        step = self._environments.step(actions(self._observations))
        self._observations = step.observations
        self._score += step.rewards
        self._length += 1
        for env in np.flatnonzero(step.terminated | step.truncated):
            if self._share[env]:
                self._share[env] -= 1
                self.returns.append(float(self._score[env]))
                self.lengths.append(int(self._length[env]))
            self._score[env] = self._length[env] = 0
