"""The evaluator's loop: take the newest weights, play a round of games by them, export returns.

It only listens. The learner does not know of it, so it may come, go and die as it likes.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from asyncade_evaluator.metrics import EvaluatorMetrics
from asyncade_proto.messages import Assignment, Weights
from asyncade_rl.envs import Environments, make_environments
from asyncade_rl.evaluation import Chooser, Policy, Round
from asyncade_rl.games import UnknownGameError, num_actions
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import (
    ModelMismatchError,
    check_fingerprint,
    fingerprint,
    load_safetensors,
)
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Subscriber
from asyncade_runtime.weights_feed import WeightsFeed

WAIT_S: Final = 0.25
"""How long one step may block on the socket: what a SIGTERM waits for at most."""


@dataclass(slots=True)
class _Table:
    """Where a game is played; laid anew when the learner turns to another one."""

    game: str
    repeat_action_probability: float
    network: ActorCritic
    model: str
    shape: str
    environments: Environments


class Evaluator:
    """Plays rounds.

    Args:
        episodes: games in a round.
        envs: E, games played at once; no more than `episodes` are.
        env_threads: threads that step the emulators.
        policy: how actions are chosen.
        seed: of the first round's games; every round has its own.
        subscriber: weights from the learner.
        metrics: told what happens.
        health: ticked every step; ready once there are weights.
        log: told what a person should know.
        make_environments: for tests.
    """

    def __init__(
        self,
        *,
        episodes: int,
        envs: int,
        env_threads: int,
        policy: Policy,
        seed: int,
        subscriber: Subscriber,
        metrics: EvaluatorMetrics,
        health: Health,
        log: Any = None,
        make_environments: Callable[..., Environments] = make_environments,
    ) -> None:
        self._episodes = episodes
        self._envs = min(envs, episodes)
        self._env_threads = env_threads
        self._policy: Policy = policy
        self._seed = seed
        self._metrics = metrics
        self._health = health
        self._log = log or structlog.get_logger()
        self._feed = WeightsFeed(subscriber, metrics.stages, metrics.weights_refused, self._log)
        self._connections = ConnectionLog(
            metrics.connection_events, self._log, using={"weights": subscriber}
        )
        self._make_environments = make_environments
        self._table: _Table | None = None
        self._round: Round | None = None
        self._chooser: Chooser | None = None
        self._policy_version = 0
        health.waiting_for = "weights from the learner"

    def run(self, stop: threading.Event) -> None:
        """Steps until told to stop.

        Raises:
            AccessRefusedError: of the learner's socket.
        """
        while not stop.is_set():
            self.step()

    def step(self) -> None:
        """Takes one step in every game of the round, or waits for weights to begin one by."""
        self._health.tick()
        self._connections.note()
        if self._round is None or self._chooser is None:
            self._metrics.stages.enter("wait")
            self._await_weights()
            return
        self._metrics.stages.enter("play")
        self._round.step(self._chooser)
        self._metrics.env_steps.inc(self._envs)
        if self._round.over:
            self._metrics.stages.enter("report")
            self._report(self._round)
            self._round = None

    def close(self) -> None:
        """Ends the games."""
        if self._table is not None:
            self._table.environments.close()

    def _report(self, games: Round) -> None:
        metrics, version = self._metrics, self._policy_version
        mean = statistics.fmean(games.returns)
        metrics.rounds.inc()
        metrics.episodes.inc(len(games.returns))
        metrics.return_mean.set(mean)
        metrics.return_min.set(min(games.returns))
        metrics.return_max.set(max(games.returns))
        metrics.policy_version.set(version)
        self._log.info(
            "round",
            policy_version=version,
            episodes=len(games.returns),
            mean=round(mean, 2),
            min=min(games.returns),
            max=max(games.returns),
        )

    def _await_weights(self) -> None:
        arrival = self._feed.newer(WAIT_S)
        if arrival is None:
            return
        try:
            self._begin(arrival.weights)
        except (ModelMismatchError, UnknownGameError, ValueError) as error:
            self._feed.refuse("model", str(error))

    def _begin(self, weights: Weights) -> None:
        table = self._table_for(weights.assignment)
        check_fingerprint(weights.model, table.model)
        load_safetensors(table.network, weights.safetensors)
        table.network.hold_for_inference()
        self._chooser = Chooser(table.network, self._policy, self._seed)
        self._round = Round(table.environments, self._episodes, self._seed)
        self._seed = (self._seed + self._envs) % 2**30
        self._policy_version = weights.policy_version
        self._health.ready = True

    def _table_for(self, wanted: Assignment) -> _Table:
        old = self._table
        if old is not None and (old.game, old.repeat_action_probability, old.shape) == (
            wanted.game,
            wanted.repeat_action_probability,
            wanted.network,
        ):
            return old
        network = make_network(num_actions(wanted.game), wanted.network)
        environments = self._make_environments(
            wanted.game,
            self._envs,
            repeat_action_probability=wanted.repeat_action_probability,
            num_threads=self._env_threads,
        )
        self.close()
        self._table = _Table(
            wanted.game,
            wanted.repeat_action_probability,
            network,
            fingerprint(network),
            wanted.network,
            environments,
        )
        self._log.info("environment protocol", envs=self._envs, **environments.protocol())
        return self._table
