"""Returns and advantages of an unroll whose data are on-policy.

Everything here is a learning target: a number the networks are moved towards, never one that is
itself moved. So no gradient flows through these functions.

Tensors are time-major, ``[T, B]``: T steps of an unroll by B unrolls. Row ``t`` holds what belongs
to one step: the value of the state acted in, the reward that followed and the discount applied to
whatever came after it. Discounts are data: gamma, or 0 where the episode terminated at that step,
which is how one unroll may span several episodes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_time_major(bootstrap_values: Tensor, **time_major: Tensor) -> None:
    """Refuse anything but tensors of one shape ``[T, B]`` and a bootstrap value per unroll.

    Torch would broadcast ``[T, B, 1]`` or ``[B, 1]`` against ``[T, B]`` in silence and learn from
    the wrong numbers, so a shape that is not exactly right is an error.

    Args:
        bootstrap_values: Expected to be ``[B]``.
        **time_major: Tensors by name, each expected to be ``[T, B]``.

    Raises:
        ValueError: A tensor has another shape; the message names it and both shapes.
    """
    first, *_ = time_major
    expected = time_major[first].shape
    if len(expected) != 2 or expected[0] < 1:
        raise ValueError(f"{first} has shape {list(expected)}, expected [T, B] with T >= 1")
    for name, tensor in time_major.items():
        if tensor.shape != expected:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, "
                f"expected {list(expected)} ([T, B], as {first})"
            )
    if bootstrap_values.shape != expected[1:]:
        raise ValueError(
            f"bootstrap_values has shape {list(bootstrap_values.shape)}, "
            f"expected {list(expected[1:])} ([B] of {first})"
        )


@torch.no_grad()
def backward_recurrence(terms: Tensor, decays: Tensor, bootstrap_values: Tensor) -> Tensor:
    """Solve ``x_t = term_t + decay_t * x_{t+1}`` backwards from ``x_T = bootstrap_value``.

    Every return and advantage in this package is this recurrence with other terms and decays.

    Args:
        terms: float ``[T, B]``.
        decays: float ``[T, B]``; a zero cuts step ``t`` off from all later ones.
        bootstrap_values: float ``[B]``, in the terms' unit: what follows the last step.

    Returns:
        float ``[T, B]``, in the terms' unit.
    """
    check_time_major(bootstrap_values, terms=terms, decays=decays)
    backwards = []
    following = bootstrap_values
    for term, decay in zip(reversed(terms), reversed(decays), strict=True):
        following = term + decay * following
        backwards.append(following)
    return torch.stack(backwards[::-1])


@torch.no_grad()
def n_step_returns(rewards: Tensor, discounts: Tensor, bootstrap_values: Tensor) -> Tensor:
    """Compute A3C's return, from each step to the end of the unroll.

    Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", Algorithm S3:
    ``R_t = r_t + discount_t * R_{t+1}``, with ``R_T`` the bootstrap value. The first step thus gets
    a T-step return and the last one a one-step return. https://arxiv.org/abs/1602.01783

    Args:
        rewards: float ``[T, B]``, in reward units.
        discounts: float ``[T, B]``, dimensionless; 0 where the episode terminated.
        bootstrap_values: float ``[B]``, in reward units: the value of the state after the last
            step.

    Returns:
        float ``[T, B]``, in reward units.
    """
    check_time_major(bootstrap_values, rewards=rewards, discounts=discounts)
    return backward_recurrence(rewards, discounts, bootstrap_values)


@torch.no_grad()
def gae(
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    bootstrap_values: Tensor,
    lambda_: float,
) -> Tensor:
    """Compute generalised advantage estimates.

    Schulman et al. 2016, "High-dimensional continuous control using generalized advantage
    estimation", eq. 16, cut off at the end of the unroll. https://arxiv.org/abs/1506.02438

    The matching value targets are ``values + advantages``.

    Args:
        rewards: float ``[T, B]``, in reward units.
        discounts: float ``[T, B]``, dimensionless; 0 where the episode terminated.
        values: float ``[T, B]``, in reward units: the value of the state each step acted in.
        bootstrap_values: float ``[B]``, in reward units: the value of the state after the last
            step.
        lambda_: In [0, 1]; 0 gives the one-step advantage (least variance), 1 the return to the
            end of the unroll minus the value (least bias).

    Returns:
        float ``[T, B]``, in reward units.
    """
    check_time_major(bootstrap_values, rewards=rewards, discounts=discounts, values=values)
    next_values = torch.cat([values[1:], bootstrap_values.unsqueeze(0)])
    td_errors = rewards + discounts * next_values - values
    # Past the end of the unroll there are no more TD errors to add, hence the zero.
    return backward_recurrence(td_errors, discounts * lambda_, torch.zeros_like(bootstrap_values))
