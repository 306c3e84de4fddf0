"""The optimiser step that both modes share: one optimiser, one schedule of the step size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from asyncade_learner.processor import Processor
from asyncade_learner.settings import LearnerSettings
from asyncade_rl.network import ActorCritic
from asyncade_rl.optimiser import Optimiser
from asyncade_rl.schedule import learning_rate_at
from asyncade_runtime.stages import Stages


@dataclass(slots=True)
class Improvement:
    """Counts and losses of one improvement of the policy.

    Attributes:
        updates: optimiser steps made.
        non_finite: optimiser steps skipped because the gradient was not finite.
        samples: samples in all gradients.
        losses: mean of each loss over the gradients, by name.
        gradient_norm: of the last gradient, before the clip.
        learning_rate: of the last step.
        noise_scale: the gradient noise scale so far, in samples; None while it is not known.
    """

    updates: int = 0
    non_finite: int = 0
    samples: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    noise_scale: float | None = None

    def count(self, losses: Mapping[str, float], samples: int) -> None:
        """Adds the losses of one gradient, weighted by its samples."""
        self.samples += samples
        for name, value in losses.items():
            mean = self.losses.get(name, 0.0)
            self.losses[name] = mean + (value - mean) * samples / self.samples


class Trainer:
    """The network with its optimiser and the generator that cuts minibatches.

    Args:
        network: to be improved.
        settings: of the run.
        stages: accounts for the time.

    Attributes:
        tick: called before every optimiser step, since a batch of many actors takes minutes, and
            before every gradient of a measurement; set by the learner.
        updates: optimiser steps of this process.
        processor: times minibatches and sets torch's threads; None where nobody asked for it.
        stop: once set, the rest of a batch is discarded; set by the learner.
    """

    def __init__(self, network: ActorCritic, settings: LearnerSettings, stages: Stages) -> None:
        self.network = network
        self.settings = settings
        self.stages = stages
        self.tick: Callable[[], None] = lambda: None
        self.processor: Processor | None = None
        self.stop = threading.Event()
        self.updates = 0
        self.optimiser = Optimiser(
            network,
            max_gradient_norm=settings.max_gradient_norm,
            epsilon=settings.adam_epsilon,
        )
        self.generator = torch.Generator().manual_seed(settings.seed)

    def timed(self, samples: int) -> AbstractContextManager[None]:
        """Encloses the work on a minibatch of `samples` samples, its optimiser step included."""
        return self.processor.minibatch(samples) if self.processor else nullcontext()

    def step(self, remaining: float, samples: int, improvement: Improvement) -> None:
        """Moves the parameters along the gradients they hold, and counts the step.

        Args:
            remaining: fraction of the step size that is left.
            samples: that the gradient is the mean of; the step size follows.
            improvement: updated.
        """
        self.tick()
        self.stages.enter("optimise")
        settings = self.settings
        improvement.learning_rate = learning_rate_at(remaining, settings.learning_rate, samples)
        norm = self.optimiser.step(improvement.learning_rate)
        if norm is None:
            improvement.non_finite += 1
        else:
            self.updates += 1
            improvement.updates += 1
            improvement.gradient_norm = norm
