"""The two kinds of parallelism, seen from the learner: what it makes of the messages it accepts.

The actor's half is `asyncade_actor.modes`. Both kinds meet in `Trainer.step`. A phase of the
learner (calibration comes first) requests a kind of message, gathers messages until there are
enough, improves the policy with them, and names the phase that comes next.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, TypeAlias

import torch

from asyncade_learner.trainer import Improvement, Trainer
from asyncade_proto.messages import Gradients, Objective, Request, Trajectory, Upstream
from asyncade_rl.batch import batches_of
from asyncade_rl.noise_scale import GradientSum, NoiseScale
from asyncade_rl.objective import (
    Samples,
    backpropagate,
    minibatches,
    minibatches_per_pass,
    prepare_all,
)
from asyncade_rl.schedule import minibatch_of
from asyncade_runtime.admission import Dropped
from asyncade_runtime.robust_mean import RobustMean

MEASURED_EVERY: Final = 32
"""Batches per measurement of the noise scale in data mode. One costs a pass without steps, up to a
quarter of the batch's time, so 0.8% on average. The gradients between steps would cost nothing, but
each step uses up what they have in common: their noise scale was four times as high, or unknown."""

_SPAN_DATA: Final = 4
"""Measurements that the noise scale is averaged over in data mode: 128 batches."""

_SPAN_GRADIENTS: Final = 256
"""The same in gradient mode: updates. An update of two actors says far less than a batch."""


class DataParallel:
    """Computes gradients here, from the trajectories that actors send.

    Attributes:
        batches: so far; noise: the gradient noise scale. Both outlive this process.
    """

    request: Request = "trajectories"

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._trajectories: list[Trajectory] = []
        self.noise, self.batches = NoiseScale(_SPAN_DATA), 0
        self._generator = torch.Generator().manual_seed(0)  # the trainer's cuts what is learned

    @property
    def gathered(self) -> int:
        """Samples in the next batch."""
        return sum(one.env_steps for one in self._trajectories)

    def wanted(self, actors: int) -> int:
        """Returns the samples that a batch should have."""
        return self._trainer.settings.samples_in_batch(actors)

    def problem_of(self, message: Upstream) -> Dropped | None:
        """Returns None: whether play was good or bad, the loss decides."""
        return None

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
        self.batches += 1
        if self.batches % MEASURED_EVERY == 0:
            self._measure(samples, objective)
        improvement = Improvement(noise_scale=self.noise.samples())
        for minibatch in minibatches(samples, objective, trainer.generator):
            if trainer.stop.is_set():
                break
            with trainer.timed(len(minibatch)):
                stages.enter("forward_backward", len(minibatch))
                losses = backpropagate(trainer.network, minibatch, objective)
                if trainer.step(remaining, size, improvement):
                    improvement.mean_losses.add(losses.as_numbers(), len(minibatch))
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
        gradients.measure(self.noise)


class GradientParallel:
    """Averages the steps that actors took from the present weights, and takes them.

    The average of N actors has less noise than the steps of one, so it is taken with N times the
    samples in mind: the root of N times as far (`asyncade_rl.schedule.learning_rate_at`).

    Attributes:
        batches: so far; noise: the gradient noise scale. Both outlive this process.
    """

    request: Request = "gradients"

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._mean = RobustMean(trainer.settings.actors_behind_relay)
        self._improvement = Improvement()
        self.noise, self.batches = NoiseScale(_SPAN_GRADIENTS), 0

    @property
    def gathered(self) -> int:
        """Samples in the next update."""
        return self._mean.samples

    def wanted(self, actors: int) -> int:
        """Returns the samples that a batch should have."""
        return self._trainer.settings.samples_in_batch(actors)

    def problem_of(self, message: Upstream) -> Dropped | None:
        """Returns why an actor's steps must not be part of the mean, if so."""
        assert isinstance(message, Gradients)
        self._trainer.stages.enter("prepare")
        problem = self._mean.problem(message.actor_id, message.tensors)
        return None if problem is None else Dropped("adverse", problem)

    def add(self, message: Upstream) -> None:
        """Adds an actor's steps to the mean."""
        assert isinstance(message, Gradients)
        self._trainer.stages.enter("prepare")
        samples = self._mean.add(message.actor_id, message.tensors, message.samples)
        self._improvement.mean_losses.add(message.losses, samples)

    def improve(self, remaining: float) -> Improvement:
        """Takes the mean of the steps, which also measures the noise scale.

        It counts as the steps that an actor takes one after another.

        Args:
            remaining: fraction of the step size that is left.
        """
        self.batches += 1
        mean, improvement, trainer = self._mean, self._improvement, self._trainer
        count, samples, squared_small = mean.count, mean.samples, mean.mean_square()
        self._improvement = Improvement()
        # An actor may have fewer games than it is asked for; a relay sends the mean of several.
        games, steps = trainer.settings.play_of(count)
        of_one = min(games * steps, round(samples / count))
        with trainer.timed(samples):
            trainer.move(remaining, mean.take(), math.sqrt(samples / of_one), improvement)
        if not improvement.skipped:
            objective = trainer.settings.objective_at(remaining)
            improvement.updates = objective.passes * minibatches_per_pass(of_one, objective)
            trainer.updates += improvement.updates
            if count > 1:
                norm = improvement.gradient_norm
                self.noise.add(samples / count, squared_small, samples, norm**2)
        improvement.noise_scale = self.noise.samples()
        return improvement

    def next(self) -> GradientParallel:
        """Returns itself: this phase lasts until the end of the run."""
        return self


LearnerMode: TypeAlias = DataParallel | GradientParallel


def make_mode(trainer: Trainer) -> LearnerMode:
    """Returns the mode that the settings name."""
    return DataParallel(trainer) if trainer.settings.mode == "data" else GradientParallel(trainer)
