"""Actor-critic losses of a minibatch of N samples.

Every loss is a mean over samples, so its scale, and with it the learning rate, does not depend on
the size of the minibatch. Unrolls are flattened to samples ``[N]`` once their targets are known.

A well-known bug of actor-critic code is an advantage computed as returns ``[B]`` minus values
``[B, 1]``: torch broadcasts it to ``[B, B]``, and the loss still falls. Each function here
therefore refuses tensors of unequal shapes before any arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Losses(NamedTuple):
    """Losses and diagnostics of one minibatch; every field is a float scalar, ``[]``.

    Only ``total`` carries a gradient; the others are for monitoring.

    Attributes:
        total: ``policy + value_cost * value - entropy_cost * entropy``, to be minimised.
        policy: Policy loss, in units of the advantages.
        value: Value loss, in squared units of the values, before its cost.
        entropy: Mean entropy of the policy, in nats, before its cost.
        kl: Estimate of KL(proximal, current), in nats.
        clip_fraction: Share of samples whose ratio lies outside the clip range, in [0, 1]; 0
            without a clip.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor
    clip_fraction: Tensor

    def as_numbers(self) -> dict[str, float]:
        """Returns the losses as plain floats, by name."""
        return {name: float(value.detach()) for name, value in self._asdict().items()}


class MeanLosses:
    """The mean of each loss over minibatches, weighted by their samples.

    Attributes:
        samples: of all minibatches.
        means: by the losses' names.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.means: dict[str, float] = {}

    def add(self, losses: Mapping[str, float], samples: int) -> None:
        """Adds the losses of a minibatch."""
        self.samples += samples
        for name, value in losses.items():
            mean = self.means.get(name, 0.0)
            self.means[name] = mean + (value - mean) * samples / self.samples


def check_shapes(axes: str, **tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have the same shape, with these axes.

    Args:
        axes: such as ``[N]`` or ``[T, B]``. The first may not be empty: the mean of no samples is
            NaN.
        tensors: named as in the error message.
    """
    first, *_ = tensors
    expected = tensors[first].shape
    if len(expected) != len(axes.split(",")) or expected[0] < 1:
        raise ValueError(f"{first} has shape {list(expected)}, expected {axes} with {axes[1]} >= 1")
    for name, tensor in tensors.items():
        if tensor.shape != expected:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, "
                f"expected {list(expected)} ({axes}, as {first})"
            )


def action_log_probs(logits: Tensor, actions: Tensor) -> Tensor:
    """Return the log-probabilities of the actions taken under a categorical policy.

    Args:
        logits: float ``[..., A]``, unnormalised log-probabilities of the A actions.
        actions: int64 ``[...]``, action indices in [0, A).

    Returns:
        float ``[...]``, in nats.
    """
    # gather accepts an index smaller than its source and silently drops the rest.
    if logits.ndim < 1 or actions.shape != logits.shape[:-1]:
        raise ValueError(
            f"actions has shape {list(actions.shape)} and logits {list(logits.shape)}, "
            "expected [...] and [..., A]"
        )
    return F.log_softmax(logits, dim=-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Compute the loss whose gradient is the advantage actor-critic policy gradient, negated.

    Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", Algorithm S3.
    https://arxiv.org/abs/1602.01783

    Args:
        log_probs: float ``[N]``, in nats: the actions taken, under the current policy.
        advantages: float ``[N]``, in reward units or normalised; treated as constants.

    Returns:
        float ``[]``, in units of the advantages.
    """
    check_shapes("[N]", log_probs=log_probs, advantages=advantages)
    # The policy-gradient theorem holds the advantage fixed; a gradient through it would bias the
    # value network.
    return -(advantages.detach() * log_probs).mean()


def clipped_surrogate_loss(
    log_probs: Tensor, proximal_log_probs: Tensor, advantages: Tensor, clip: float
) -> Tensor:
    """Compute PPO's clipped surrogate loss around a proximal policy.

    Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7, negated to be
    minimised. https://arxiv.org/abs/1707.06347

    The proximal policy is the learner's own at the start of the update, not the behaviour policy:
    the size of an update and the staleness of the data are separate questions. V-trace handles the
    staleness: its advantages already carry the truncated ratio proximal / behaviour. This is the
    decoupled policy objective of Hilton et al. 2021, "Batch size-invariance for policy
    optimization". https://arxiv.org/abs/2110.00641

    Args:
        log_probs: float ``[N]``, in nats: the actions taken, under the current policy.
        proximal_log_probs: float ``[N]``, in nats: the same under the proximal policy; constants.
        advantages: float ``[N]``, in reward units or normalised; constants.
        clip: PPO's epsilon, > 0, dimensionless: the objective is flat for ratios beyond
            [1 - clip, 1 + clip].

    Returns:
        float ``[]``, in units of the advantages.
    """
    check_shapes(
        "[N]", log_probs=log_probs, proximal_log_probs=proximal_log_probs, advantages=advantages
    )
    constants = advantages.detach()
    ratios = torch.exp(log_probs - proximal_log_probs.detach())
    clipped = ratios.clamp(1.0 - clip, 1.0 + clip)
    # The minimum is a pessimistic bound: a ratio that moved the wrong way keeps its gradient.
    return -torch.minimum(ratios * constants, clipped * constants).mean()


def value_loss(values: Tensor, value_targets: Tensor) -> Tensor:
    """Compute half the mean squared error of the values.

    With the half, d loss / d value is the error itself (over N), without a factor of two.

    Args:
        values: float ``[N]``, in reward units.
        value_targets: float ``[N]``, in reward units; constants.

    Returns:
        float ``[]``, in squared reward units.
    """
    check_shapes("[N]", values=values, value_targets=value_targets)
    return 0.5 * (values - value_targets.detach()).square().mean()


def entropy(logits: Tensor) -> Tensor:
    """Compute the mean entropy of categorical policies.

    Args:
        logits: float ``[N, A]``, unnormalised log-probabilities of the A actions.

    Returns:
        float ``[]``, in nats: between 0 (one certain action each) and log A (uniform).
    """
    if logits.ndim != 2 or logits.shape[0] < 1:
        raise ValueError(f"logits has shape {list(logits.shape)}, expected [N, A] with N >= 1")
    log_probs = F.log_softmax(logits, dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1).mean()


def normalise(advantages: Tensor, over: Tensor | None = None) -> Tensor:
    """Normalise advantages to zero mean and unit standard deviation over the samples.

    Args:
        advantages: float ``[N]``, in reward units.
        over: float ``[M]``, whose mean and deviation become 0 and 1 instead; None: `advantages`.

    Returns:
        float ``[N]``, dimensionless; all 0 if N = 1.
    """
    check_shapes("[N]", advantages=advantages)
    over = advantages if over is None else over
    # The biased deviation (divide by N, not N - 1) is 0 rather than NaN for a single sample.
    deviation = over.std(correction=0)
    return (advantages - over.mean()) / (deviation + 1e-8)


def actor_critic_loss(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    proximal_log_probs: Tensor,
    advantages: Tensor,
    value_targets: Tensor,
    *,
    clip: float | None,
    entropy_cost: float,
    value_cost: float,
) -> Losses:
    """Compute the actor-critic loss of a minibatch.

    Args:
        logits: float ``[N, A]``, the current policy's, unnormalised.
        values: float ``[N]``, the current value network's, in reward units.
        actions: int64 ``[N]``, the actions taken, in [0, A).
        proximal_log_probs: float ``[N]``, in nats: the actions taken, under the learner's policy
            at the start of the update; constants.
        advantages: float ``[N]``, in reward units or normalised; constants.
        value_targets: float ``[N]``, in reward units; constants.
        clip: PPO's epsilon, > 0; None for the plain policy gradient.
        entropy_cost: Weight of the entropy bonus, in advantage units per nat.
        value_cost: Weight of the value loss.

    Returns:
        The total to minimise, its parts and diagnostics.
    """
    check_shapes(
        "[N]",
        actions=actions,
        values=values,
        proximal_log_probs=proximal_log_probs,
        advantages=advantages,
        value_targets=value_targets,
    )
    log_probs = action_log_probs(logits, actions)
    if clip is None:
        policy = policy_gradient_loss(log_probs, advantages)
    else:
        policy = clipped_surrogate_loss(log_probs, proximal_log_probs, advantages, clip)
    value = value_loss(values, value_targets)
    mean_entropy = entropy(logits)
    total = policy + value_cost * value - entropy_cost * mean_entropy

    with torch.no_grad():
        # r - 1 - log r ("k3" of http://joschu.net/blog/kl-approx.html, with r = current / proximal)
        # is never negative and less noisy than -log r. It assumes actions drawn from the proximal
        # policy, so staler data make it less accurate. expm1 is precise for r close to 1.
        log_ratios = log_probs - proximal_log_probs
        ratio_changes = torch.expm1(log_ratios)
        kl = (ratio_changes - log_ratios).mean()
        outside = ratio_changes.abs() > (float("inf") if clip is None else clip)
        clip_fraction = outside.to(log_probs.dtype).mean()
    return Losses(
        total=total,
        policy=policy.detach(),
        value=value.detach(),
        entropy=mean_entropy.detach(),
        kl=kl,
        clip_fraction=clip_fraction,
    )
