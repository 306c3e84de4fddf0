"""The evaluator's loop, step by step; the test plays the learner."""

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
from asyncade_evaluator.rounds import Rounds
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_proto.codec import encode
from asyncade_rl.envs.catch import Catch
from asyncade_rl.evaluation import Chooser, Round
from asyncade_rl.network import make_network
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.memory import MemoryBroadcast
from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent
from builders import ASSIGNMENT
from rigs.play import Arcade, weights_of


class Evaluation:
    """An evaluator, its environments, its metrics and the learner's end of its socket."""

    def __init__(self, episodes: int = 3, envs: int = 2) -> None:
        broadcast = MemoryBroadcast()
        self.publisher = broadcast.publisher()
        self.subscriber = broadcast.subscriber()
        self.registry = CollectorRegistry()
        self.health = Health(60.0)
        self.arcade = Arcade()
        self.network = make_network(3, "small", seed=0)
        self.rounds = Rounds("tcp://learner:5556")
        self.evaluator = Evaluator(
            EvaluatorSettings(episodes=episodes, envs=envs, seed=7),
            subscriber=self.subscriber,
            metrics=EvaluatorMetrics(self.registry),
            health=self.health,
            rounds=self.rounds,
            make_environments=self.arcade,
        )

    def publish(self, version: int, run: int = 1, **changes: Any) -> None:
        plain = {"run": run, "policy_version": version}
        self.publisher.publish(encode(weights_of(self.network, **plain | changes)))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_evaluator_{name}", labels)

    def play_a_round(self) -> int:
        """Steps until the end of a round; returns the number of steps."""
        before, steps = self.value("rounds_total"), 0
        while self.value("rounds_total") == before:
            self.evaluator.step()
            steps += 1
            assert steps < 1000
        return steps


def test_without_weights_it_is_not_ready() -> None:
    rig = Evaluation()
    rig.evaluator.step()
    assert math.isnan(rig.value("return_mean") or 0.0)
    assert not rig.health.ready
    assert rig.health.waiting_for == "weights from the learner"
    rig.publish(1)
    rig.evaluator.step()
    assert rig.health.ready


def test_a_round_is_played_with_one_version_and_exported() -> None:
    rig = Evaluation(episodes=3, envs=2)
    rig.publish(4)
    rig.evaluator.step()
    rig.publish(5)  # during the round
    rig.play_a_round()
    assert rig.value("policy_version") == 4
    assert rig.value("episodes_total") == 3
    low, mean, high = (rig.value(f"return_{name}") for name in ("min", "mean", "max"))
    assert low is not None
    assert high is not None
    assert mean is not None
    assert -1 <= low <= mean <= high <= 1
    rig.play_a_round()
    assert rig.value("policy_version") == 5


def test_the_mean_is_over_all_games_of_the_round() -> None:
    rig = Evaluation(episodes=4, envs=2)
    rig.publish(1)
    rig.play_a_round()
    by_hand = Round(Catch(2), 4, seed=7)
    chooser = Chooser(rig.network, "sample", seed=7)
    while not by_hand.over:
        by_hand.step(chooser.actions)
    assert rig.value("return_mean") == statistics.fmean(by_hand.returns)
    assert rig.value("env_steps_total") == sum(by_hand.lengths)  # equally long in Catch


def test_the_same_weights_are_not_played_twice() -> None:
    rig = Evaluation()
    rig.publish(1)
    rig.play_a_round()
    rig.publish(1)
    for _ in range(3):
        rig.evaluator.step()
    assert rig.value("rounds_total") == 1
    rig.publish(1, run=2)  # of another run
    rig.play_a_round()
    assert rig.value("rounds_total") == 2


def test_another_game_gets_other_environments() -> None:
    rig = Evaluation()
    rig.publish(1)
    rig.play_a_round()
    sticky = dataclasses.replace(ASSIGNMENT, repeat_action_probability=0.25)
    rig.publish(2, assignment=sticky)
    rig.play_a_round()
    sticky_actions = [options["repeat_action_probability"] for _, _, options in rig.arcade.asked]
    assert sticky_actions == [0.0, 0.25]
    assert rig.arcade.closed() == [True, False]


def test_no_more_environments_than_episodes_are_made() -> None:
    rig = Evaluation(episodes=1, envs=8)
    rig.publish(1)
    rig.play_a_round()
    assert rig.arcade.asked[0][:2] == ("catch", 1)


def test_unusable_weights_are_refused_and_counted() -> None:
    rig = Evaluation()
    rig.publisher.publish(b"nonsense")
    rig.evaluator.step()
    rig.publish(1, model="another")
    rig.evaluator.step()
    rig.publish(2, assignment=dataclasses.replace(ASSIGNMENT, game="no such game"))
    rig.evaluator.step()
    assert rig.value("weights_refused_total", reason="model") == 2
    assert not rig.health.ready
    rig.publish(3)
    rig.play_a_round()
    assert rig.value("policy_version") == 3


def test_a_refused_connection_ends_the_evaluator(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Evaluation()
    event = ConnectionEvent("refused", "tcp://learner:5556", "the learner does not know this key")
    monkeypatch.setattr(rig.subscriber, "events", lambda: [event])
    with pytest.raises(AccessRefusedError, match="--keys"):
        rig.evaluator.run(threading.Event())


def test_a_round_plays_exactly_its_episodes() -> None:
    games = Round(Catch(2), 5, seed=0)
    chooser = Chooser(make_network(3, "small", seed=0), "greedy", seed=0)
    while not games.over:
        games.step(chooser.actions)
    assert len(games.returns) == len(games.lengths) == 5


def test_greedy_takes_the_likeliest_action() -> None:
    network = make_network(3, "small", seed=0)
    observations = np.random.default_rng(0).integers(0, 255, (6, 4, 84, 84), dtype=np.uint8)
    chosen = Chooser(network, "greedy", seed=0).actions(observations)
    with torch.no_grad():
        logits, _ = network(torch.from_numpy(observations))
    assert chosen.tolist() == logits.argmax(-1).tolist()


def test_the_page_is_told_of_every_round() -> None:
    evaluation = Evaluation()
    assert evaluation.rounds.refresh()["now"] == {}
    evaluation.publish(1)
    evaluation.play_a_round()
    evaluation.publish(2)
    evaluation.play_a_round()
    shown = evaluation.rounds.refresh()
    assert (shown["game"], shown["now"]["episodes"]) == ("catch", 6)
    assert shown["curve"]["mean_return_100"][-1] == evaluation.value("return_mean")
    assert len(shown["curve"]["seconds"]) == 2
