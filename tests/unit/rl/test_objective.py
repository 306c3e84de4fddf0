"""Samples from batches, minibatches from samples, gradients from minibatches."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

import builders
from asyncade_rl import objective as objective_module
from asyncade_rl.batch import Batch
from asyncade_rl.losses import action_log_probs
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.objective import (
    RecentAdvantages,
    Samples,
    backpropagate,
    minibatches,
    prepare,
    prepare_all,
)

T, B, A = 6, 3, 4
OBJECTIVE = dataclasses.replace(
    builders.OBJECTIVE, passes=3, minibatch_size=5, normalise_advantages=False
)


@pytest.fixture(scope="module")
def network() -> ActorCritic:
    """A network with a policy far from uniform, so that mixing up actions shows."""
    network = make_network(A, "small", seed=0)
    with torch.no_grad():
        network.policy.weight.mul_(200)
    return network


@pytest.fixture(scope="module")
def outputs(network: ActorCritic, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the actions [T, B] and values [T+1, B], computed step by step."""
    with torch.no_grad():
        steps = [network(frames) for frames in batch.frames]
    log_policy = torch.stack([logits for logits, _ in steps[:-1]]).log_softmax(-1)
    return (
        log_policy.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1),
        torch.stack([values for _, values in steps]),
    )


@pytest.fixture(scope="module")
def batch() -> Batch:
    rng = torch.Generator().manual_seed(1)
    discounts = torch.full((T, B), OBJECTIVE.discount)
    discounts[2, 0] = discounts[T - 1, 1] = 0.0
    return Batch(
        frames=torch.randint(256, (T + 1, B, 4, 84, 84), dtype=torch.uint8, generator=rng),
        actions=torch.randint(A, (T, B), generator=rng),
        behaviour_log_probs=torch.randn(T, B, generator=rng) - 1.5,
        rewards=torch.randn(T, B, generator=rng),
        discounts=discounts,
    )


def gae(rewards: Tensor, discounts: Tensor, values: Tensor, lambda_: float) -> Tensor:
    """Generalised advantage estimates, [T, B], from values [T + 1, B]."""
    errors = rewards + discounts * values[1:] - values[:-1]
    for t in reversed(range(T - 1)):
        errors[t] += discounts[t] * lambda_ * errors[t + 1]
    return errors


def test_on_policy_the_advantages_are_gae(
    network: ActorCritic, batch: Batch, outputs: tuple[Tensor, Tensor]
) -> None:
    log_probs, values = outputs
    on_policy = batch._replace(behaviour_log_probs=log_probs)
    samples = prepare_all(network, [on_policy], OBJECTIVE)
    expected = gae(batch.rewards, batch.discounts, values, OBJECTIVE.lambda_)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(samples.advantages.view(T, B), expected, **close)
    torch.testing.assert_close(samples.value_targets.view(T, B), values[:-1] + expected, **close)


def test_samples_are_the_steps_of_the_batch(
    network: ActorCritic, batch: Batch, outputs: tuple[Tensor, Tensor]
) -> None:
    samples = prepare_all(network, [batch], OBJECTIVE)
    assert len(samples) == T * B
    assert torch.equal(samples.inputs, network.inputs_of(batch.frames[:-1].flatten(0, 1)))
    assert torch.equal(samples.actions.view(T, B), batch.actions)
    torch.testing.assert_close(
        samples.proximal_log_probs.view(T, B), outputs[0], rtol=1e-4, atol=1e-4
    )
    for name in ("proximal_log_probs", "advantages", "value_targets"):
        tensor = getattr(samples, name)
        assert (tensor.shape, tensor.dtype) == ((T * B,), torch.float32)
        assert not tensor.requires_grad


@pytest.mark.parametrize("normalise", [True, False])
def test_batches_of_any_lengths_are_prepared_as_if_alone(
    network: ActorCritic, batch: Batch, normalise: bool
) -> None:
    objective = dataclasses.replace(OBJECTIVE, normalise_advantages=normalise)
    shorter = Batch(batch.frames[:4], *(field[:3] for field in batch[1:]))
    both = prepare_all(network, [batch, shorter], objective)
    parts = [prepare_all(network, [one], OBJECTIVE) for one in (batch, shorter)]
    assert len(both) == (T + 3) * B
    for name in ("inputs", "actions", "proximal_log_probs", "value_targets", "advantages"):
        expected = torch.cat([getattr(part, name) for part in parts])
        if name == "advantages" and normalise:  # over all of them
            expected = (expected - expected.mean()) / expected.std(correction=0)
        torch.testing.assert_close(getattr(both, name), expected, rtol=1e-4, atol=1e-5)


def test_importance_ratios_are_clipped_at_rho_clip(network: ActorCritic, batch: Batch) -> None:
    """Above it the behaviour's probability has no effect."""
    unlikely, unlikelier = (
        prepare_all(
            network,
            [batch._replace(behaviour_log_probs=torch.full((T, B), log_prob))],
            OBJECTIVE,
        )
        for log_prob in (-30.0, -60.0)
    )
    assert torch.equal(unlikely.advantages, unlikelier.advantages)
    twice = dataclasses.replace(OBJECTIVE, rho_clip=2.0)
    behaviour = torch.full((T, B), -30.0)
    more = prepare_all(network, [batch._replace(behaviour_log_probs=behaviour)], twice)
    last = slice(B * (T - 1), None)  # the last step's advantage is one weighted TD error
    torch.testing.assert_close(more.advantages[last], 2 * unlikely.advantages[last])


def test_advantages_are_normalised_over_the_batch(network: ActorCritic, batch: Batch) -> None:
    plain = prepare_all(network, [batch], OBJECTIVE).advantages
    objective = dataclasses.replace(OBJECTIVE, normalise_advantages=True)
    samples = prepare_all(network, [batch], objective)
    expected = (plain - plain.mean()) / plain.std(correction=0)
    torch.testing.assert_close(samples.advantages, expected, rtol=1e-4, atol=1e-5)
    # The two best advantages: normalised on their own they would be -1 and 1.
    best = samples.advantages.topk(2).indices
    assert float(samples.rows(best).advantages.min()) > 0
    losses = backpropagate(network, samples.rows(best), dataclasses.replace(objective, clip=None))
    log_probs = action_log_probs(network.of_inputs(samples.inputs)[0], samples.actions)[best]
    torch.testing.assert_close(losses.policy, -(log_probs * expected[best]).mean().detach())


def test_an_actor_normalises_over_its_last_unrolls(network: ActorCritic, batch: Batch) -> None:
    """The newest unroll alone may hold nothing but noise."""
    objective = dataclasses.replace(
        OBJECTIVE, normalise_advantages=True, batch_samples=2 * T * B - 1
    )
    quiet, recent = batch._replace(rewards=torch.zeros(T, B)), RecentAdvantages()
    plain = [prepare_all(network, [one], OBJECTIVE).advantages for one in (batch, quiet)]
    for over in ([0], [0, 1], [1, 1], [1, 0]):  # two unrolls have enough samples
        newest = over[-1]
        samples = prepare(network, (batch, quiet)[newest], objective, recent)
        all_of_them = torch.cat([plain[which] for which in over])
        expected = (plain[newest] - all_of_them.mean()) / all_of_them.std(correction=0)
        torch.testing.assert_close(samples.advantages, expected, rtol=1e-4, atol=1e-5)


def test_without_vtrace_stale_data_are_treated_as_on_policy(
    network: ActorCritic, batch: Batch, outputs: tuple[Tensor, Tensor]
) -> None:
    fresh = batch._replace(behaviour_log_probs=outputs[0])
    expected = prepare_all(network, [fresh], OBJECTIVE)
    off = prepare_all(network, [batch], dataclasses.replace(OBJECTIVE, vtrace=False))
    on = prepare_all(network, [batch], OBJECTIVE)
    for name in ("advantages", "value_targets"):
        close = {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(getattr(off, name), getattr(expected, name), **close)
        assert not torch.allclose(getattr(on, name), getattr(expected, name), **close)


@pytest.mark.parametrize("chunk", [1, 4, 7, (T + 1) * B])
def test_preparing_in_chunks_gives_the_same_samples(
    network: ActorCritic, batch: Batch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    whole = prepare_all(network, [batch], OBJECTIVE)
    sizes = []
    monkeypatch.setattr(objective_module, "_FORWARD_CHUNK", chunk)
    of_inputs = network.of_inputs

    def counted(inputs: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(inputs))
        return of_inputs(inputs)

    monkeypatch.setattr(network, "of_inputs", counted)
    parts = prepare_all(network, [batch], OBJECTIVE)
    assert max(sizes) == chunk
    for field in dataclasses.fields(Samples):
        torch.testing.assert_close(
            getattr(parts, field.name), getattr(whole, field.name), rtol=1e-4, atol=1e-4
        )


# --- minibatches ---------------------------------------------------------------------------------


def numbered(count: int) -> Samples:
    """Samples with the value i in every field of sample i."""
    number = torch.arange(count)
    return Samples(number.to(torch.uint8).view(-1, 1), number, *[number.float()] * 3)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (20, 5, {5}),
        (21, 5, {5, 6}),
        (19, 5, {4, 5}),
        (7, 5, {7}),
        (8, 5, {4}),
        (3, 5, {3}),
        (1, 1, {1}),
    ],
)
def test_minibatches_cover_every_sample_in_every_pass(
    count: int, size: int, sizes: set[int]
) -> None:
    objective = dataclasses.replace(OBJECTIVE, minibatch_size=size)
    parts = list(minibatches(numbered(count), objective, torch.Generator().manual_seed(0)))
    assert {len(part) for part in parts} == sizes
    per_pass = len(parts) // OBJECTIVE.passes
    assert len(parts) == per_pass * OBJECTIVE.passes
    for start in range(0, len(parts), per_pass):
        one_pass = torch.cat([part.actions for part in parts[start : start + per_pass]])
        assert sorted(one_pass.tolist()) == list(range(count))
    for part in parts:
        for field in dataclasses.fields(Samples):
            assert torch.equal(getattr(part, field.name).flatten().long(), part.actions)


def test_every_pass_is_divided_differently_and_by_the_seed() -> None:
    def order(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [part.actions.tolist() for part in minibatches(numbered(20), OBJECTIVE, generator)]

    assert order(0) == order(0) != order(1)
    assert order(0)[:4] != order(0)[4:8]


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_gradients_are_those_of_the_loss_written_out(
    network: ActorCritic, batch: Batch, clip: float | None, normalise: bool
) -> None:
    objective = dataclasses.replace(OBJECTIVE, clip=clip, normalise_advantages=normalise)
    samples = prepare_all(network, [batch], objective)
    noise = torch.randn(T * B, generator=torch.Generator().manual_seed(2))
    samples = dataclasses.replace(
        samples, proximal_log_probs=samples.proximal_log_probs + 0.2 * noise
    )

    logits, values = network.of_inputs(samples.inputs)
    probabilities = torch.softmax(logits, dim=1)
    chosen = probabilities[torch.arange(T * B), samples.actions]
    advantages = samples.advantages
    assert (abs(float(advantages.std(correction=0)) - 1) < 1e-4) == normalise
    ratios = chosen / samples.proximal_log_probs.exp()
    if clip is None:
        policy = -(chosen.log() * advantages).mean()
    else:
        gains = [ratios * advantages, ratios.clip(1 - clip, 1 + clip) * advantages]
        policy = -torch.stack(gains).amin(dim=0).mean()
        assert 0 < ((ratios - 1).abs() > clip).float().mean() < 1  # or clipping would not show
    value = ((values - samples.value_targets) ** 2).mean() / 2
    entropy = -(probabilities * probabilities.log()).sum(dim=1).mean()
    total = policy + 0.7 * value - 0.02 * entropy
    expected = torch.autograd.grad(total, list(network.parameters()))

    for _ in range(2):  # the second replaces the first
        losses = backpropagate(network, samples, objective)
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            scale = float(gradient.abs().max())
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4 * scale)
    torch.testing.assert_close(losses.total, total, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.policy, policy, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.value, value)
    torch.testing.assert_close(losses.entropy, entropy)
