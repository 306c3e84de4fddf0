"""Actor-critic losses over a minibatch of N samples.

Every loss is a mean over samples, so its scale, and with it the learning rate, does not depend on
the size of the minibatch. Time plays no part here: unrolls are flattened to samples ``[N]`` once
their targets are known.

The well-known bug of this algorithm is an advantage computed as returns ``[B]`` minus values
``[B, 1]``: torch broadcasts that to ``[B, B]``, every sample is judged by every other sample's
value, and the loss still goes down. Each function here therefore refuses tensors whose shapes are
not exactly equal, before any arithmetic, which makes that bug impossible rather than unlikely.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Losses(NamedTuple):
    """Losses and diagnostics of one minibatch; every field is a float scalar, ``[]``.

    Only ``total`` carries a gradient: the others are for reading.

    Attributes:
        total: ``policy + value_cost * value - entropy_cost * entropy``, to be minimised.
        policy: Policy loss, in units of the advantages.
        value: Value loss, in squared units of the values, before its cost.
        entropy: Mean entropy of the policy, in nats, before its cost.
        kl: Estimate of KL(proximal, current), in nats.
        clip_fraction: Share of samples whose ratio lies outside the clip range, in [0, 1]; 0 when
            nothing is clipped.
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


def _check_samples(**tensors: Tensor) -> None:
    """Refuse anything but tensors of one shape ``[N]``, N >= 1; the mean of no samples is NaN."""
    first, *_ = tensors
    expected = tensors[first].shape
    if len(expected) != 1 or expected[0] < 1:
        raise ValueError(f"{first} has shape {list(expected)}, expected [N] with N >= 1")
    for name, tensor in tensors.items():
        if tensor.shape != expected:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, "
                f"expected {list(expected)} ([N], as {first})"
            )


def action_log_probs(logits: Tensor, actions: Tensor) -> Tensor:
    """Look up the log-probabilities of the actions taken under a categorical policy.

    Args:
        logits: float ``[..., A]``, unnormalised log-probabilities of the A actions.
        actions: int64 ``[...]``, action indices in [0, A).

    Returns:
        float ``[...]``, in nats.
    """
    # gather accepts an index smaller than its source and would quietly drop the rest.
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
        advantages: float ``[N]``, in reward units or normalised; constants, whatever their graph.

    Returns:
        float ``[]``, in units of the advantages.
    """
    _check_samples(log_probs=log_probs, advantages=advantages)
    # The policy-gradient theorem holds the advantage fixed; a gradient through it would teach the
    # value network to flatter the policy.
    return -(advantages.detach() * log_probs).mean()


def clipped_surrogate_loss(
    log_probs: Tensor, proximal_log_probs: Tensor, advantages: Tensor, clip: float
) -> Tensor:
    """Compute PPO's clipped surrogate loss around a proximal policy.

    Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7, negated to be
    minimised. https://arxiv.org/abs/1707.06347

    The proximal policy is the learner's own at the start of the update, not the one that gathered
    the data: how far one update may go and how stale the data are is not the same question. The
    second is answered by V-trace, whose advantages already carry the (truncated) ratio
    proximal / behaviour. This is the decoupled policy objective of Hilton et al. 2021,
    "Batch size-invariance for policy optimization". https://arxiv.org/abs/2110.00641

    Args:
        log_probs: float ``[N]``, in nats: the actions taken, under the current policy.
        proximal_log_probs: float ``[N]``, in nats: the same under the proximal policy; constants.
        advantages: float ``[N]``, in reward units or normalised; constants.
        clip: PPO's epsilon, > 0, dimensionless: the ratio earns nothing beyond [1 - clip,
            1 + clip].

    Returns:
        float ``[]``, in units of the advantages.
    """
    _check_samples(
        log_probs=log_probs, proximal_log_probs=proximal_log_probs, advantages=advantages
    )
    constants = advantages.detach()
    ratios = torch.exp(log_probs - proximal_log_probs.detach())
    clipped = ratios.clamp(1.0 - clip, 1.0 + clip)
    # The minimum makes the bound pessimistic: a ratio that moved the wrong way keeps its gradient.
    return -torch.minimum(ratios * constants, clipped * constants).mean()


def value_loss(values: Tensor, value_targets: Tensor) -> Tensor:
    """Compute half the mean squared error of the values.

    The half makes d loss / d value the error itself (over N), with no stray factor of two for the
    value cost to make up for.

    Args:
        values: float ``[N]``, in reward units.
        value_targets: float ``[N]``, in reward units; constants.

    Returns:
        float ``[]``, in squared reward units.
    """
    _check_samples(values=values, value_targets=value_targets)
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


def normalise(advantages: Tensor) -> Tensor:
    """Shift and scale advantages to zero mean and unit standard deviation over the samples.

    Args:
        advantages: float ``[N]``, in reward units.

    Returns:
        float ``[N]``, dimensionless; all 0 if N = 1.
    """
    _check_samples(advantages=advantages)
    # The biased deviation (divide by N, not N - 1) is 0 rather than NaN for a single sample.
    deviation = advantages.std(correction=0)
    return (advantages - advantages.mean()) / (deviation + 1e-8)


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
    """Compute the whole actor-critic loss of a minibatch.

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
        The total to minimise, with its parts and diagnostics.
    """
    _check_samples(
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
        # policy, so staler data make it a rougher estimate. expm1 keeps its digits where r is
        # close to 1, which is where a healthy update stays.
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
