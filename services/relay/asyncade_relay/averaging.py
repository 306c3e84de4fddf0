"""Many gradients as one, and the play they tell of: arithmetic, and nothing decided."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from asyncade_proto.limits import MAX_LOSSES, MAX_STEPS
from asyncade_proto.messages import Episodes, Float32, Gradients


class Average:
    """The mean of gradients, each weighted by the samples that it is a mean over.

    So it is the gradient of all their samples together, and a learner that weighs it by their sum
    makes the step that it would have made with each of them. Summed as they come in, in float64:
    the memory is one gradient's, however many there are.

    Attributes:
        count: gradients in it.
        samples: in all of them.
        policy_version: the oldest of theirs: lag is never understated.
        model: of all of them.
    """

    def __init__(self, first: Gradients) -> None:
        self.count = 0
        self.samples = 0
        self.policy_version = first.policy_version
        self.model = first.model
        self._sums: dict[str, npt.NDArray[np.float64]] = {
            name: np.zeros(tensor.shape, np.float64) for name, tensor in first.tensors.items()
        }
        self._losses: dict[str, tuple[float, int]] = {}
        self.add(first)

    def fits(self, message: Gradients) -> bool:
        """Whether a gradient is of the same parameters."""
        shapes = {name: tensor.shape for name, tensor in message.tensors.items()}
        return shapes == {name: tensor.shape for name, tensor in self._sums.items()}

    def add(self, message: Gradients) -> None:
        """Takes in a gradient that fits."""
        self.count += 1
        self.samples += message.samples
        self.policy_version = min(self.policy_version, message.policy_version)
        for name, total in self._sums.items():
            total += np.multiply(message.tensors[name], message.samples, dtype=np.float64)
        for name, value in message.losses.items():
            if name in self._losses or len(self._losses) < MAX_LOSSES:
                total_loss, samples = self._losses.get(name, (0.0, 0))
                weighted = total_loss + value * message.samples
                self._losses[name] = weighted, samples + message.samples

    def tensors(self) -> dict[str, Float32]:
        """Returns the mean of each parameter's gradient, float32 of its shape."""
        return {
            name: np.asarray(total / self.samples, dtype=np.float32)
            for name, total in self._sums.items()
        }

    def losses(self) -> dict[str, float]:
        """Returns the mean of each loss over the samples that it was told for."""
        means = {name: total / samples for name, (total, samples) in self._losses.items()}
        return {name: mean for name, mean in means.items() if math.isfinite(mean)}


_NONE: Final = Episodes(returns=np.zeros(0, np.float32), lengths=np.zeros(0, np.int32))


class Play:
    """Env steps and games that were told of, until they are told on: each exactly once."""

    def __init__(self) -> None:
        self._env_steps = 0
        self._episodes = _NONE

    def add(self, message: Gradients) -> None:
        """Takes in what a message tells of, whether its gradient is used or not."""
        self._env_steps += message.env_steps
        if len(message.episodes.returns):
            self._episodes = Episodes(
                returns=np.concatenate([self._episodes.returns, message.episodes.returns]),
                lengths=np.concatenate([self._episodes.lengths, message.episodes.lengths]),
            )

    def take(self) -> tuple[int, Episodes]:
        """Returns what one message may tell of, and keeps the rest for the next."""
        env_steps = min(self._env_steps, MAX_STEPS)
        told = Episodes(
            returns=self._episodes.returns[:MAX_STEPS], lengths=self._episodes.lengths[:MAX_STEPS]
        )
        self._env_steps -= env_steps
        self._episodes = Episodes(
            returns=self._episodes.returns[MAX_STEPS:], lengths=self._episodes.lengths[MAX_STEPS:]
        )
        return env_steps, told
