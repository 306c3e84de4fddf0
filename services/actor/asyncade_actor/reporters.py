"""The two kinds of parallelism, seen from the actor: what it makes of what it plays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch

from asyncade_actor.unroll import Player
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What every message up begins with; fields as in `asyncade_proto.messages.Trajectory`."""

    actor_id: str
    sequence: int
    policy_version: int
    model: str


class Reporter(Protocol):
    """Makes the actor's next message."""

    def report(
        self,
        player: Player,
        network: ActorCritic,
        assignment: Assignment,
        header: Header,
        before_step: Callable[[], None] | None = None,
    ) -> Upstream:
        """Returns the next message, by the weights that the network holds now.

        Args:
            player: plays where there is nothing left to report.
            network: the policy.
            assignment: what is wanted.
            header: the message begins with it.
            before_step: as in `Player.play`.
        """
        ...

    def meanwhile(self, player: Player, network: ActorCritic, assignment: Assignment) -> None:
        """Does what can be done while the message is on its way and its weights are not here."""
        ...


class TrajectoryReporter:
    """Data parallelism: every message is one unroll; the learner computes the gradients."""

    def report(
        self,
        player: Player,
        network: ActorCritic,
        assignment: Assignment,
        header: Header,
        before_step: Callable[[], None] | None = None,
    ) -> Trajectory:
        """Plays an unroll and returns it."""
        unroll = player.play(network, assignment.unroll_length, before_step)
        return Trajectory(
            **asdict(header),
            frames=unroll.frames,
            actions=unroll.actions,
            behaviour_log_probs=unroll.behaviour_log_probs,
            rewards=unroll.rewards,
            ends=unroll.ends,
            bootstrap_values=unroll.bootstrap_values,
            episodes=unroll.episodes,
        )

    def meanwhile(self, player: Player, network: ActorCritic, assignment: Assignment) -> None:
        """Nothing: another unroll waits for credit, so that it is played by newer weights."""


class GradientReporter:
    """Gradient parallelism: an unroll is used for several messages, one minibatch each.

    Between them the network takes the newest weights, so each gradient is taken where the policy
    stands now, as in the learner's own passes over a batch.

    While a gradient travels up and the weights made of it travel down, the actor plays its share of
    the next unroll. So the network's delay is hidden, and every actor has the same work in every
    update: were an unroll played in one go, all would wait for whoever is playing.

    Args:
        stages: told what the time goes into.
        seed: of the cut into minibatches.
    """

    def __init__(self, stages: Stages, seed: int) -> None:
        self._stages = stages
        self._generator = torch.Generator().manual_seed(seed)
        self._trajectories = TrajectoryReporter()
        self._minibatches: Iterator[Samples] = iter(())
        self._left = 0

    def report(
        self,
        player: Player,
        network: ActorCritic,
        assignment: Assignment,
        header: Header,
        before_step: Callable[[], None] | None = None,
    ) -> Gradients:
        """Returns the gradient of the next minibatch, playing a new unroll when all are used.

        It plays by the weights it has, without `before_step`: the header says which ones the
        gradient was taken at.
        """
        played = None
        minibatch = next(self._minibatches, None)
        if minibatch is None:
            played = self._trajectories.report(player, network, assignment, header)
            self._stages.enter("gradient")
            batch = batch_of([played], assignment.objective.discount)
            samples = prepare(network, batch, assignment.objective)
            self._left = minibatches_per_pass(len(samples), assignment.objective)
            self._left *= assignment.objective.passes
            self._minibatches = minibatches(samples, assignment.objective, self._generator)
            minibatch = next(self._minibatches)
        self._stages.enter("gradient")
        losses = backpropagate(network, minibatch, assignment.objective)
        self._left -= 1
        return Gradients(
            **asdict(header),
            samples=len(minibatch),
            env_steps=played.env_steps if played else 0,
            tensors=gradients_of(network),
            losses=losses.as_numbers(),
            episodes=played.episodes if played else _NO_EPISODES,
        )

    def meanwhile(self, player: Player, network: ActorCritic, assignment: Assignment) -> None:
        """Plays ahead so far that the next unroll is complete when this one is used up."""
        steps = assignment.unroll_length
        missing = steps - player.steps_ahead
        player.play_ahead(network, steps, math.ceil(missing / (self._left + 1)))


_NO_EPISODES = Episodes(returns=np.zeros(0, np.float32), lengths=np.zeros(0, np.int32))


def make_reporter(request: Request, stages: Stages, seed: int) -> Reporter:
    """Returns what the learner asks for."""
    match request:
        case "trajectories":
            return TrajectoryReporter()
        case "gradients":
            return GradientReporter(stages, seed)
