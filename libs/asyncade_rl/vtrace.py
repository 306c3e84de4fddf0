"""V-trace: value targets and advantages from data that an older policy gathered.

An actor plays with parameters that are a few updates behind the learner's. V-trace reweights its
steps by how much likelier the learner's policy is to act as the actor did, with the weights
truncated so that their product over an unroll cannot explode.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from asyncade_rl.returns import backward_recurrence, check_time_major


class VTrace(NamedTuple):
    """What V-trace makes of an unroll; every field is float ``[T, B]`` and carries no gradient.

    Attributes:
        vs: Value targets, in reward units.
        pg_advantages: Advantages for the policy gradient, in reward units, already multiplied by
            the truncated importance ratio.
        rhos: Importance ratios target / behaviour before any truncation, dimensionless; the
            measure of how far off-policy the data are.
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
    ``vtrace_td_error_and_advantage`` does, so that on-policy they are exactly GAE(lambda); with
    lambda = 1 they are the paper's own (section 4.2) and, on-policy, ``vs`` is the n-step return.
    https://github.com/google-deepmind/rlax/blob/master/rlax/_src/vtrace.py

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
        rho_clip: The paper's rho-bar, on the weight of a step's own TD error and advantage; it
            decides which policy's value function is learnt. The paper takes it >= c_clip.
        c_clip: The paper's c-bar, on the weights multiplied along the trace; it decides how fast
            that value function is learnt.

    Returns:
        The targets, advantages and ratios, each ``[T, B]``.
    """
    check_time_major(
        bootstrap_values,
        behaviour_log_probs=behaviour_log_probs,
        target_log_probs=target_log_probs,
        rewards=rewards,
        discounts=discounts,
        values=values,
    )
    rhos = torch.exp(target_log_probs - behaviour_log_probs)
    clipped_rhos = rhos.clamp(max=rho_clip)
    traces = lambda_ * rhos.clamp(max=c_clip)

    # Past the last step there is nothing left to correct: v_T is the bootstrap value itself.
    last = bootstrap_values.unsqueeze(0)
    next_values = torch.cat([values[1:], last])
    td_errors = clipped_rhos * (rewards + discounts * next_values - values)
    vs = values + backward_recurrence(
        td_errors, discounts * traces, torch.zeros_like(bootstrap_values)
    )

    next_vs = torch.cat([vs[1:], last])
    # Not clipped_rho_t * (vs_t - values_t): vs_t already weighs the action taken at t by rho_t and
    # c_t, and the advantage is to weigh it once.
    q_values = rewards + discounts * (lambda_ * next_vs + (1.0 - lambda_) * next_values)
    return VTrace(vs=vs, pg_advantages=clipped_rhos * (q_values - values), rhos=rhos)
