"""Losses against their definitions, and their gradients derived by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from asyncade_rl.losses import (
    Losses,
    action_log_probs,
    actor_critic_loss,
    clipped_surrogate_loss,
    entropy,
    normalise,
    policy_gradient_loss,
    value_loss,
)

Array = npt.NDArray[np.float64]

N, A = 12, 6
CLIP = 0.2


class Costs(TypedDict):
    entropy_cost: float
    value_cost: float


COSTS: Costs = {"entropy_cost": 0.03, "value_cost": 0.7}


class Batch(TypedDict):
    logits: Tensor
    values: Tensor
    actions: Tensor
    proximal_log_probs: Tensor
    advantages: Tensor
    value_targets: Tensor


def softmax(logits: Array) -> Array:
    exponentials = np.exp(logits)
    probabilities: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def batch(seed: int = 0) -> Batch:
    """A minibatch with ratios below, inside and above the clip range.

    Each range has advantages of both signs: the clipped loss treats all six differently.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, A))
    actions = rng.integers(A, size=N)
    log_probs = np.log(softmax(logits)[np.arange(N), actions])
    ratios = np.tile([0.5, 0.7, 0.9, 1.1, 1.3, 2.0], 2)
    signs = np.repeat([1.0, -1.0], 6)
    return {
        "logits": torch.from_numpy(logits),
        "values": torch.from_numpy(rng.normal(size=N)),
        "actions": torch.from_numpy(actions),
        "proximal_log_probs": torch.from_numpy(log_probs - np.log(ratios)),
        "advantages": torch.from_numpy(signs * rng.uniform(0.5, 2.0, size=N)),
        "value_targets": torch.from_numpy(rng.normal(size=N)),
    }


def gradient(loss: Tensor, of: Tensor) -> Array:
    (result,) = torch.autograd.grad(loss, of)
    array: Array = result.numpy()
    return array


# --- Log-probabilities ---


def test_action_log_probs_are_the_log_of_the_softmax() -> None:
    data = batch()
    expected = [
        math.log(softmax(data["logits"].numpy())[n, int(data["actions"][n])]) for n in range(N)
    ]
    actual = action_log_probs(data["logits"], data["actions"])
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)


def test_action_log_probs_accept_any_leading_shape() -> None:
    data = batch()
    folded = action_log_probs(data["logits"].view(3, 4, A), data["actions"].view(3, 4))
    assert torch.equal(folded, action_log_probs(data["logits"], data["actions"]).view(3, 4))


def test_action_log_probs_survive_large_logits() -> None:
    actual = action_log_probs(torch.tensor([[1e4, 0.0]]), torch.tensor([1]))
    assert actual.tolist() == [-1e4]


# --- Policy gradient ---


def test_policy_gradient_loss_and_its_gradient() -> None:
    data = batch()
    log_probs, advantages = data["proximal_log_probs"].numpy(), data["advantages"].numpy()
    current = data["proximal_log_probs"].clone().requires_grad_()
    loss = policy_gradient_loss(current, data["advantages"])
    expected = -sum(advantages[n] * log_probs[n] for n in range(N)) / N
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(gradient(loss, current), -advantages / N, atol=1e-12)


# --- Clipped surrogate ---


def clipped_oracle(ratio: float, advantage: float) -> tuple[float, float]:
    """PPO's eq. 7 for one sample, by cases: the objective and its slope in the log-probability.

    d ratio / d log-probability = ratio. The objective is flat beyond the clip in the direction of
    the advantage, and only there.
    """
    if advantage > 0 and ratio > 1 + CLIP:
        return (1 + CLIP) * advantage, 0.0
    if advantage < 0 and ratio < 1 - CLIP:
        return (1 - CLIP) * advantage, 0.0
    return ratio * advantage, ratio * advantage


def test_clipped_surrogate_loss_and_its_gradient() -> None:
    data = batch()
    log_probs = action_log_probs(data["logits"], data["actions"]).requires_grad_()
    loss = clipped_surrogate_loss(log_probs, data["proximal_log_probs"], data["advantages"], CLIP)
    ratios = np.exp((log_probs.detach() - data["proximal_log_probs"]).numpy())
    cases = [
        clipped_oracle(float(ratio), float(advantage))
        for ratio, advantage in zip(ratios, data["advantages"], strict=True)
    ]
    assert loss.item() == pytest.approx(-sum(value for value, _ in cases) / N, abs=1e-12)
    slopes = np.array([slope for _, slope in cases])
    assert (slopes == 0).sum() == 4  # 1.3 and 2.0 upwards, 0.5 and 0.7 downwards
    np.testing.assert_allclose(gradient(loss, log_probs), -slopes / N, atol=1e-12)


def test_at_the_proximal_policy_the_clipped_gradient_is_the_policy_gradient() -> None:
    data = batch()
    log_probs = data["proximal_log_probs"].clone().requires_grad_()
    clipped = clipped_surrogate_loss(
        log_probs, data["proximal_log_probs"], data["advantages"], CLIP
    )
    plain = policy_gradient_loss(log_probs, data["advantages"])
    np.testing.assert_allclose(gradient(clipped, log_probs), gradient(plain, log_probs), atol=1e-12)


# --- Value ---


def test_value_loss_and_its_gradient() -> None:
    data = batch()
    values = data["values"].requires_grad_()
    loss = value_loss(values, data["value_targets"])
    errors = (values.detach() - data["value_targets"]).numpy()
    assert loss.item() == pytest.approx(sum(0.5 * error**2 for error in errors) / N, abs=1e-12)
    np.testing.assert_allclose(gradient(loss, values), errors / N, atol=1e-12)


# --- Entropy ---


def test_entropy_and_its_gradient() -> None:
    """By hand: dH / d logit_j = -p_j (log p_j + H)."""
    logits = batch()["logits"].requires_grad_()
    p = softmax(logits.detach().numpy())
    entropies = -(p * np.log(p)).sum(axis=-1)
    mean = entropy(logits)
    assert mean.item() == pytest.approx(entropies.mean(), abs=1e-12)
    np.testing.assert_allclose(
        gradient(mean, logits), -p * (np.log(p) + entropies[:, None]) / N, atol=1e-12
    )


def test_entropy_is_in_nats() -> None:
    assert entropy(torch.zeros(3, 6)).item() == pytest.approx(math.log(6))
    assert entropy(torch.tensor([[1e4, 0.0]])).item() == 0.0


# --- Normalisation ---


def test_normalise_a_single_sample_is_zero() -> None:
    assert normalise(torch.tensor([3.0])).tolist() == [0.0]


def test_normalise_uses_the_biased_deviation() -> None:
    # Mean 2, biased deviation 2.
    assert normalise(torch.tensor([0.0, 4.0])).tolist() == pytest.approx([-1.0, 1.0])


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_normalised_advantages_have_mean_zero_and_unit_deviation(numbers: list[float]) -> None:
    # Numbers equal to within rounding cannot be normalised.
    assume(max(numbers) - min(numbers) > 1e-2)
    result = normalise(torch.tensor(numbers, dtype=torch.float64)).numpy()
    assert result.mean() == pytest.approx(0.0, abs=1e-6)
    assert result.std() == pytest.approx(1.0, abs=1e-5)
    order = np.argsort(numbers)
    assert (np.diff(result[order]) >= 0).all()


# --- The whole ---


@pytest.mark.parametrize("clip", [None, CLIP])
def test_total_is_the_weighted_sum_of_its_parts(clip: float | None) -> None:
    data = batch()
    losses = actor_critic_loss(**data, clip=clip, **COSTS)
    log_probs = action_log_probs(data["logits"], data["actions"])
    policy = (
        policy_gradient_loss(log_probs, data["advantages"])
        if clip is None
        else clipped_surrogate_loss(log_probs, data["proximal_log_probs"], data["advantages"], clip)
    )
    assert torch.equal(losses.policy, policy)
    assert torch.equal(losses.value, value_loss(data["values"], data["value_targets"]))
    assert torch.equal(losses.entropy, entropy(data["logits"]))
    expected = losses.policy.item() + 0.7 * losses.value.item() - 0.03 * losses.entropy.item()
    assert losses.total.item() == pytest.approx(expected, abs=1e-12)


def test_total_gradient_is_the_weighted_sum_of_the_gradients() -> None:
    """By hand: d log pi(a) / d logits = onehot(a) - pi; entropy and value as above."""
    data = batch()
    logits, values = data["logits"].requires_grad_(), data["values"].requires_grad_()
    total = actor_critic_loss(**data, clip=None, **COSTS).total
    p = softmax(logits.detach().numpy())
    entropies = -(p * np.log(p)).sum(axis=-1, keepdims=True)
    onehot = np.eye(A)[data["actions"].numpy()]
    expected = (
        -data["advantages"].numpy()[:, None] * (onehot - p) + 0.03 * p * (np.log(p) + entropies)
    ) / N
    by_logits, by_values = torch.autograd.grad(total, [logits, values])
    np.testing.assert_allclose(by_logits.numpy(), expected, atol=1e-12)
    errors = (values.detach() - data["value_targets"]).numpy()
    np.testing.assert_allclose(by_values.numpy(), 0.7 * errors / N, atol=1e-12)


def test_kl_and_clip_fraction() -> None:
    data = batch()
    losses = actor_critic_loss(**data, clip=CLIP, **COSTS)
    ratios = np.tile([0.5, 0.7, 0.9, 1.1, 1.3, 2.0], 2)
    assert losses.kl.item() == pytest.approx((ratios - 1 - np.log(ratios)).mean(), abs=1e-12)
    assert losses.clip_fraction.item() == pytest.approx(8 / 12)
    assert actor_critic_loss(**data, clip=None, **COSTS).clip_fraction.item() == 0.0


def test_kl_estimates_the_divergence_from_the_proximal_policy() -> None:
    """The estimate is exact over actions in proportion to the proximal policy."""
    proximal = np.array([0.5, 0.25, 0.125, 0.125])
    current = np.array([0.25, 0.25, 0.25, 0.25])
    actions = np.repeat(np.arange(4), [4, 2, 1, 1])
    zeros = torch.zeros(8, dtype=torch.float64)
    losses = actor_critic_loss(
        logits=torch.from_numpy(np.log(current)).expand(8, 4),
        values=zeros,
        actions=torch.from_numpy(actions),
        proximal_log_probs=torch.from_numpy(np.log(proximal[actions])),
        advantages=zeros,
        value_targets=zeros,
        clip=None,
        **COSTS,
    )
    divergence = (proximal * np.log(proximal / current)).sum()
    assert losses.kl.item() == pytest.approx(divergence, abs=1e-12)


@pytest.mark.parametrize("clip", [None, CLIP])
def test_only_the_total_has_a_gradient_in_logits_and_values(clip: float | None) -> None:
    """Targets and the proximal policy are constants, even if they come with a graph."""
    data = batch()
    logits, values = data["logits"].requires_grad_(), data["values"].requires_grad_()
    constants = [
        data["proximal_log_probs"].requires_grad_(),
        data["advantages"].requires_grad_(),
        data["value_targets"].requires_grad_(),
    ]
    losses = actor_critic_loss(**data, clip=clip, **COSTS)
    for name, loss in losses._asdict().items():
        assert loss.shape == ()
        assert loss.requires_grad == (name == "total")
    gradients = torch.autograd.grad(losses.total, [logits, values, *constants], allow_unused=True)
    assert [found is not None for found in gradients] == [True, True, False, False, False]


def test_a_single_float32_sample() -> None:
    losses = actor_critic_loss(
        logits=torch.zeros(1, A),
        values=torch.zeros(1),
        actions=torch.zeros(1, dtype=torch.int64),
        proximal_log_probs=torch.full((1,), -math.log(A)),
        advantages=torch.ones(1),
        value_targets=torch.ones(1),
        clip=CLIP,
        **COSTS,
    )
    expected = Losses(
        total=torch.tensor(-1.0 + 0.7 * 0.5 - 0.03 * math.log(A)),
        policy=torch.tensor(-1.0),
        value=torch.tensor(0.5),
        entropy=torch.tensor(math.log(A)),
        kl=torch.tensor(0.0),
        clip_fraction=torch.tensor(0.0),
    )
    torch.testing.assert_close(tuple(losses), tuple(expected))
    assert {loss.dtype for loss in losses} == {torch.float32}


# --- Shapes ---

GOOD, COLUMN, SHORT, NONE = (torch.zeros(shape) for shape in [(N,), (N, 1), (N - 1,), (0,)])


FUNCTIONS: list[tuple[Callable[..., Tensor], int]] = [
    (policy_gradient_loss, 2),
    (partial(clipped_surrogate_loss, clip=CLIP), 3),
    (value_loss, 2),
    (normalise, 1),
]
NAMES = ["policy_gradient_loss", "clipped_surrogate_loss", "value_loss", "normalise"]


@pytest.mark.parametrize("bad", [COLUMN, SHORT, torch.zeros(1), torch.zeros(())])
@pytest.mark.parametrize(("function", "count"), FUNCTIONS[:3], ids=NAMES[:3])
def test_wrong_shapes_are_refused(function: Callable[..., Tensor], count: int, bad: Tensor) -> None:
    for position in range(count):
        samples = [GOOD] * count
        samples[position] = bad
        with pytest.raises(ValueError, match="has shape"):
            function(*samples)


@pytest.mark.parametrize("bad", [COLUMN, NONE])
@pytest.mark.parametrize(("function", "count"), FUNCTIONS, ids=NAMES)
def test_a_wrong_shape_of_all_is_refused(
    function: Callable[..., Tensor], count: int, bad: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"expected \[N\] with N >= 1$"):
        function(*[bad] * count)


@pytest.mark.parametrize("bad", [torch.zeros(A), torch.zeros(N, 1, A), torch.zeros(0, A)])
def test_entropy_refuses_wrong_shapes(bad: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^logits has shape"):
        entropy(bad)


@pytest.mark.parametrize(
    ("logits", "actions"), [((N, A), (N, 1)), ((N, A), (N - 1,)), ((N, A), ()), ((), ())]
)
def test_action_log_probs_refuse_wrong_shapes(
    logits: tuple[int, ...], actions: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"^actions has shape"):
        action_log_probs(torch.zeros(logits), torch.zeros(actions, dtype=torch.int64))


@pytest.mark.parametrize("clip", [None, CLIP])
@pytest.mark.parametrize(
    "name",
    ["logits", "values", "actions", "proximal_log_probs", "advantages", "value_targets"],
)
def test_actor_critic_loss_refuses_wrong_shapes(name: str, clip: float | None) -> None:
    data = dict(batch())
    good = data[name]
    assert isinstance(good, Tensor)
    for bad in (good.unsqueeze(-1), good[:-1], good[:1]):
        with pytest.raises(ValueError, match="has shape"):
            actor_critic_loss(**data | {name: bad}, clip=clip, **COSTS)  # type: ignore[arg-type]


def test_the_error_names_the_tensor_and_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"^value_targets .*\[12, 1\].*\[12\]"):
        value_loss(GOOD, COLUMN)
