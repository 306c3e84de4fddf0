"""Both modes are one algorithm: from the same play they make the same optimiser step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from asyncade_actor.modes import make_mode, next_message
from asyncade_actor.player import Header, Player
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.modes import DataParallel, GradientParallel
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.trainer import Improvement, Trainer
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Request, Trajectory
from asyncade_rl.envs.catch import Catch
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import fingerprint, load_safetensors, to_safetensors
from rigs.play import actor_stages, header

T = 16
REMAINING = 0.5  # half-way through the annealing, which both sides must apply
SETTINGS: dict[str, Any] = {
    "game": "catch",
    "seed": 4,
    "passes": 1,
    "learning_rate": 0.01 / (4 * T / 128) ** 0.5,  # 0.01 after scaling by samples
    "minibatch_size": 4 * T,  # all samples of the first unroll at once
    "entropy_cost": 0.05,
    "anneal_env_steps": 500_000,
    "anneal_to": 0.1,
}


class Replay(Player):
    """A player that has played one given unroll."""

    def __init__(self, unroll: Trajectory) -> None:
        self._unroll = unroll

    def play(self, *_: object, **__: object) -> Iterator[None]:
        return iter(())

    def trajectory(self, header: Header) -> Trajectory:
        return dataclasses.replace(self._unroll, **dataclasses.asdict(header))


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


class Actor:
    """An actor's mode, with a given unroll instead of play."""

    def __init__(self, request: Request, unroll: Trajectory, seed: int = 99) -> None:
        self.network = fresh_network()
        self._request: Request = request
        stages = actor_stages()
        self._mode = make_mode(request, Replay(unroll), self.network, stages, seed)

    def report(self, settings: LearnerSettings, *, rounded: bool = False) -> Any:
        """Returns the next message, decoded from its frame; gradients exactly unless `rounded`."""
        assignment = settings.assignment(self._request, REMAINING)
        sent = header(model=fingerprint(self.network))
        message = next_message(self._mode, assignment, sent)
        return decode(encode(message, bfloat16=rounded))


def trainer(settings: LearnerSettings) -> Trainer:
    return Trainer(fresh_network(), settings, LearnerMetrics(CollectorRegistry()).stages)


def step_of(
    mode: str, unrolls: Sequence[Trajectory], **changes: Any
) -> tuple[dict[str, Tensor], Improvement]:
    """Returns the parameters after one improvement from these unrolls, and its counts."""
    settings = LearnerSettings(**SETTINGS | changes)
    learner = trainer(settings)
    phase = DataParallel(learner) if mode == "data" else GradientParallel(learner)
    request: Request = "trajectories" if mode == "data" else "gradients"
    for unroll in unrolls:
        phase.add(Actor(request, unroll).report(settings))
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


@pytest.mark.parametrize("max_gradient_norm", [100.0, 0.01])
@pytest.mark.parametrize("clip", [0.1, None])
@pytest.mark.parametrize("normalise", [True, False])
def test_both_modes_make_the_same_step_from_one_unroll(
    unrolls: Sequence[Trajectory], normalise: bool, clip: float | None, max_gradient_norm: float
) -> None:
    settings = {
        "normalise_advantages": normalise,
        "clip": clip,
        "max_gradient_norm": max_gradient_norm,
    }
    data, by_data = step_of("data", unrolls[:1], **settings)
    gradients, by_gradients = step_of("gradients", unrolls[:1], **settings)
    assert_same_step(data, gradients)
    assert by_data.samples == by_gradients.samples == 4 * T
    assert by_data.gradient_norm == pytest.approx(by_gradients.gradient_norm, rel=1e-4)
    assert by_data.learning_rate == by_gradients.learning_rate == pytest.approx(0.005)
    assert by_data.losses == pytest.approx(by_gradients.losses, rel=1e-4, abs=1e-6)


def test_both_modes_make_the_same_step_from_unequal_actors(unrolls: Sequence[Trajectory]) -> None:
    """The weighted average of two gradients is the gradient of all samples together."""
    at_once = {"normalise_advantages": False, "minibatch_size": (4 + 12) * T}
    data, by_data = step_of("data", unrolls, **at_once)
    gradients, by_gradients = step_of("gradients", unrolls, **at_once)
    assert_same_step(data, gradients)
    assert by_data.samples == by_gradients.samples == (4 + 12) * T
    assert by_data.learning_rate == by_gradients.learning_rate == pytest.approx(0.01)
    assert by_data.gradient_norm == pytest.approx(by_gradients.gradient_norm, rel=1e-4)
    assert by_data.losses == pytest.approx(by_gradients.losses, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("rounded", [False, True])
def test_both_modes_make_the_same_passes_over_minibatches(
    unrolls: Sequence[Trajectory], rounded: bool
) -> None:
    """With new weights before each gradient, an actor repeats the learner's passes.

    With gradients and weights rounded, as the services send them, it deviates by under 5%.
    """
    cut = {"passes": 3, "minibatch_size": 2 * T}
    data, by_data = step_of("data", unrolls[:1], **cut)
    settings = LearnerSettings(**SETTINGS | cut)
    learner, actor = trainer(settings), Actor("gradients", unrolls[0], settings.seed)
    phase = GradientParallel(learner)
    env_steps = []
    for _ in range(6):
        message = actor.report(settings, rounded=rounded)
        env_steps.append(message.env_steps)
        phase.add(message)
        phase.improve(REMAINING)
        if rounded:
            load_safetensors(actor.network, to_safetensors(learner.network))
        else:
            actor.network.load_state_dict(learner.network.state_dict())
    assert by_data.updates == 6
    assert env_steps == [4 * T, 0, 0, 0, 0, 0]  # played once, used six times
    gradients = learner.network.state_dict()
    if rounded:
        assert apart(data, gradients) < 0.05
    else:
        assert_same_step(data, gradients)


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
