"""What the learner does with accepted messages: calibrate first, then one of two kinds of learning.

Each phase says which kind of message it wants, gathers until it is ready, and improves the network.
Data and gradient parallelism meet in `Trainer.step`: one optimiser, one step-size schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from asyncade_learner.settings import LearnerSettings
from asyncade_proto.messages import STACK, Gradients, Request, Trajectory, Upstream
from asyncade_rl.batch import batch_of
from asyncade_rl.network import ActorCritic
from asyncade_rl.normalisation import FrameStatistics
from asyncade_rl.objective import backpropagate, minibatches, prepare
from asyncade_rl.optimiser import Optimiser
from asyncade_rl.params import GradientMean, set_gradients
from asyncade_runtime.stages import Stages


@dataclass(slots=True)
class Improvement:
    """What one improvement of the policy consisted of.

    Attributes:
        updates: optimiser steps made.
        non_finite: optimiser steps refused because the gradient was not finite.
        samples: samples in all its gradients.
        losses: name to mean over the gradients.
        gradient_norm: of the last one, before the clip.
        learning_rate: of the last one.
    """

    updates: int = 0
    non_finite: int = 0
    samples: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    gradient_norm: float = 0.0
    learning_rate: float = 0.0

    def count(self, losses: Mapping[str, float], samples: int) -> None:
        """Takes in the losses of one gradient, weighted by its samples."""
        self.samples += samples
        for name, value in losses.items():
            mean = self.losses.get(name, 0.0)
            self.losses[name] = mean + (value - mean) * samples / self.samples


class Phase(Protocol):
    """A way of using messages."""

    @property
    def request(self) -> Request:
        """The kind of message wanted from actors."""
        ...

    @property
    def gathered(self) -> int:
        """Messages that wait to be used."""
        ...

    def enough(self, actors: int) -> bool:
        """Whether to improve now, given how many actors there are."""
        ...

    def add(self, message: Upstream) -> None:
        """Takes an accepted message of the kind requested."""
        ...

    def improve(self, remaining: float) -> Improvement:
        """Uses up what was gathered, with this fraction left of step size and entropy cost."""
        ...


class Trainer:
    """The network, its optimiser, and the step that both kinds of learning share.

    Args:
        network: to be improved.
        settings: the run's.
        stages: told what time goes into.
        tick: called every step: a batch of hundreds of actors takes minutes, and is no stall.
    """

    def __init__(
        self,
        network: ActorCritic,
        settings: LearnerSettings,
        stages: Stages,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.network = network
        self.settings = settings
        self.stages = stages
        self._tick = tick
        self.optimiser = Optimiser(
            network,
            max_gradient_norm=settings.max_gradient_norm,
            epsilon=settings.adam_epsilon,
        )
        self.generator = torch.Generator().manual_seed(settings.seed)

    def step(self, remaining: float, improvement: Improvement) -> None:
        """Moves the parameters by the gradients they hold, and counts it."""
        self._tick()
        self.stages.enter("optimise")
        improvement.learning_rate = self.settings.learning_rate_at(remaining)
        norm = self.optimiser.step(improvement.learning_rate)
        if norm is None:
            improvement.non_finite += 1
        else:
            improvement.updates += 1
            improvement.gradient_norm = norm


class Calibration:
    """Sets the input normalisation from the first trajectories, which nearly random play makes."""

    request: Request = "trajectories"

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._statistics = FrameStatistics()
        self.gathered = 0

    @property
    def done(self) -> bool:
        """Whether enough frames were seen."""
        return self._statistics.count >= self._trainer.settings.calibration_env_steps

    def enough(self, actors: int) -> bool:
        """Whether to publish, and so to give actors credit for more."""
        return self.gathered >= max(1, actors)

    def add(self, message: Upstream) -> None:
        """Takes a trajectory's new frames (its first stack was in the one before, or is padded)."""
        assert isinstance(message, Trajectory)
        self._statistics.add(message.frames[:, STACK:])
        self.gathered += 1

    def improve(self, remaining: float) -> Improvement:
        """Writes the statistics into the network, once they are complete."""
        self.gathered = 0
        if self.done:
            self._statistics.apply_to(self._trainer.network)
        return Improvement()


class DataParallel:
    """Computes the gradients here, from trajectories."""

    request: Request = "trajectories"

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._trajectories: list[Trajectory] = []

    @property
    def gathered(self) -> int:
        """Trajectories that wait."""
        return len(self._trajectories)

    def enough(self, actors: int) -> bool:
        """Whether a batch is together."""
        return self.gathered >= self._trainer.settings.unrolls_in_batch(actors)

    def add(self, message: Upstream) -> None:
        """Takes a trajectory."""
        assert isinstance(message, Trajectory)
        self._trajectories.append(message)

    def improve(self, remaining: float) -> Improvement:
        """Goes over the batch `passes` times, a step per minibatch."""
        trainer, stages = self._trainer, self._trainer.stages
        objective = trainer.settings.objective_at(remaining)
        stages.enter("prepare")
        device = trainer.network.frame_mean.device
        batch = batch_of(self._trajectories, objective.discount).to(device)
        samples = prepare(trainer.network, batch, objective)
        self._trajectories = []
        improvement = Improvement()
        for minibatch in minibatches(samples, objective, trainer.generator):
            stages.enter("forward_backward")
            losses = backpropagate(trainer.network, minibatch, objective)
            improvement.count(losses.as_numbers(), len(minibatch))
            trainer.step(remaining, improvement)
        return improvement


class GradientParallel:
    """Averages the gradients that actors computed.

    By default one of every actor: all were taken at the present weights, none is stale. Applied one
    by one as they come, two actors' gradients at this step size overshoot together: Pong then stood
    at 12 after 640,000 env steps. An actor that dies costs the others a few times
    `patience_seconds`, until it no longer counts as active.
    """

    request: Request = "gradients"

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._mean = GradientMean()
        self._improvement = Improvement()

    @property
    def gathered(self) -> int:
        """Gradients that wait."""
        return self._mean.count

    def enough(self, actors: int) -> bool:
        """Whether the gradients of an update are together."""
        return self.gathered >= self._trainer.settings.gradients_in_update(actors)

    def add(self, message: Upstream) -> None:
        """Takes a gradient."""
        assert isinstance(message, Gradients)
        self._trainer.stages.enter("prepare")
        self._mean.add(message.tensors, message.samples)
        self._improvement.count(message.losses, message.samples)

    def improve(self, remaining: float) -> Improvement:
        """Makes one step by the average, weighted by samples."""
        mean, improvement = self._mean, self._improvement
        self._mean, self._improvement = GradientMean(), Improvement()
        set_gradients(self._trainer.network, mean.tensors())
        self._trainer.step(remaining, improvement)
        return improvement


def learning_phase(trainer: Trainer) -> Phase:
    """Returns the phase of the settings' mode."""
    match trainer.settings.mode:
        case "data":
            return DataParallel(trainer)
        case "gradients":
            return GradientParallel(trainer)
