from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from asyncade_rl.returns import backward_recurrence, check_time_major, gae, n_step_returns

Array = npt.NDArray[np.float64]

T, B = 9, 4


def unroll(seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Rewards, discounts, values and bootstrap values, with episodes ending in the unroll."""
    rng = np.random.default_rng(seed)
    discounts = np.full((T, B), 0.9)
    discounts[3, 0] = 0.0  # in the middle
    discounts[0, 1] = discounts[5, 1] = discounts[6, 1] = 0.0  # at once, and twice running
    discounts[T - 1, 2] = 0.0  # at the very end: the bootstrap value must not be used
    # Unroll 3 spans no boundary.
    return rng.normal(size=(T, B)), discounts, rng.normal(size=(T, B)), rng.normal(size=B)


def k_step_return(
    rewards: Array, discounts: Array, next_values: Array, t: int, k: int, b: int
) -> float:
    """The discounted sum of k rewards from step t on, and the value after them.

    Written as the papers print it, every product anew: inefficient on purpose.
    """
    total = 0.0
    for i in range(k):
        total += float(np.prod(discounts[t : t + i, b]) * rewards[t + i, b])
    return total + float(np.prod(discounts[t : t + k, b]) * next_values[t + k - 1, b])


def n_step_oracle(rewards: Array, discounts: Array, bootstrap_values: Array) -> Array:
    next_values = np.full((T, B), np.nan)  # only the last may be looked at
    next_values[T - 1] = bootstrap_values
    return np.array(
        [
            [k_step_return(rewards, discounts, next_values, t, T - t, b) for b in range(B)]
            for t in range(T)
        ]
    )


def gae_oracle(
    rewards: Array, discounts: Array, values: Array, bootstrap_values: Array, lambda_: float
) -> Array:
    """GAE by its definition, the exponentially weighted mean of k-step advantages.

    That is the left-hand side of Schulman et al.'s eq. 16, not the sum of TD errors on its right,
    so that it shares no step with the code. The longest return takes all the weight left over.
    Inefficient on purpose.
    """
    next_values = np.vstack([values[1:], bootstrap_values[None]])
    advantages = np.zeros((T, B))
    for t in range(T):
        longest = T - t
        for b in range(B):
            for k in range(1, longest + 1):
                weight = lambda_ ** (k - 1) * (1.0 if k == longest else 1.0 - lambda_)
                k_step = k_step_return(rewards, discounts, next_values, t, k, b)
                advantages[t, b] += weight * (k_step - values[t, b])
    return advantages


def tensors(*arrays: Array) -> list[Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def test_n_step_returns_by_hand() -> None:
    returns = n_step_returns(
        torch.tensor([[1.0], [2.0], [3.0]]),
        torch.tensor([[0.5], [0.0], [0.5]]),
        torch.tensor([8.0]),
    )
    # 3 + 0.5 * 8; 2, the episode's last reward; 1 + 0.5 * 2.
    assert returns.tolist() == [[2.0], [2.0], [7.0]]
    assert returns.dtype == torch.float32


def test_n_step_returns_match_the_paper() -> None:
    rewards, discounts, _, bootstrap = unroll()
    returns = n_step_returns(*tensors(rewards, discounts, bootstrap))
    np.testing.assert_allclose(
        returns.numpy(), n_step_oracle(rewards, discounts, bootstrap), atol=1e-12
    )


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 0.95, 1.0])
def test_gae_matches_the_paper(lambda_: float) -> None:
    data = unroll()
    rewards, discounts, values, bootstrap = tensors(*data)
    advantages = gae(rewards, discounts, values, bootstrap, lambda_)
    np.testing.assert_allclose(advantages.numpy(), gae_oracle(*data, lambda_), atol=1e-12)


def test_gae_lambda_one_is_the_n_step_return_minus_the_value() -> None:
    rewards, discounts, values, bootstrap = tensors(*unroll())
    torch.testing.assert_close(
        gae(rewards, discounts, values, bootstrap, 1.0),
        n_step_returns(rewards, discounts, bootstrap) - values,
    )


def test_gae_lambda_zero_is_the_one_step_advantage() -> None:
    rewards, discounts, values, bootstrap = tensors(*unroll())
    next_values = torch.cat([values[1:], bootstrap[None]])
    torch.testing.assert_close(
        gae(rewards, discounts, values, bootstrap, 0.0), rewards + discounts * next_values - values
    )


def test_nothing_leaks_across_an_episode_boundary() -> None:
    rewards, discounts, values, bootstrap = tensors(*unroll())
    changed_rewards, changed_values = rewards.clone(), values.clone()
    changed_rewards[4:, 0] += 100.0  # unroll 0's first episode ends at step 3
    changed_values[4:, 0] += 100.0
    before = gae(rewards, discounts, values, bootstrap, 0.95)
    after = gae(changed_rewards, discounts, changed_values, bootstrap + 100.0, 0.95)
    assert torch.equal(before[:4, 0], after[:4, 0])
    assert not torch.isclose(before[4:, 0], after[4:, 0]).any()


def test_targets_carry_no_gradient() -> None:
    rewards, discounts, values, bootstrap = tensors(*unroll())
    values.requires_grad_()
    bootstrap.requires_grad_()
    assert not n_step_returns(rewards, discounts, bootstrap).requires_grad
    assert not gae(rewards, discounts, values, bootstrap, 0.95).requires_grad
    assert not backward_recurrence(values, discounts, bootstrap).requires_grad


def good() -> dict[str, Tensor]:
    return dict(
        zip(["rewards", "discounts", "values", "bootstrap_values"], tensors(*unroll()), strict=True)
    )


@pytest.mark.parametrize(
    "spoil",
    [lambda x: x.unsqueeze(-1), lambda x: x[..., :1], lambda x: x[:-1]],
    ids=["extra axis", "one unroll", "a row short"],
)
@pytest.mark.parametrize(
    ("function", "names"),
    [
        (n_step_returns, ["rewards", "discounts", "bootstrap_values"]),
        (partial(gae, lambda_=0.95), ["rewards", "discounts", "values", "bootstrap_values"]),
    ],
    ids=["n_step_returns", "gae"],
)
def test_wrong_shapes_are_refused(
    function: Callable[..., Tensor], names: list[str], spoil: Callable[[Tensor], Tensor]
) -> None:
    inputs = {name: good()[name] for name in names}
    for name in names:
        with pytest.raises(ValueError, match="has shape"):
            function(**inputs | {name: spoil(inputs[name])})


def test_the_message_names_the_tensor_and_both_shapes() -> None:
    inputs = good() | {"values": torch.zeros(T, B, 1)}
    expected = "values has shape [9, 4, 1], expected [9, 4] ([T, B], as rewards)"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        gae(**inputs, lambda_=0.95)
    inputs = good() | {"bootstrap_values": torch.zeros(B, 1)}
    expected = "bootstrap_values has shape [4, 1], expected [4] ([B] of rewards)"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        gae(**inputs, lambda_=0.95)


@pytest.mark.parametrize("shape", [(5,), (5, 3, 1), (0, 3)])
def test_tensors_that_agree_on_a_wrong_rank_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^rewards has shape .* expected \[T, B\]"):
        check_time_major(torch.zeros(shape[1:]), rewards=torch.zeros(shape))


def test_backward_recurrence_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="decays has shape"):
        backward_recurrence(torch.zeros(T, B), torch.zeros(T, 1), torch.zeros(B))
    with pytest.raises(ValueError, match="bootstrap_values has shape"):
        backward_recurrence(torch.zeros(T, B), torch.zeros(T, B), torch.zeros(1))
