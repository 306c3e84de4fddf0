from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

import builders
from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.modes import DataParallel, GradientParallel, next_message
from asyncade_actor.player import Header, Player
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients, Trajectory
from asyncade_rl.batch import batch_of
from asyncade_rl.envs.catch import CELLS, Catch
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.objective import Samples, backpropagate, minibatches, prepare
from asyncade_rl.params import gradients_of

SEED = 5
E, T = 2, CELLS  # every game of Catch ends in its eleventh step, so once in the first unroll
PASSES, SIZE = 2, 8
MESSAGES = PASSES * E * T // SIZE

OBJECTIVE = dataclasses.replace(builders.OBJECTIVE, passes=PASSES, minibatch_size=SIZE)
ASSIGNMENT = dataclasses.replace(
    builders.ASSIGNMENT, request="gradients", unroll_length=T, objective=OBJECTIVE
)


def header(sequence: int = 0) -> Header:
    return Header(actor_id="a", sequence=sequence, policy_version=sequence + 10, model="m")


@pytest.fixture
def metrics() -> ActorMetrics:
    return ActorMetrics(CollectorRegistry())


@pytest.fixture
def player(metrics: ActorMetrics) -> Player:
    return Player(Catch(E), SEED, metrics.stages)


@pytest.fixture
def network() -> ActorCritic:
    return make_network(3, "small", seed=0)


@pytest.fixture
def mode(player: Player, network: ActorCritic, metrics: ActorMetrics) -> GradientParallel:
    return GradientParallel(player, network, metrics.stages, SEED)


def first_unroll(network: ActorCritic, metrics: ActorMetrics) -> Trajectory:
    """What the player fixture plays first, from a player of its own."""
    twin = DataParallel(Player(Catch(E), SEED, metrics.stages), network)
    message = next_message(twin, ASSIGNMENT, header())
    assert isinstance(message, Trajectory)
    return message


def test_data_mode_sends_the_unroll(player: Player, network: ActorCritic) -> None:
    message = next_message(DataParallel(player, network), ASSIGNMENT, header(3))
    assert isinstance(message, Trajectory)
    assert (message.actor_id, message.sequence) == ("a", 3)
    assert (message.policy_version, message.model) == (13, "m")
    assert message.env_steps == E * T
    assert message.episodes.lengths.tolist() == [CELLS - 1] * E
    assert isinstance(decode(encode(message)), Trajectory)  # the wire takes it


def test_an_unroll_yields_a_gradient_for_every_minibatch_of_every_pass(
    mode: GradientParallel, network: ActorCritic
) -> None:
    messages = [next_message(mode, ASSIGNMENT, header(number)) for number in range(2 * MESSAGES)]
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


def test_each_gradient_is_taken_where_the_weights_are_now(
    mode: GradientParallel, player: Player, network: ActorCritic, metrics: ActorMetrics
) -> None:
    """Targets are of the weights that played, gradients of those that came since."""
    batch = batch_of([first_unroll(network, metrics)], OBJECTIVE.discount)
    generator = torch.Generator().manual_seed(SEED)
    expected = minibatches(prepare(network, batch, OBJECTIVE), OBJECTIVE, generator)
    for number in range(MESSAGES):
        message = next_message(mode, ASSIGNMENT, header(number))
        losses = backpropagate(network, next(expected), OBJECTIVE)
        for name, gradient in gradients_of(network).items():
            np.testing.assert_array_equal(message.tensors[name], gradient)
        assert message.losses == losses.as_numbers()
        with torch.no_grad():
            network.policy.weight.add_(0.01)  # as if weights came in
    assert next(expected, None) is None


def test_a_gradient_is_not_changed_by_the_next(
    mode: GradientParallel, network: ActorCritic
) -> None:
    one = next_message(mode, ASSIGNMENT, header())
    copies = {name: tensor.copy() for name, tensor in one.tensors.items()}
    next_message(mode, ASSIGNMENT, header(1))
    for name, copy in copies.items():
        np.testing.assert_array_equal(one.tensors[name], copy)


def test_the_newest_costs_count_within_an_unroll(
    mode: GradientParallel, player: Player, network: ActorCritic, metrics: ActorMetrics
) -> None:
    """The entropy bonus is on a schedule; an unroll in use does not hold it up."""
    batch = batch_of([first_unroll(network, metrics)], OBJECTIVE.discount)
    generator = torch.Generator().manual_seed(SEED)
    parts: list[Samples] = list(
        minibatches(prepare(network, batch, OBJECTIVE), OBJECTIVE, generator)
    )
    next_message(mode, ASSIGNMENT, header())
    objective = dataclasses.replace(OBJECTIVE, entropy_cost=0.5)
    assignment = dataclasses.replace(ASSIGNMENT, objective=objective)
    message = next_message(mode, assignment, header(1))
    assert message.losses == backpropagate(network, parts[1], objective).as_numbers()
    assert message.losses != backpropagate(network, parts[1], OBJECTIVE).as_numbers()


def test_the_next_unroll_is_played_in_equal_shares_while_gradients_travel(
    mode: GradientParallel, player: Player, network: ActorCritic, metrics: ActorMetrics
) -> None:
    """Whoever played it all in one go would keep the other actors waiting."""
    ahead = []
    for number in range(MESSAGES):
        message = next_message(mode, ASSIGNMENT, header(number))
        assert message.env_steps == (E * T if number == 0 else 0)
        assert len(list(mode.play_ahead(ASSIGNMENT))) == T // MESSAGES
        ahead.append(player.steps_ahead)
    assert ahead == [T * (number + 1) // MESSAGES for number in range(MESSAGES)]
    twin = DataParallel(Player(Catch(E), SEED, metrics.stages), network)
    _, second = (next_message(twin, ASSIGNMENT, header()) for _ in range(2))
    entered: list[str] = []
    metrics.stages.enter = entered.append
    message = next_message(mode, ASSIGNMENT, header(MESSAGES))
    assert set(entered) == {"gradient"}  # nothing was left to be played
    assert message.env_steps == E * T
    np.testing.assert_array_equal(message.episodes.lengths, second.episodes.lengths)


def test_a_trajectory_waits_for_credit_with_its_first_step(
    player: Player, network: ActorCritic
) -> None:
    mode = DataParallel(player, network)
    next_message(mode, ASSIGNMENT, header())
    assert list(mode.play_ahead(ASSIGNMENT)) == []
    assert player.steps_ahead == 0


def test_the_stages_are_entered_in_turn(network: ActorCritic) -> None:
    entered: list[str] = []

    class Stages:
        def enter(self, name: str) -> None:
            entered.append(name)

    mode = GradientParallel(Player(Catch(E), SEED, Stages()), network, Stages(), SEED)
    next_message(mode, ASSIGNMENT, header())
    assert entered == [*["inference", "environment"] * T, "gradient"]
    next_message(mode, ASSIGNMENT, header(1))
    assert entered[2 * T + 1 :] == ["gradient"]
