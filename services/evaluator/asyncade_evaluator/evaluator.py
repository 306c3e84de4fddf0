"""The evaluator's loop: take the newest weights, play one round of games, export the returns.

It only receives. The learner does not know of it, so it may start and stop at any time.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from asyncade_evaluator.metrics import EvaluatorMetrics
from asyncade_evaluator.rounds import Rounds
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_proto.messages import Weights
from asyncade_rl.envs import Environments, make_environments
from asyncade_rl.evaluation import Chooser, Round
from asyncade_rl.games import UnknownGameError
from asyncade_rl.params import ModelMismatchError
from asyncade_rl.session import Session
from asyncade_runtime.lifecycle import WAIT_S, Health
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Subscriber
from asyncade_runtime.weights_feed import WeightsFeed


class Evaluator:
    """Plays rounds: whole games with one version of the weights each.

    Args:
        settings: seed is that of the first round; every round uses its own.
        subscriber: weights from the learner.
        metrics: updated by the evaluator.
        health: ticked every step; ready once weights are in use.
        rounds: gets the returns of every round.
        log: default: structlog's.
        make_environments: replaceable in tests.
    """

    def __init__(
        self,
        settings: EvaluatorSettings,
        *,
        subscriber: Subscriber,
        metrics: EvaluatorMetrics,
        health: Health,
        rounds: Rounds,
        log: Any = None,
        make_environments: Callable[..., Environments] = make_environments,
    ) -> None:
        self._settings = settings
        self._envs = min(settings.envs, settings.episodes)
        self._seed = settings.seed
        self._metrics = metrics
        self._rounds = rounds
        self._health = health
        self._log = log or structlog.get_logger()
        self._feed = WeightsFeed(subscriber, metrics.stages, metrics.weights_refused, self._log)
        self._connections = ConnectionLog(
            metrics.connection_events, self._log, using={"weights": subscriber}
        )
        self._new_session = partial(
            Session,
            envs=self._envs,
            env_threads=settings.env_threads,
            make_environments=make_environments,
        )
        self._session: Session | None = None
        self._round: Round | None = None
        self._chooser: Chooser | None = None
        self._policy_version = 0
        self._game = ""
        health.waiting_for = "weights from the learner"

    def run(self, stop: threading.Event) -> None:
        """Steps until `stop` is set.

        Raises:
            AccessRefusedError: the learner's socket refused this evaluator.
        """
        while not stop.is_set():
            self.step()

    def step(self) -> None:
        """Takes one step in every game of the round; between rounds waits for newer weights."""
        self._health.tick()
        self._connections.note()
        if self._round is None or self._chooser is None:
            self._metrics.stages.enter("wait")
            self._await_weights()
            return
        self._metrics.stages.enter("play")
        self._round.step(self._chooser.actions)
        self._metrics.env_steps.inc(self._envs)
        if self._round.over:
            self._metrics.stages.enter("report")
            self._report(self._round)
            self._round = None

    def close(self) -> None:
        """Closes the environments."""
        if self._session is not None:
            self._session.close()

    def _report(self, finished: Round) -> None:
        metrics, returns = self._metrics, finished.returns
        mean, low, high = statistics.fmean(returns), min(returns), max(returns)
        metrics.rounds.inc()
        metrics.episodes.inc(len(returns))
        metrics.return_mean.set(mean)
        metrics.return_min.set(low)
        metrics.return_max.set(high)
        metrics.policy_version.set(self._policy_version)
        self._rounds.add(self._game, returns)
        self._log.info(
            "round",
            policy_version=self._policy_version,
            episodes=len(returns),
            mean=round(mean, 2),
            min=low,
            max=high,
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
        """Begins a round with the weights, or raises and leaves everything as it was."""
        assignment, session = weights.assignment, self._session
        if session is None or not session.plays(assignment):
            session = self._new_session(
                assignment.game,
                assignment.network,
                repeat_action_probability=assignment.repeat_action_probability,
            )
        session.load(weights)
        environments = session.environments
        if session is not self._session:
            self._log.info("environment protocol", envs=self._envs, **environments.protocol())
            self.close()
            self._session = session
        self._chooser = Chooser(session.network, self._settings.policy, self._seed)
        self._round = Round(environments, self._settings.episodes, self._seed)
        self._seed = (self._seed + self._envs) % 2**30
        self._policy_version, self._game = weights.policy_version, assignment.game
        self._health.ready = True
