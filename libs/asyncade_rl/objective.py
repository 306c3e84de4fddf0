"""From a batch to gradients, for the learner (data mode) and the actor (gradient mode) alike.

samples = prepare(network, batch, objective)              V-trace, once per batch
for minibatch in minibatches(samples, objective, ...):    `passes` times over the samples
    losses = backpropagate(network, minibatch, objective) then one optimiser step
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from asyncade_proto.messages import Objective
from asyncade_rl.batch import Batch
from asyncade_rl.losses import Losses, action_log_probs, actor_critic_loss, normalise
from asyncade_rl.network import ActorCritic
from asyncade_rl.vtrace import vtrace

_FORWARD_CHUNK: Final = 256
"""Frames per forward pass in `prepare`: enough for full speed, small in memory."""


@dataclass(frozen=True, slots=True)
class Samples:
    """N steps in any order, with the inputs and targets of the loss.

    Attributes:
        inputs: [N, 21, 21, 64], from `ActorCritic.inputs_of`.
        actions: int64 [N].
        proximal_log_probs: float32 [N], of the policy at the start of the update.
        advantages: float32 [N], V-trace's; normalised over the batch if the objective says so.
        value_targets: float32 [N], V-trace's vs.
    """

    inputs: Tensor
    actions: Tensor
    proximal_log_probs: Tensor
    advantages: Tensor
    value_targets: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.actions)

    def rows(self, index: Tensor) -> Samples:
        """Returns the M samples of an index, int64 [M]."""
        # `index_select` copies whole rows; indexing copies elements and takes 15 times as long.
        return Samples(
            self.inputs.index_select(0, index),
            self.actions.index_select(0, index),
            self.proximal_log_probs.index_select(0, index),
            self.advantages.index_select(0, index),
            self.value_targets.index_select(0, index),
        )


class RecentAdvantages:
    """The advantages of an actor's last unrolls, to normalise those of the newest by.

    An unroll alone has few points scored or lost, often none, and then only noise, which
    normalising over the unroll would amplify.
    """

    def __init__(self) -> None:
        self._unrolls: list[Tensor] = []

    def normalise(self, advantages: Tensor, over_samples: int) -> Tensor:
        """Returns the newest advantages, float32 [N], as `normalise` over the last unrolls does.

        Args:
            advantages: float32 [N], of the newest unroll.
            over_samples: as many unrolls count as it takes to have these, the newest included.
        """
        self._unrolls.append(advantages)
        while sum(map(len, self._unrolls[1:])) >= over_samples:
            del self._unrolls[0]
        return normalise(advantages, torch.cat(self._unrolls))


def prepare(
    network: ActorCritic, batch: Batch, objective: Objective, recent: RecentAdvantages
) -> Samples:
    """Returns `prepare_all` of one unroll, its advantages normalised by the `recent` ones."""
    samples = prepare_all(network, [batch], replace(objective, normalise_advantages=False))
    if not objective.normalise_advantages:
        return samples
    normalised = recent.normalise(samples.advantages, objective.batch_samples)
    return replace(samples, advantages=normalised)


def prepare_all(network: ActorCritic, batches: Sequence[Batch], objective: Objective) -> Samples:
    """Returns the T x B samples of all batches with value targets and advantages.

    The network's current policy becomes the proximal policy of the clipped surrogate; V-trace
    corrects for the different behaviour policy (Hilton et al. 2021 decouple the two in the same
    way). With on-policy data and one pass this is A2C with GAE. With `objective.vtrace` off, all
    data are treated as on-policy.

    Args:
        network: the current policy.
        batches: at least one; their T may differ.
        objective: hyperparameters.
    """
    parts = [_corrected(network, batch, objective) for batch in batches]
    inputs, actions, log_probs, advantages, targets = (
        one[0] if len(parts) == 1 else torch.cat(one) for one in zip(*parts, strict=True)
    )
    if objective.normalise_advantages:
        # Over the batch: a minibatch without a point scored or lost holds only noise, which
        # normalising over the minibatch would amplify.
        advantages = normalise(advantages)
    return Samples(inputs, actions, log_probs, advantages, targets)


def _corrected(network: ActorCritic, batch: Batch, objective: Objective) -> tuple[Tensor, ...]:
    """Returns the fields of `Samples`, advantages not normalised."""
    steps, envs = batch.actions.shape
    with torch.no_grad():
        inputs = network.inputs_of(batch.frames.flatten(0, 1))  # once, for all passes
        outputs = [network.of_inputs(chunk) for chunk in torch.split(inputs, _FORWARD_CHUNK)]
    logits = torch.cat([logits for logits, _ in outputs]).view(steps + 1, envs, -1)
    values = torch.cat([values for _, values in outputs]).view(steps + 1, envs)
    log_probs = action_log_probs(logits[:-1], batch.actions)
    corrected = vtrace(
        batch.behaviour_log_probs if objective.vtrace else log_probs,
        log_probs,
        batch.rewards,
        batch.discounts,
        values[:-1],
        values[-1],
        lambda_=objective.lambda_,
        rho_clip=objective.rho_clip,
        c_clip=objective.rho_clip,
    )
    return (
        inputs[: steps * envs],
        batch.actions.flatten(),
        log_probs.flatten(),
        corrected.pg_advantages.flatten(),
        corrected.vs.flatten(),
    )


def minibatches_per_pass(count: int, objective: Objective) -> int:
    """Returns the number of minibatches that `count` samples are divided into."""
    return max(1, round(count / objective.minibatch_size))


def minibatches(
    samples: Samples, objective: Objective, generator: torch.Generator
) -> Iterator[Samples]:
    """Yields the samples `passes` times, each time divided anew at random into minibatches.

    Minibatches are of equal size, as close to `minibatch_size` as possible.
    """
    count = minibatches_per_pass(len(samples), objective)
    for _ in range(objective.passes):
        order = torch.randperm(len(samples), generator=generator)
        for index in order.tensor_split(count):
            yield samples.rows(index.to(samples.actions.device))


def backpropagate(network: ActorCritic, samples: Samples, objective: Objective) -> Losses:
    """Writes the gradient of the loss into the parameters' ``grad`` and returns the losses."""
    network.zero_grad(set_to_none=True)
    logits, values = network.of_inputs(samples.inputs)
    losses = actor_critic_loss(
        logits,
        values,
        samples.actions,
        samples.proximal_log_probs,
        samples.advantages,
        samples.value_targets,
        clip=objective.clip,
        entropy_cost=objective.entropy_cost,
        value_cost=objective.value_cost,
    )
    torch.autograd.backward(losses.total)
    return losses
