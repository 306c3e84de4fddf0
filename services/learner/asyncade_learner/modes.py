"""The two kinds of parallelism, seen from the learner: what it makes of the messages it accepts.

The actor's half is `asyncade_actor.modes`. Both kinds meet in `Trainer.step`. A phase of the
learner (calibration comes first) requests a kind of message, gathers messages until there are
enough, improves the policy with them, and names the phase that comes next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
import torch

from asyncade_learner.trainer import Improvement, Trainer
from asyncade_proto.messages import Gradients, Objective, Request, Trajectory, Upstream
from asyncade_rl.batch import batches_of
from asyncade_rl.noise_scale import GradientSum, NoiseScale
from asyncade_rl.objective import Samples, backpropagate, minibatches, prepare_all
from asyncade_rl.params import set_gradients
from asyncade_rl.schedule import minibatch_of
from asyncade_runtime.gradient_mean import GradientMean

MEASURED_EVERY: Final = 32
"""Batches per measurement of the noise scale in data mode. One costs a pass without steps, up to a
quarter of the batch's time, so 0.8% on average. The gradients between steps would cost nothing, but
each step uses up what they have in common: their noise scale was four times as high, or unknown."""

_SPAN_DATA: Final = 4
"""Measurements that the noise scale is averaged over in data mode: 128 batches."""

_SPAN_GRADIENTS: Final = 256
"""The same in gradient mode: updates. An update of two gradients says far less than a batch."""


class DataParallel:
    """Computes gradients here, from the trajectories that actors send."""

    request: Request = "trajectories"

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._trajectories: list[Trajectory] = []
        self._noise, self._batches = NoiseScale(_SPAN_DATA), 0
        self._generator = torch.Generator().manual_seed(0)  # the trainer's cuts what is learned

    @property
    def gathered(self) -> int:
        """Samples in the next batch."""
        return sum(one.env_steps for one in self._trajectories)

    def wanted(self, actors: int) -> int:
        """Returns the samples that a batch should have."""
        settings = self._trainer.settings
        games, steps = settings.play_of(actors)
        return max(settings.batch_samples, actors * games * steps)

    def add(self, message: Upstream) -> None:
        """Adds a trajectory to the batch."""
        assert isinstance(message, Trajectory)
        self._trajectories.append(message)

    def improve(self, remaining: float) -> Improvement:
        """Makes `passes` passes over the batch, with an optimiser step per minibatch.

        After a stop the rest is discarded: it could take longer than an orchestrator waits.

        Args:
            remaining: fraction of step size and entropy cost that is left.
        """
        trainer, stages = self._trainer, self._trainer.stages
        settings = trainer.settings
        size = minibatch_of(self.gathered, settings.batch_samples, settings.minibatch_size)
        objective = replace(settings.objective_at(remaining), minibatch_size=size)
        stages.enter("prepare", self.gathered)
        device = trainer.network.frame_mean.device
        batches = [b.to(device) for b in batches_of(self._trajectories, objective.discount)]
        samples = prepare_all(trainer.network, batches, objective)
        self._trajectories = []
        self._batches += 1
        if self._batches % MEASURED_EVERY == 0:
            self._measure(samples, objective)
        improvement = Improvement(noise_scale=self._noise.samples())
        for minibatch in minibatches(samples, objective, trainer.generator):
            if trainer.stop.is_set():
                break
            with trainer.timed(len(minibatch)):
                stages.enter("forward_backward", len(minibatch))
                losses = backpropagate(trainer.network, minibatch, objective)
                improvement.count(losses.as_numbers(), len(minibatch))
                trainer.step(remaining, size, improvement)
        return improvement

    def next(self) -> DataParallel:
        """Returns itself: this phase lasts until the end of the run."""
        return self

    def _measure(self, samples: Samples, objective: Objective) -> None:
        """Measures the noise scale: gradients of minibatches, all at the present parameters."""
        trainer, gradients = self._trainer, GradientSum()
        for minibatch in minibatches(samples, replace(objective, passes=1), self._generator):
            if trainer.stop.is_set():
                return
            trainer.tick()
            trainer.stages.enter("forward_backward", len(minibatch))
            backpropagate(trainer.network, minibatch, objective)
            gradients.add(trainer.network, len(minibatch))
        gradients.measure(self._noise)


class GradientParallel:
    """Averages the gradients that actors compute.

    By default one from each actor, of at most four. Applied one by one as they arrive, the
    gradients of two actors overshoot together at this step size: Pong then stood at 12 after
    640,000 env steps.
    """

    request: Request = "gradients"

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._mean = GradientMean()
        self._improvement = Improvement()
        self._noise, self._squared = NoiseScale(_SPAN_GRADIENTS), 0.0

    @property
    def gathered(self) -> int:
        """Samples in the next update."""
        return self._mean.samples

    def wanted(self, actors: int) -> int:
        """Returns the samples that an update should have."""
        settings = self._trainer.settings
        return settings.gradients_in_update(actors) * settings.minibatch_size

    def add(self, message: Upstream) -> None:
        """Adds a gradient to the mean."""
        assert isinstance(message, Gradients)
        self._trainer.stages.enter("prepare")
        self._mean.add(message.tensors, message.samples)
        self._improvement.count(message.losses, message.samples)
        squared = sum(float(np.vdot(one, one)) for one in message.tensors.values())
        self._squared += message.samples * squared

    def improve(self, remaining: float) -> Improvement:
        """Makes one optimiser step along the mean; it and its gradients measure the noise scale.

        Args:
            remaining: fraction of the step size that is left.
        """
        mean, improvement = self._mean, self._improvement
        squared_small = self._squared / mean.samples
        self._mean, self._improvement, self._squared = GradientMean(), Improvement(), 0.0
        set_gradients(self._trainer.network, mean.tensors())
        with self._trainer.timed(improvement.samples):
            self._trainer.step(remaining, mean.samples, improvement)
        if mean.count > 1 and improvement.updates:
            each, norm = mean.samples / mean.count, improvement.gradient_norm
            self._noise.add(each, squared_small, mean.samples, norm**2)
        improvement.noise_scale = self._noise.samples()
        return improvement

    def next(self) -> GradientParallel:
        """Returns itself: this phase lasts until the end of the run."""
        return self


LearnerMode: TypeAlias = DataParallel | GradientParallel


def make_mode(trainer: Trainer) -> LearnerMode:
    """Returns the mode that the settings name."""
    return DataParallel(trainer) if trainer.settings.mode == "data" else GradientParallel(trainer)
