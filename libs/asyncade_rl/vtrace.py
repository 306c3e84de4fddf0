"""V-trace: value targets and advantages from data gathered by an older policy.

An actor's parameters are a few updates behind the learner's. V-trace weights each of its steps by
how much likelier the learner's policy is to take the same action, and truncates the weights so that
their product over an unroll cannot explode.

Tensors are time-major, ``[T, B]``: T steps of an unroll by B unrolls. Row ``t`` holds one step: the
value of the state acted in, the reward that followed and the discount of everything after it.
Discounts are data: gamma, or 0 where the episode terminated, so one unroll may span several
episodes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from asyncade_rl.losses import check_shapes


class VTrace(NamedTuple):
    """Learning targets of an unroll; every field is float ``[T, B]`` and carries no gradient.

    Attributes:
        vs: Value targets, in reward units.
        pg_advantages: Advantages for the policy gradient, in reward units, already multiplied by
            the truncated importance ratio.
        rhos: Importance ratios target / behaviour before truncation, dimensionless; they measure
            how far off-policy the data are.
    """

    vs: Tensor
    pg_advantages: Tensor
    rhos: Tensor


@torch.no_grad()
def vtrace(
    behaviour_log_probs: Tensor,
    target_log_probs: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    bootstrap_values: Tensor,
    *,
    lambda_: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> VTrace:
    """Compute V-trace value targets and policy-gradient advantages.

    Espeholt et al. 2018, "IMPALA: scalable distributed deep-RL with importance weighted
    actor-learner architectures", eq. 1, with lambda as in remark 2:
    ``c_t = lambda * min(c_clip, rho_t)``. https://arxiv.org/abs/1802.01561

    The advantages mix the next target with the next value by lambda, as RLax's
    ``vtrace_td_error_and_advantage`` does (github.com/google-deepmind/rlax). On-policy they are
    exactly GAE(lambda) (Schulman et al. 2016, https://arxiv.org/abs/1506.02438). With lambda = 1
    they are the paper's (section 4.2), and on-policy ``vs`` is A3C's n-step return (Mnih et al.
    2016, https://arxiv.org/abs/1602.01783).

    Args:
        behaviour_log_probs: float ``[T, B]``, in nats: log-probabilities of the actions taken
            under the policy that took them.
        target_log_probs: float ``[T, B]``, in nats: the same actions' log-probabilities under the
            policy being learnt.
        rewards: float ``[T, B]``, in reward units.
        discounts: float ``[T, B]``, dimensionless; 0 where the episode terminated.
        values: float ``[T, B]``, in reward units: the value of the state each step acted in.
        bootstrap_values: float ``[B]``, in reward units: the value of the state after the last
            step.
        lambda_: In [0, 1]; how far a TD error reaches back, as in GAE.
        rho_clip: The paper's rho-bar, which truncates the weight of a step's own TD error and
            advantage; it decides which policy's value function is learnt. The paper assumes it
            >= c_clip.
        c_clip: The paper's c-bar, which truncates the weights multiplied along the trace; it
            decides how fast that value function is learnt.

    Raises:
        ValueError: A tensor has another shape; the message names it and both shapes.
    """
    check_shapes(
        "[T, B]",
        behaviour_log_probs=behaviour_log_probs,
        target_log_probs=target_log_probs,
        rewards=rewards,
        discounts=discounts,
        values=values,
    )
    if bootstrap_values.shape != values.shape[1:]:
        raise ValueError(
            f"bootstrap_values has shape {list(bootstrap_values.shape)}, "
            f"expected {list(values.shape[1:])} ([B] of values)"
        )
    rhos = torch.exp(target_log_probs - behaviour_log_probs)
    clipped_rhos = rhos.clamp(max=rho_clip)
    traces = lambda_ * rhos.clamp(max=c_clip)

    # v_T is the bootstrap value: no step is left to correct it.
    last = bootstrap_values.unsqueeze(0)
    next_values = torch.cat([values[1:], last])
    td_errors = clipped_rhos * (rewards + discounts * next_values - values)
    vs = values + _backward_recurrence(
        td_errors, discounts * traces, torch.zeros_like(bootstrap_values)
    )

    next_vs = torch.cat([vs[1:], last])
    # Not clipped_rho_t * (vs_t - values_t): vs_t already weights the action at t with rho_t and
    # c_t, and the advantage must weight it once.
    q_values = rewards + discounts * (lambda_ * next_vs + (1.0 - lambda_) * next_values)
    return VTrace(vs=vs, pg_advantages=clipped_rhos * (q_values - values), rhos=rhos)


def _backward_recurrence(terms: Tensor, decays: Tensor, last: Tensor) -> Tensor:
    """Returns the x ``[T, B]`` of ``x_t = terms_t + decays_t * x_{t+1}``, with ``x_T = last``."""
    backwards = []
    following = last
    for term, decay in zip(reversed(terms), reversed(decays), strict=True):
        following = term + decay * following
        backwards.append(following)
    return torch.stack(backwards[::-1])
