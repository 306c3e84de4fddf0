"""The evaluator's loop, one step at a time, against a learner that is these tests."""

from __future__ import annotations

import dataclasses
import math
import statistics
import threading
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from asyncade_evaluator.evaluator import Evaluator
from asyncade_evaluator.metrics import EvaluatorMetrics
from asyncade_proto.codec import encode
from asyncade_proto.messages import Assignment, Objective, Weights
from asyncade_rl.envs.catch import Catch
from asyncade_rl.evaluation import Chooser, Round
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint, to_safetensors
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.memory import MemoryBroadcast
from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent

OBJECTIVE = Objective(
    discount=0.9,
    lambda_=0.8,
    rho_clip=1.0,
    clip=0.1,
    passes=2,
    minibatch_size=4,
    entropy_cost=0.02,
    value_cost=0.7,
    normalise_advantages=True,
)
ASSIGNMENT = Assignment(
    request="trajectories",
    game="catch",
    repeat_action_probability=0.0,
    network="small",
    unroll_length=4,
    messages_in_flight=2,
    seed=0,
    objective=OBJECTIVE,
)


class Table:
    """An evaluator, and the learner's side of what it hears."""

    def __init__(self, episodes: int = 3, envs: int = 2) -> None:
        broadcast = MemoryBroadcast()
        self.publisher = broadcast.publisher()
        self.subscriber = broadcast.subscriber()
        self.registry = CollectorRegistry()
        self.health = Health(60.0)
        self.games: list[Catch] = []
        self.asked: list[tuple[Any, ...]] = []
        self.network = make_network(3, "small", seed=0)
        self.evaluator = Evaluator(
            episodes=episodes,
            envs=envs,
            env_threads=1,
            policy="sample",
            seed=7,
            subscriber=self.subscriber,
            metrics=EvaluatorMetrics(self.registry),
            health=self.health,
            make_environments=self.make_environments,
        )

    def make_environments(self, game: str, envs: int, **options: Any) -> Catch:
        self.asked.append((game, envs, options["repeat_action_probability"]))
        self.games.append(Catch(envs))
        return self.games[-1]

    def publish(self, version: int, run: int = 1, **changes: Any) -> None:
        weights = Weights(
            run=run,
            policy_version=version,
            model=fingerprint(self.network),
            assignment=ASSIGNMENT,
            received={},
            safetensors=to_safetensors(self.network),
        )
        self.publisher.publish(encode(dataclasses.replace(weights, **changes)))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_evaluator_{name}", labels)

    def play_a_round(self) -> int:
        """Steps until one more is over; returns the number of steps."""
        before, steps = self.value("rounds_total"), 0
        while self.value("rounds_total") == before:
            self.evaluator.step()
            steps += 1
            assert steps < 1000
        return steps


def test_it_waits_for_weights_and_says_so() -> None:
    table = Table()
    table.evaluator.step()
    assert math.isnan(table.value("return_mean") or 0.0)
    assert not table.health.ready
    assert table.health.waiting_for == "weights from the learner"
    table.publish(1)
    table.evaluator.step()
    assert table.health.ready


def test_a_round_is_played_by_one_version_and_exported() -> None:
    table = Table(episodes=3, envs=2)
    table.publish(4)
    table.evaluator.step()
    table.publish(5)  # comes while the round is under way
    table.play_a_round()
    assert table.value("policy_version") == 4
    assert table.value("episodes_total") == 3
    low, mean, high = (table.value(f"return_{name}") for name in ("min", "mean", "max"))
    assert low is not None
    assert high is not None
    assert mean is not None
    assert -1 <= low <= mean <= high <= 1
    table.play_a_round()
    assert table.value("policy_version") == 5


def test_the_mean_is_that_of_the_same_games_played_by_hand() -> None:
    table = Table(episodes=4, envs=2)
    table.publish(1)
    table.play_a_round()
    by_hand = Round(Catch(2), 4, seed=7)
    chooser = Chooser(table.network, "sample", seed=7)
    while not by_hand.over:
        by_hand.step(chooser)
    assert table.value("return_mean") == statistics.fmean(by_hand.returns)
    assert table.value("env_steps_total") == sum(by_hand.lengths)  # equally long in Catch


def test_the_same_weights_are_not_played_twice() -> None:
    table = Table()
    table.publish(1)
    table.play_a_round()
    table.publish(1)
    for _ in range(3):
        table.evaluator.step()
    assert table.value("rounds_total") == 1
    table.publish(1, run=2)  # another learner's first version
    table.play_a_round()
    assert table.value("rounds_total") == 2


def test_another_game_lays_another_table() -> None:
    table = Table()
    table.publish(1)
    table.play_a_round()
    sticky = dataclasses.replace(ASSIGNMENT, repeat_action_probability=0.25)
    table.publish(2, assignment=sticky)
    table.play_a_round()
    assert table.asked == [("catch", 2, 0.0), ("catch", 2, 0.25)]


def test_no_more_games_at_once_than_asked_for() -> None:
    table = Table(episodes=1, envs=8)
    table.publish(1)
    table.play_a_round()
    assert table.asked[0][1] == 1


def test_weights_that_cannot_be_used_are_refused_and_counted() -> None:
    table = Table()
    table.publisher.publish(b"nonsense")
    table.evaluator.step()
    table.publish(1, model="another")
    table.evaluator.step()
    table.publish(2, assignment=dataclasses.replace(ASSIGNMENT, game="no such game"))
    table.evaluator.step()
    assert table.value("weights_refused_total", reason="model") == 2
    assert not table.health.ready
    table.publish(3)
    table.play_a_round()
    assert table.value("policy_version") == 3


def test_a_refused_connection_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    event = ConnectionEvent("refused", "tcp://learner:5556", "the learner does not know this key")
    monkeypatch.setattr(table.subscriber, "events", lambda: [event])
    with pytest.raises(AccessRefusedError, match="--keys"):
        table.evaluator.run(threading.Event())


def test_every_environment_plays_its_share() -> None:
    games = Round(Catch(2), 5, seed=0)
    chooser = Chooser(make_network(3, "small", seed=0), "greedy", seed=0)
    while not games.over:
        games.step(chooser)
    assert len(games.returns) == len(games.lengths) == 5


def test_greedy_takes_the_likeliest_action() -> None:
    network = make_network(3, "small", seed=0)
    observations = np.random.default_rng(0).integers(0, 255, (6, 4, 84, 84), dtype=np.uint8)
    chosen = Chooser(network, "greedy", seed=0).actions(observations)
    with torch.no_grad():
        logits, _ = network(torch.from_numpy(observations))
    assert chosen.tolist() == logits.argmax(-1).tolist()
