"""The optimiser step that both modes share: one optimiser, one schedule of the step size."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from asyncade_learner.processor import Processor
from asyncade_learner.recovery import RecentNorms
from asyncade_learner.settings import LearnerSettings
from asyncade_rl.losses import MeanLosses
from asyncade_rl.network import ActorCritic
from asyncade_rl.optimiser import Optimiser
from asyncade_rl.params import NamedArrays, move
from asyncade_rl.schedule import learning_rate_at
from asyncade_runtime.stages import Stages


@dataclass(slots=True)
class Improvement:
    """Counts and losses of one improvement of the policy.

    Attributes:
        updates: optimiser steps made.
        skipped: optimiser steps skipped because the gradient was not finite, or absurdly large.
        mean_losses: over all gradients that were used, and their samples.
        gradient_norm: of the last gradient, before the clip; in gradient mode of the mean of the
            actors' steps.
        learning_rate: of the last step.
        noise_scale: the gradient noise scale so far, in samples; None while it is not known.
    """

    updates: int = 0
    skipped: int = 0
    mean_losses: MeanLosses = field(default_factory=MeanLosses)
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    noise_scale: float | None = None


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
        norms: of the last gradients, in gradient mode of the actors' mean steps: absurd ones are
            not used.
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
        self.norms = RecentNorms()

    def timed(self, samples: int) -> AbstractContextManager[None]:
        """Encloses the work on a minibatch of `samples` samples, its optimiser step included."""
        return self.processor.minibatch(samples) if self.processor else nullcontext()

    def move(
        self, remaining: float, steps: NamedArrays, factor: float, improvement: Improvement
    ) -> None:
        """Moves the parameters along the steps that actors took, unless those are absurd.

        Args:
            remaining: fraction of the step size that is left.
            steps: pseudo-gradient by parameter, in units of the step size.
            factor: of the step size.
            improvement: updated, but for the number of steps.
        """
        self.tick()
        self.stages.enter("optimise")
        norm = math.sqrt(sum(float(np.vdot(one, one)) for one in steps.values()))
        improvement.learning_rate = remaining * self.settings.learning_rate
        if not self.norms.admit(norm):
            improvement.skipped += 1
            return
        move(self.network, steps, factor * improvement.learning_rate)
        improvement.gradient_norm = norm

    def step(self, remaining: float, samples: int, improvement: Improvement) -> bool:
        """Moves the parameters along the gradients they hold, unless those are absurd; counts it.

        Args:
            remaining: fraction of the step size that is left.
            samples: that the gradient is the mean of; the step size follows.
            improvement: updated.

        Returns:
            True if the step was taken.
        """
        self.tick()
        self.stages.enter("optimise")
        settings = self.settings
        improvement.learning_rate = learning_rate_at(remaining, settings.learning_rate, samples)
        norm = self.optimiser.step(improvement.learning_rate, limit=self.norms.limit())
        if not self.norms.admit(norm):
            improvement.skipped += 1
            return False
        self.updates += 1
        improvement.updates += 1
        improvement.gradient_norm = norm
        return True

    def weights_norm(self) -> float:
        """Returns the norm of all parameters together: NaN or infinite if one of them is."""
        parameters = [parameter.detach() for parameter in self.network.parameters()]
        return float(torch.nn.utils.get_total_norm(parameters))

    def divide_step_size(self, by: float) -> None:
        """Makes the step size smaller, also that which actors are assigned."""
        learning_rate = self.settings.learning_rate / by
        self.settings = self.settings.model_copy(update={"learning_rate": learning_rate})
