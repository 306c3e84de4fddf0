"""The two modes, actor's half: what an actor makes of the unrolls that it plays.

The learner's half is `asyncade_learner.modes`, with classes of the same names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final, TypeAlias

import torch

from asyncade_actor.player import Header, Player
from asyncade_proto.messages import Assignment, Gradients, Objective, Request, Trajectory, Upstream
from asyncade_rl.batch import batch_of
from asyncade_rl.losses import MeanLosses
from asyncade_rl.network import ActorCritic
from asyncade_rl.objective import (
    RecentAdvantages,
    Samples,
    backpropagate,
    minibatches,
    minibatches_per_pass,
    prepare,
)
from asyncade_rl.optimiser import Optimiser
from asyncade_rl.params import copies_of_parameters
from asyncade_rl.schedule import learning_rate_at
from asyncade_runtime.stages import Stages


class DataParallel:
    """Sends every unroll as one message; the learner computes the gradients.

    Attributes:
        refreshes_weights: True: newer weights may be loaded between two steps of `play`. The
            log-probabilities are those of the weights that chose, so V-trace corrects each step.
    """

    refreshes_weights: Final = True

    def __init__(self, player: Player, network: ActorCritic) -> None:
        self._player = player
        self._network = network

    def play(self, assignment: Assignment) -> Iterator[None]:
        """Plays an unroll; yields before each step."""
        return self._player.play(self._network, assignment.unroll_length, games=assignment.games)

    def message(self, assignment: Assignment, header: Header) -> Trajectory:
        """Returns the unroll that `play` completed."""
        return self._player.trajectory(header)


class GradientParallel:
    """Takes the optimiser's steps on every unroll itself, and sends their sum as one message.

    All actors start from the same weights and take the steps that the learner would take on the
    same samples in data mode; the learner averages where they ended. One message per unroll
    replaces one per minibatch and pass (local SGD, Stich 2019; the sum is the pseudo-gradient of
    Reddi et al. 2021, "Adaptive federated optimization").

    The optimiser's moments stay here from unroll to unroll, as in DiLoCo (Douillard et al. 2023):
    moments of one unroll alone are noise.

    Args:
        player: plays the unrolls.
        network: the policy. It has the learner's weights again once a message is made.
        stages: entered at ``prepare`` and ``gradient``.
        seed: of the division into minibatches.

    Attributes:
        refreshes_weights: False: the header names the version that the steps start from.
    """

    refreshes_weights: Final = False

    def __init__(self, player: Player, network: ActorCritic, stages: Stages, seed: int) -> None:
        self._player = player
        self._network = network
        self._stages = stages
        self._generator = torch.Generator().manual_seed(seed)
        self._advantages = RecentAdvantages()
        self._optimiser: Optimiser | None = None

    def play(self, assignment: Assignment) -> Iterator[None]:
        """Plays an unroll; yields before each step."""
        return self._player.play(self._network, assignment.unroll_length, games=assignment.games)

    def message(self, assignment: Assignment, header: Header) -> Gradients:
        """Returns the steps on the unroll that `play` completed."""
        objective = assignment.objective
        unroll = self._player.trajectory(header)
        self._stages.enter("prepare", unroll.env_steps)
        batch = batch_of([unroll], objective.discount)
        samples = prepare(self._network, batch, objective, self._advantages)
        start = copies_of_parameters(self._network)
        losses = self._improve(samples, objective)
        tensors = {}
        with torch.no_grad():
            for name, parameter in self._network.named_parameters():
                taken = (start[name] - parameter) / max(objective.learning_rate, _SMALLEST_STEP)
                tensors[name] = taken.numpy()
                parameter.copy_(start[name])
        return Gradients(
            **asdict(header),
            samples=len(samples),
            env_steps=unroll.env_steps,
            tensors=tensors,
            losses=losses.means,
            episodes=unroll.episodes,
            points_won=unroll.points_won,
            points_lost=unroll.points_lost,
        )

    def _improve(self, samples: Samples, objective: Objective) -> MeanLosses:
        """Takes the optimiser's steps; returns the mean of the losses of those taken."""
        if self._optimiser is None:
            self._optimiser = Optimiser(
                self._network,
                max_gradient_norm=objective.max_gradient_norm,
                epsilon=objective.adam_epsilon,
            )
        mean = MeanLosses()
        in_batch, here = (
            minibatches_per_pass(count, objective)
            for count in (objective.batch_samples, len(samples))
        )
        side_by_side = max(1.0, in_batch / here)
        for minibatch in minibatches(samples, objective, self._generator):
            self._stages.enter("gradient", len(minibatch))
            losses = backpropagate(self._network, minibatch, objective)
            learning_rate = learning_rate_at(1.0, objective.learning_rate, len(minibatch))
            if math.isfinite(self._optimiser.step(learning_rate, side_by_side)):
                # Of a step that was not taken it may be NaN, and the message would be refused.
                mean.add(losses.as_numbers(), len(minibatch))
        return mean


ActorMode: TypeAlias = DataParallel | GradientParallel

_SMALLEST_STEP: Final = 1e-30
"""A step size of 0, at the end of a cooldown, changes nothing: 0 over this is 0."""


def make_mode(
    request: Request, player: Player, network: ActorCritic, stages: Stages, seed: int
) -> ActorMode:
    """Returns the mode whose messages the learner requests."""
    match request:
        case "trajectories":
            return DataParallel(player, network)
        case "gradients":
            return GradientParallel(player, network, stages, seed)


def next_message(mode: ActorMode, assignment: Assignment, header: Header) -> Upstream:
    """Plays and returns the next message in one go, with the weights that are loaded."""
    for _ in mode.play(assignment):
        pass
    return mode.message(assignment, header)
