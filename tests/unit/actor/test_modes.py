"""What an actor makes of its unrolls in either mode."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import builders
from asyncade_actor.modes import DataParallel, GradientParallel, next_message
from asyncade_actor.player import Player
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients, Trajectory
from asyncade_rl.batch import batch_of
from asyncade_rl.envs.catch import CELLS, Catch
from asyncade_rl.losses import MeanLosses
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.objective import RecentAdvantages, Samples, backpropagate, minibatches, prepare
from asyncade_rl.optimiser import Optimiser
from asyncade_rl.params import copies_of_parameters
from asyncade_rl.schedule import learning_rate_at
from asyncade_runtime.stages import Stages
from rigs.play import Replay, actor_stages, header

SEED = 5
E, T = 2, CELLS  # a game of Catch lasts 11 steps, so each ends once in the first unroll
PASSES, SIZE = 2, 8
OBJECTIVE = dataclasses.replace(builders.OBJECTIVE, passes=PASSES, minibatch_size=SIZE)
ASSIGNMENT = dataclasses.replace(
    builders.ASSIGNMENT, request="gradients", unroll_length=T, objective=OBJECTIVE
)


@pytest.fixture
def stages() -> Stages:
    return actor_stages()


@pytest.fixture
def player(stages: Stages) -> Player:
    return Player(Catch(E), SEED, stages)


@pytest.fixture
def network() -> ActorCritic:
    return make_network(3, "small", seed=0)


@pytest.fixture
def mode(player: Player, network: ActorCritic, stages: Stages) -> GradientParallel:
    return GradientParallel(player, network, stages, SEED)


def unrolls(network: ActorCritic, count: int) -> list[Trajectory]:
    """Returns the first unrolls of the player fixture, from a player with the same seed."""
    twin = DataParallel(Player(Catch(E), SEED, actor_stages()), network)
    return [next_message(twin, ASSIGNMENT, header()) for _ in range(count)]


def samples_of_first_unroll(network: ActorCritic) -> Iterator[Samples]:
    """Returns its minibatches, in the order of the mode fixture."""
    batch = batch_of(unrolls(network, 1), OBJECTIVE.discount)
    generator = torch.Generator().manual_seed(SEED)
    return minibatches(prepare(network, batch, OBJECTIVE, RecentAdvantages()), OBJECTIVE, generator)


def test_data_mode_sends_the_unroll(player: Player, network: ActorCritic) -> None:
    sent = header(sequence=3, policy_version=13)
    message = next_message(DataParallel(player, network), ASSIGNMENT, sent)
    assert isinstance(message, Trajectory)
    assert (message.actor_id, message.sequence) == (sent.actor_id, 3)
    assert (message.policy_version, message.model) == (13, sent.model)
    assert message.env_steps == E * T
    assert message.episodes.lengths.tolist() == [CELLS - 1] * E
    assert isinstance(decode(encode(message)), Trajectory)


def steps_on_first_unroll(network: ActorCritic) -> tuple[dict[str, Tensor], MeanLosses]:
    """Takes the optimiser's steps on a copy of the network: returns where they end, and losses."""
    pupil = copy.deepcopy(network)
    optimiser = Optimiser(pupil, max_gradient_norm=0.5, epsilon=1e-5)
    losses = MeanLosses()
    for minibatch in samples_of_first_unroll(network):
        losses.add(backpropagate(pupil, minibatch, OBJECTIVE).as_numbers(), len(minibatch))
        optimiser.step(learning_rate_at(1.0, OBJECTIVE.learning_rate, len(minibatch)))
    return copies_of_parameters(pupil), losses


def test_an_unroll_yields_one_message(mode: GradientParallel, network: ActorCritic) -> None:
    for number in range(3):
        sent = header(sequence=number, policy_version=number + 10)
        message = next_message(mode, ASSIGNMENT, sent)
        assert isinstance(message, Gradients)
        assert (message.sequence, message.policy_version) == (number, number + 10)
        assert message.samples == message.env_steps == E * T
        assert message.episodes.lengths.tolist() == [CELLS - 1] * E
        assert message.tensors.keys() == dict(network.named_parameters()).keys()
        assert isinstance(decode(encode(message)), Gradients)


def test_a_message_has_the_steps_of_the_optimiser_in_step_sizes(
    mode: GradientParallel, network: ActorCritic
) -> None:
    start = copies_of_parameters(network)
    end, losses = steps_on_first_unroll(network)
    message = next_message(mode, ASSIGNMENT, header())
    for name, tensor in message.tensors.items():
        taken = (start[name] - end[name]).numpy() / OBJECTIVE.learning_rate
        assert np.abs(taken).max() > 0.1
        np.testing.assert_array_equal(tensor, taken)
    assert message.losses == losses.means


def test_the_network_has_the_learners_weights_again(
    mode: GradientParallel, network: ActorCritic
) -> None:
    """Otherwise actors would drift apart, each by its own steps."""
    start = copies_of_parameters(network)
    next_message(mode, ASSIGNMENT, header())
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, start[name])


def test_the_optimiser_keeps_its_moments_from_unroll_to_unroll(
    player: Player, network: ActorCritic, stages: Stages
) -> None:
    """Those of a single unroll are noise."""
    modes = [GradientParallel(player, network, stages, SEED) for _ in range(2)]
    first, second = unrolls(network, 2)
    modes[0]._player, modes[1]._player = Replay(first, second), Replay(second)
    next_message(modes[0], ASSIGNMENT, header())
    experienced = next_message(modes[0], ASSIGNMENT, header())
    fresh = next_message(modes[1], ASSIGNMENT, header())
    assert isinstance(experienced, Gradients)
    assert isinstance(fresh, Gradients)
    one, other = experienced.tensors["policy.bias"], fresh.tensors["policy.bias"]
    assert not np.allclose(one, other, rtol=0.1)


def test_a_step_size_of_zero_sends_zeros(mode: GradientParallel, network: ActorCritic) -> None:
    """At the end of a cooldown; dividing by it must not make NaNs."""
    still = dataclasses.replace(OBJECTIVE, learning_rate=0.0)
    message = next_message(mode, dataclasses.replace(ASSIGNMENT, objective=still), header())
    assert isinstance(message, Gradients)
    assert not any(tensor.any() for tensor in message.tensors.values())


def test_a_message_is_not_changed_by_the_next(mode: GradientParallel, network: ActorCritic) -> None:
    one = next_message(mode, ASSIGNMENT, header())
    assert isinstance(one, Gradients)
    copies = {name: tensor.copy() for name, tensor in one.tensors.items()}
    next_message(mode, ASSIGNMENT, header())
    for name, tensor in copies.items():
        np.testing.assert_array_equal(one.tensors[name], tensor)


@pytest.mark.parametrize("learning_rate", [1000.0, 1e6])
def test_steps_that_wreck_the_policy_make_a_message_all_the_same(
    mode: GradientParallel, learning_rate: float
) -> None:
    """The learner finds the model wrecked and goes back; refused messages would only starve it."""
    objective = dataclasses.replace(OBJECTIVE, learning_rate=learning_rate, passes=4)
    assignment = dataclasses.replace(ASSIGNMENT, objective=objective)
    for number in range(3):
        message = decode(encode(next_message(mode, assignment, header(sequence=number))))
        assert isinstance(message, Gradients)
    assert any(np.abs(one).max() > 0 for one in message.tensors.values())
