"""The two modes, actor's half: what an actor sends, and when it plays and computes it.

The learner's half is `asyncade_learner.modes`, with classes of the same names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final, TypeAlias

import numpy as np
import torch

from asyncade_actor.player import Header, Player
from asyncade_proto.messages import (
    Assignment,
    Episodes,
    Gradients,
    Request,
    Trajectory,
    Upstream,
)
from asyncade_rl.batch import batch_of
from asyncade_rl.network import ActorCritic
from asyncade_rl.objective import (
    Samples,
    backpropagate,
    minibatches,
    minibatches_per_pass,
    prepare,
)
from asyncade_rl.params import gradients_of
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

    def play_ahead(self, assignment: Assignment) -> Iterator[None]:
        """Plays nothing: the next unroll waits for credit, and so for newer weights."""
        return iter(())


class GradientParallel:
    """Sends the gradient of one minibatch per message; an unroll yields several messages.

    The network takes the newest weights before each of them, so each gradient is computed at the
    learner's current parameters, as in the learner's own passes over a batch.

    While a gradient travels up and the resulting weights travel down, the actor plays its share of
    the next unroll. This hides the network's latency and gives every actor equal work in every
    update; with an unroll played in one go, all would wait for the actor that is playing.

    Args:
        player: plays the unrolls.
        network: the policy, and where gradients are computed.
        stages: entered at ``prepare`` and ``gradient``.
        seed: of the division into minibatches.

    Attributes:
        refreshes_weights: False: the header names the version that the gradient is computed at.
    """

    refreshes_weights: Final = False

    def __init__(self, player: Player, network: ActorCritic, stages: Stages, seed: int) -> None:
        self._player = player
        self._network = network
        self._stages = stages
        self._generator = torch.Generator().manual_seed(seed)
        self._minibatches: Iterator[Samples] = iter(())
        self._left = 0

    def play(self, assignment: Assignment) -> Iterator[None]:
        """Plays what is missing of an unroll if no minibatch is left; yields before each step."""
        if self._left:
            return iter(())
        return self._player.play(self._network, assignment.unroll_length, games=assignment.games)

    def message(self, assignment: Assignment, header: Header) -> Gradients:
        """Returns the gradient of the next minibatch, of a new unroll if none is left."""
        objective = assignment.objective
        env_steps, won, lost, episodes = 0, 0.0, 0.0, _NO_EPISODES
        if not self._left:
            unroll = self._player.trajectory(header)
            self._stages.enter("prepare", unroll.env_steps)
            env_steps, episodes = unroll.env_steps, unroll.episodes
            won, lost = unroll.points_won, unroll.points_lost
            samples = prepare(self._network, batch_of([unroll], objective.discount), objective)
            self._left = minibatches_per_pass(len(samples), objective) * objective.passes
            self._minibatches = minibatches(samples, objective, self._generator)
        self._left -= 1
        minibatch = next(self._minibatches)
        self._stages.enter("gradient", len(minibatch))
        losses = backpropagate(self._network, minibatch, objective)
        return Gradients(
            **asdict(header),
            samples=len(minibatch),
            env_steps=env_steps,
            tensors=gradients_of(self._network),
            losses=losses.as_numbers(),
            episodes=episodes,
            points_won=won,
            points_lost=lost,
        )

    def play_ahead(self, assignment: Assignment) -> Iterator[None]:
        """Plays a share of the next unroll, complete when this one's last minibatch is used."""
        steps = assignment.unroll_length
        share = math.ceil(self._player.missing(steps) / (self._left + 1))
        return self._player.play(self._network, steps, share, assignment.games)


ActorMode: TypeAlias = DataParallel | GradientParallel

_NO_EPISODES = Episodes(returns=np.zeros(0, np.float32), lengths=np.zeros(0, np.int32))


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
