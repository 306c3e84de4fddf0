"""Evaluation: whole games played with fixed weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from asyncade_rl.choices import Policy
from asyncade_rl.envs import Environments, Observations
from asyncade_rl.network import ActorCritic

RESAMPLES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Choice:
    """What a network chose for E observations, and why.

    Attributes:
        actions: int64 [E].
        probabilities: float32 [E, A].
        values: float32 [E], in the units of the loss.
    """

    actions: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]


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
        return self.choose(observations).actions

    def choose(self, observations: Observations) -> Choice:
        """Returns actions, probabilities and values for observations uint8 [E, 4, H, W]."""
        with torch.inference_mode():
            logits, values = self._network(torch.from_numpy(observations))
            probabilities = logits.softmax(-1)
            if self._policy == "greedy":
                drawn = logits.argmax(-1)
            else:
                drawn = torch.multinomial(probabilities, 1, generator=self._generator).squeeze(1)
            return Choice(drawn.numpy(), probabilities.numpy(), values.numpy())


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


def figures(games: Round) -> dict[str, Any]:
    """Returns the figures of a round's finished games; of none, only their number.

    `interval_95` is that of the mean; None for a single game.
    """
    returns = games.returns
    if not returns:
        return {"episodes": 0}
    interval = interval_of_mean(returns)
    return {
        "episodes": len(returns),
        "mean": round(statistics.fmean(returns), 3),
        "interval_95": interval and [round(end, 3) for end in interval],
        "median": statistics.median(returns),
        "standard_deviation": round(statistics.pstdev(returns), 3),
        "min": min(returns),
        "max": max(returns),
        "mean_length": round(statistics.fmean(games.lengths), 1),
    }


def interval_of_mean(returns: Sequence[float]) -> tuple[float, float] | None:
    """Returns a 95% interval of the mean return: percentiles of a bootstrap.

    Returns are bounded and skewed, which an interval from their deviation ignores: at a mean of 20
    it may end above 21, the highest score of Pong (Efron and Tibshirani 1993, chapter 13).

    Args:
        returns: of independent games.

    Returns:
        Its ends; always the same ones for the same returns. None for fewer than two games.
    """
    if len(returns) < 2:
        return None
    values, random = np.asarray(returns, dtype=np.float64), np.random.default_rng(0)
    # One resample at a time: those of 100,000 games do not fit the memory together.
    means = [random.choice(values, len(values)).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
