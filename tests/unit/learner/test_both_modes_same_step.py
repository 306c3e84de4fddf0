"""Both modes are one algorithm: from one actor's play they make the same optimiser steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from asyncade_actor.modes import make_mode, next_message
from asyncade_actor.player import Player
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.modes import DataParallel, GradientParallel
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.trainer import Improvement, Trainer
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Request, Trajectory
from asyncade_rl.envs.catch import Catch
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import fingerprint
from rigs.play import Replay, actor_stages, header

T = 16
REMAINING = 0.5  # half-way through the annealing, which both sides must apply
SETTINGS: dict[str, Any] = {
    "game": "catch",
    "seed": 4,
    "passes": 1,
    "batch_samples": 4 * T,
    "learning_rate": 0.01 / (4 * T / 128) ** 0.5,  # 0.01 after scaling by samples
    "minibatch_size": 4 * T,  # all samples of the first unroll at once
    "entropy_cost": 0.05,
    "anneal_env_steps": 500_000,
    "anneal_to": 0.1,
}


def fresh_network() -> ActorCritic:
    return make_network(3, "small", seed=5)


def played(envs: int, seed: int) -> Trajectory:
    """Plays with another policy than the learner's, so that V-trace has something to correct."""
    behaviour = make_network(3, "small", seed=seed)
    with torch.no_grad():
        behaviour.policy.weight.mul_(1000)
    player = Player(Catch(envs), seed, actor_stages())
    for steps in (7, T):  # so that games end within every unroll, but not with it
        for _ in player.play(behaviour, steps):
            pass
        unroll = player.trajectory(header())
    return unroll


@pytest.fixture(scope="module")
def unrolls() -> Sequence[Trajectory]:
    return [played(envs=4, seed=1), played(envs=12, seed=2)]


def report(
    request: Request, unroll: Trajectory, settings: LearnerSettings, *, rounded: bool = False
) -> Any:
    """Returns an actor's message about an unroll, decoded; steps exactly unless `rounded`."""
    network, stages = fresh_network(), actor_stages()
    mode = make_mode(request, Replay(unroll), network, stages, settings.seed)
    sent = header(model=fingerprint(network))
    message = next_message(mode, settings.assignment(request, REMAINING), sent)
    return decode(encode(message, float8=rounded))


def trainer(settings: LearnerSettings) -> Trainer:
    return Trainer(fresh_network(), settings, LearnerMetrics(CollectorRegistry()).stages)


def step_of(
    mode: str, unrolls: Sequence[Trajectory], rounded: bool = False, **changes: Any
) -> tuple[dict[str, Tensor], Improvement]:
    """Returns the parameters after one improvement from these unrolls, and its counts."""
    settings = LearnerSettings(**SETTINGS | changes)
    learner = trainer(settings)
    phase = DataParallel(learner) if mode == "data" else GradientParallel(learner)
    request: Request = "trajectories" if mode == "data" else "gradients"
    for unroll in unrolls:
        phase.add(report(request, unroll, settings, rounded=rounded))
    return learner.network.state_dict(), phase.improve(REMAINING)


def assert_same_step(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Equal to within a thousandth of the largest change."""
    before = fresh_network().state_dict()
    moved = max(float((one[name] - before[name]).abs().max()) for name in one)
    assert moved > 1e-3
    torch.testing.assert_close(one, other, rtol=0, atol=moved / 1000)


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Returns the length of the difference, over that of the change."""
    before = flat(fresh_network().state_dict())
    return float((flat(one) - flat(other)).norm() / (flat(one) - before).norm())


def flat(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in state.values()])


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("max_gradient_norm", [100.0, 0.01])
@pytest.mark.parametrize("clip", [0.1, None])
@pytest.mark.parametrize("normalise", [True, False])
def test_one_actor_takes_the_learners_steps(
    unrolls: Sequence[Trajectory],
    normalise: bool,
    clip: float | None,
    max_gradient_norm: float,
    passes: int,
) -> None:
    settings = {
        "normalise_advantages": normalise,
        "clip": clip,
        "max_gradient_norm": max_gradient_norm,
        "passes": passes,
        "minibatch_size": 2 * T,
    }
    data, by_data = step_of("data", unrolls[:1], **settings)
    gradients, by_gradients = step_of("gradients", unrolls[:1], **settings)
    assert_same_step(data, gradients)
    assert by_data.updates == by_gradients.updates == 2 * passes
    samples = by_data.mean_losses.samples
    assert samples == by_gradients.mean_losses.samples * passes == 4 * T * passes
    losses = by_gradients.mean_losses.means
    assert by_data.mean_losses.means == pytest.approx(losses, rel=1e-4, abs=1e-6)


def test_rounding_on_the_wire_changes_the_step_by_a_twentieth(
    unrolls: Sequence[Trajectory],
) -> None:
    settings = {"passes": 3, "minibatch_size": 2 * T}
    data, _ = step_of("data", unrolls[:1], **settings)
    gradients, _ = step_of("gradients", unrolls[:1], rounded=True, **settings)
    assert 0 < apart(data, gradients) < 0.06


def test_n_actors_go_the_root_of_n_times_as_far(unrolls: Sequence[Trajectory]) -> None:
    """As `learning_rate_at` lets a gradient of N times the samples go."""
    start = flat(fresh_network().state_dict())
    batch = {"batch_samples": 4 * 4 * T}
    one, _ = step_of("gradients", unrolls[:1], **batch)
    four, by_four = step_of("gradients", [unrolls[0]] * 4, **batch)
    assert by_four.updates == 1
    torch.testing.assert_close(flat(four) - start, 2 * (flat(one) - start), rtol=1e-3, atol=1e-6)


def test_actors_weigh_as_their_samples(unrolls: Sequence[Trajectory]) -> None:
    settings = LearnerSettings(**SETTINGS | {"batch_samples": 1024})
    small, large = (report("gradients", unroll, settings) for unroll in unrolls)
    learner = trainer(settings)
    phase = GradientParallel(learner)
    phase.add(small)
    phase.add(large)
    phase.improve(REMAINING)
    factor = REMAINING * settings.learning_rate * 2**0.5
    for name, parameter in learner.network.named_parameters():
        mean = (4 * small.tensors[name] + 12 * large.tensors[name]) / 16
        expected = fresh_network().get_parameter(name).detach() - factor * torch.from_numpy(mean)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-6)


def test_the_unrolls_are_off_policy_with_ends_and_rewards(unrolls: Sequence[Trajectory]) -> None:
    """Otherwise the tests above would prove little. The two unrolls lead to different steps."""
    assert all(unroll.ends.any() for unroll in unrolls)
    rewards = np.concatenate([unroll.rewards.flatten() for unroll in unrolls])
    assert {-1.0, 1.0} <= set(rewards.tolist())
    # A nearly uniform policy would have probabilities near 1/3.
    chances = np.exp(np.concatenate([u.behaviour_log_probs.flatten() for u in unrolls]))
    assert chances.min() < 0.15
    assert chances.max() > 0.6
    one, _ = step_of("data", unrolls[:1])
    other, _ = step_of("data", unrolls[1:])
    with pytest.raises(AssertionError):
        assert_same_step(one, other)
