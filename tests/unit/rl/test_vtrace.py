"""V-trace against the papers' definitions, written out and inefficient on purpose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncade_rl.vtrace import vtrace

Array = npt.NDArray[np.float64]

T, B = 9, 4
# Different from each other and from 1, so that mixing them up shows.
RHO_CLIP, C_CLIP = 1.6, 0.7


def unroll(seed: int = 0) -> dict[str, Array]:
    """An unroll with ratios beyond both thresholds and with ends of episodes."""
    rng = np.random.default_rng(seed)
    discounts = np.full((T, B), 0.9)
    discounts[3, 0] = 0.0  # in the middle
    discounts[0, 1] = discounts[5, 1] = discounts[6, 1] = 0.0  # first, and twice in a row
    discounts[T - 1, 2] = 0.0  # at the very end: the bootstrap value must not be used
    behaviour = rng.normal(size=(T, B)) - 2.0
    return {
        "behaviour_log_probs": behaviour,
        "target_log_probs": behaviour + rng.normal(size=(T, B)),
        "rewards": rng.normal(size=(T, B)),
        "discounts": discounts,
        "values": rng.normal(size=(T, B)),
        "bootstrap_values": rng.normal(size=B),
    }


def tensors(data: dict[str, Array]) -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in data.items()}


def on_policy() -> dict[str, Any]:
    inputs = tensors(unroll())
    return inputs | {"target_log_probs": inputs["behaviour_log_probs"]}


def oracle(
    behaviour_log_probs: Array,
    target_log_probs: Array,
    rewards: Array,
    discounts: Array,
    values: Array,
    bootstrap_values: Array,
    lambda_: float,
    rho_clip: float,
    c_clip: float,
) -> tuple[Array, Array]:
    """Espeholt et al.'s eq. 1 as printed: a sum over t >= s of products of c's.

    The code uses the backward recurrence of the paper's remark 1 instead.
    """
    pi_over_mu = np.exp(target_log_probs) / np.exp(behaviour_log_probs)
    rho = np.minimum(rho_clip, pi_over_mu)
    c = lambda_ * np.minimum(c_clip, pi_over_mu)
    extended_values = np.vstack([values, bootstrap_values[None]])
    vs = extended_values.copy()  # v_T is the bootstrap value
    for b in range(B):
        for s in range(T):
            for t in range(s, T):
                delta = rho[t, b] * (
                    rewards[t, b]
                    + discounts[t, b] * extended_values[t + 1, b]
                    - extended_values[t, b]
                )
                vs[s, b] += np.prod(discounts[s:t, b]) * np.prod(c[s:t, b]) * delta
    advantages = np.zeros((T, B))
    for b in range(B):
        for s in range(T):
            ahead = lambda_ * vs[s + 1, b] + (1 - lambda_) * extended_values[s + 1, b]
            q = rewards[s, b] + discounts[s, b] * ahead
            advantages[s, b] = rho[s, b] * (q - values[s, b])
    return vs[:T], advantages


@pytest.mark.parametrize("lambda_", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(
    ("rho_clip", "c_clip"), [(RHO_CLIP, C_CLIP), (1.0, 1.0), (math.inf, math.inf)]
)
def test_vtrace_matches_the_paper(lambda_: float, rho_clip: float, c_clip: float) -> None:
    data = unroll()
    actual = vtrace(**tensors(data), lambda_=lambda_, rho_clip=rho_clip, c_clip=c_clip)
    vs, advantages = oracle(**data, lambda_=lambda_, rho_clip=rho_clip, c_clip=c_clip)
    np.testing.assert_allclose(actual.vs.numpy(), vs, atol=1e-12)
    np.testing.assert_allclose(actual.pg_advantages.numpy(), advantages, atol=1e-12)


def test_the_ratios_span_both_thresholds() -> None:
    """Otherwise the test above could not see a wrong threshold."""
    data = unroll()
    rhos = vtrace(**tensors(data)).rhos
    np.testing.assert_allclose(
        rhos.numpy(), np.exp(data["target_log_probs"]) / np.exp(data["behaviour_log_probs"])
    )
    for low, high in [(0.0, C_CLIP), (C_CLIP, 1.0), (1.0, RHO_CLIP), (RHO_CLIP, math.inf)]:
        assert ((rhos > low) & (rhos < high)).sum() >= 3


def gae_oracle(
    rewards: Array, discounts: Array, values: Array, bootstrap_values: Array, lambda_: float
) -> Array:
    """GAE by its definition, the exponentially weighted mean of k-step advantages.

    This is the left-hand side of Schulman et al.'s eq. 16, not the sum of TD errors on its right,
    so it shares no step with the code. The longest return gets the remaining weight: with
    lambda = 1 the result is A3C's n-step return minus the value.
    """
    next_values = np.vstack([values[1:], bootstrap_values[None]])
    advantages = np.zeros((T, B))
    for t, b in np.ndindex(T, B):
        longest = T - t
        for k in range(1, longest + 1):
            weight = lambda_ ** (k - 1) * (1.0 if k == longest else 1.0 - lambda_)
            k_step = np.prod(discounts[t : t + k, b]) * next_values[t + k - 1, b]
            for i in range(k):
                k_step += np.prod(discounts[t : t + i, b]) * rewards[t + i, b]
            advantages[t, b] += weight * (k_step - values[t, b])
    return advantages


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 0.95, 1.0])
def test_on_policy_the_advantages_are_gae(lambda_: float) -> None:
    inputs, data = on_policy(), unroll()
    actual = vtrace(**inputs, lambda_=lambda_)
    names = ("rewards", "discounts", "values", "bootstrap_values")
    expected = gae_oracle(*(data[name] for name in names), lambda_)
    np.testing.assert_allclose(actual.pg_advantages.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(actual.vs.numpy(), data["values"] + expected, atol=1e-12)
    assert torch.equal(actual.rhos, torch.ones(T, B, dtype=torch.float64))


def test_on_policy_with_lambda_one_the_targets_are_n_step_returns() -> None:
    actual = vtrace(
        behaviour_log_probs=torch.zeros(3, 1),
        target_log_probs=torch.zeros(3, 1),
        rewards=torch.tensor([[1.0], [2.0], [3.0]]),
        discounts=torch.tensor([[0.5], [0.0], [0.5]]),
        values=torch.tensor([[5.0], [6.0], [7.0]]),
        bootstrap_values=torch.tensor([8.0]),
    )
    # 3 + 0.5 * 8; 2, the episode's last reward; 1 + 0.5 * 2.
    assert actual.vs.tolist() == [[2.0], [2.0], [7.0]]
    assert actual.vs.dtype == torch.float32


def test_actions_of_probability_zero_have_no_effect() -> None:
    inputs = tensors(unroll())
    inputs["target_log_probs"][4] = -math.inf
    actual = vtrace(**inputs)
    assert torch.equal(actual.vs[4], inputs["values"][4])
    assert torch.equal(actual.pg_advantages[4], torch.zeros(B, dtype=torch.float64))


def test_results_have_no_gradient() -> None:
    inputs = tensors(unroll())
    for name in ("target_log_probs", "values", "bootstrap_values"):
        inputs[name].requires_grad_()
    assert not any(field.requires_grad for field in vtrace(**inputs))


@pytest.mark.parametrize("name", sorted(unroll()))
def test_wrong_shapes_are_refused(name: str) -> None:
    inputs = tensors(unroll())
    good = inputs[name]
    for bad in (good.unsqueeze(-1), good[..., :1], good[:-1]):
        with pytest.raises(ValueError, match="has shape"):
            vtrace(**inputs | {name: bad})


@pytest.mark.parametrize("shape", [(5,), (5, 3, 1), (0, 3)])
def test_a_wrong_rank_of_all_is_refused(shape: tuple[int, ...]) -> None:
    inputs = {name: torch.zeros(shape) for name in unroll()}
    inputs["bootstrap_values"] = torch.zeros(shape[1:])
    with pytest.raises(ValueError, match=r"^behaviour_log_probs has shape .* expected \[T, B\]"):
        vtrace(**inputs)


def test_the_error_names_the_tensor_and_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"^values .*\[9, 4, 1\].*\[9, 4\]"):
        vtrace(**tensors(unroll()) | {"values": torch.zeros(T, B, 1)})


log_probs = st.floats(-200.0, 0.0, width=32)
numbers = st.floats(-1e3, 1e3, width=32)
steps = st.tuples(log_probs, log_probs, numbers, st.sampled_from([0.0, 0.99, 1.0]), numbers)


@settings(deadline=None, derandomize=True)
@given(
    unrolled=st.lists(steps, min_size=1, max_size=8), bootstrap=numbers, lambda_=st.floats(0.0, 1.0)
)
def test_clipped_ratios_bound_the_targets(
    unrolled: list[tuple[float, ...]], bootstrap: float, lambda_: float
) -> None:
    """In float32 a ratio of e^200 is infinite; the results must not be.

    With both thresholds 1, a target differs from its value by one TD error per step at most.
    """
    columns = [torch.tensor(column).unsqueeze(-1) for column in zip(*unrolled, strict=True)]
    inputs: dict[str, Any] = dict(zip(unroll(), [*columns, torch.tensor([bootstrap])], strict=True))
    actual = vtrace(**inputs, lambda_=lambda_)
    bound = 3e3 * len(unrolled) + 1.0
    assert ((actual.vs - inputs["values"]).abs() <= bound).all()
    assert (actual.pg_advantages.abs() <= bound).all()
