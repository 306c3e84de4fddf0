"""What an actor sends in either mode, and when it plays and computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import builders
from asyncade_actor.modes import DataParallel, GradientParallel, next_message
from asyncade_actor.player import Player
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients, Trajectory
from asyncade_rl.batch import batch_of
from asyncade_rl.envs.catch import CELLS, Catch
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.objective import Samples, backpropagate, minibatches, prepare
from asyncade_rl.params import gradients_of
from asyncade_runtime.stages import Stages
from rigs.play import actor_stages, header

SEED = 5
E, T = 2, CELLS  # a game of Catch lasts 11 steps, so each ends once in the first unroll
PASSES, SIZE = 2, 8
MESSAGES = PASSES * E * T // SIZE

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
    return minibatches(prepare(network, batch, OBJECTIVE), OBJECTIVE, generator)


def test_data_mode_sends_the_unroll(player: Player, network: ActorCritic) -> None:
    sent = header(sequence=3, policy_version=13)
    message = next_message(DataParallel(player, network), ASSIGNMENT, sent)
    assert isinstance(message, Trajectory)
    assert (message.actor_id, message.sequence) == (sent.actor_id, 3)
    assert (message.policy_version, message.model) == (13, sent.model)
    assert message.env_steps == E * T
    assert message.episodes.lengths.tolist() == [CELLS - 1] * E
    assert isinstance(decode(encode(message)), Trajectory)


def test_an_unroll_yields_a_gradient_for_every_minibatch_of_every_pass(
    mode: GradientParallel, network: ActorCritic
) -> None:
    headers = [header(sequence=n, policy_version=n + 10) for n in range(2 * MESSAGES)]
    messages = [next_message(mode, ASSIGNMENT, one) for one in headers]
    for number, message in enumerate(messages):
        assert isinstance(message, Gradients)
        assert (message.sequence, message.policy_version) == (number, number + 10)
        assert message.samples == SIZE
        first = number % MESSAGES == 0
        assert message.env_steps == (E * T if first else 0)
        assert len(message.episodes.returns) == (E if first else 0)
        assert len(message.episodes.lengths) == len(message.episodes.returns)
        assert message.tensors.keys() == dict(network.named_parameters()).keys()
        assert isinstance(decode(encode(message)), Gradients)
    for message in messages[1:]:
        weight = message.tensors["value.weight"]
        assert not np.array_equal(weight, messages[0].tensors["value.weight"])


def test_gradients_are_computed_at_the_present_weights(
    mode: GradientParallel, network: ActorCritic
) -> None:
    """Targets are of the weights that played, gradients of the newest ones."""
    expected = samples_of_first_unroll(network)
    for _ in range(MESSAGES):
        message = next_message(mode, ASSIGNMENT, header())
        losses = backpropagate(network, next(expected), OBJECTIVE)
        for name, gradient in gradients_of(network).items():
            np.testing.assert_array_equal(message.tensors[name], gradient)
        assert message.losses == losses.as_numbers()
        with torch.no_grad():
            network.policy.weight.add_(0.01)  # as newer weights do
    assert next(expected, None) is None


def test_a_gradient_is_not_changed_by_the_next(
    mode: GradientParallel, network: ActorCritic
) -> None:
    one = next_message(mode, ASSIGNMENT, header())
    copies = {name: tensor.copy() for name, tensor in one.tensors.items()}
    next_message(mode, ASSIGNMENT, header())
    for name, copy in copies.items():
        np.testing.assert_array_equal(one.tensors[name], copy)


def test_newer_costs_apply_within_an_unroll(mode: GradientParallel, network: ActorCritic) -> None:
    """The entropy cost is on a schedule, which an unroll in use must not hold up."""
    parts = [*samples_of_first_unroll(network)]
    next_message(mode, ASSIGNMENT, header())
    objective = dataclasses.replace(OBJECTIVE, entropy_cost=0.5)
    assignment = dataclasses.replace(ASSIGNMENT, objective=objective)
    message = next_message(mode, assignment, header())
    assert message.losses == backpropagate(network, parts[1], objective).as_numbers()
    assert message.losses != backpropagate(network, parts[1], OBJECTIVE).as_numbers()


def test_the_next_unroll_is_played_in_equal_shares_while_gradients_travel(
    mode: GradientParallel, player: Player, network: ActorCritic, stages: Stages
) -> None:
    """An actor that played it in one go would keep the others waiting."""
    ahead = []
    for number in range(MESSAGES):
        message = next_message(mode, ASSIGNMENT, header())
        assert message.env_steps == (E * T if number == 0 else 0)
        assert len(list(mode.play_ahead(ASSIGNMENT))) == T // MESSAGES
        ahead.append(T - player.missing(T))
    assert ahead == [T * (number + 1) // MESSAGES for number in range(MESSAGES)]
    _, second = unrolls(network, 2)
    entered: list[tuple[str, int]] = []
    stages.enter = lambda stage, amount=1: entered.append((stage, amount))
    message = next_message(mode, ASSIGNMENT, header())
    # Nothing is left to play.
    assert entered == [("prepare", E * T), ("gradient", message.samples)]
    assert message.env_steps == E * T
    np.testing.assert_array_equal(message.episodes.lengths, second.episodes.lengths)


def test_data_mode_does_not_play_ahead(player: Player, network: ActorCritic) -> None:
    mode = DataParallel(player, network)
    next_message(mode, ASSIGNMENT, header())
    assert list(mode.play_ahead(ASSIGNMENT)) == []
    assert player.missing(T) == T
