"""The actor's loop: take the newest weights, make one message by them, send it.

An actor keeps nothing that matters. It may start before the learner or long after, it may be killed
at any instant (only the message in the making is lost), and it outlives any number of learners.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog

from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.reporters import Header, Reporter, make_reporter
from asyncade_actor.unroll import Player
from asyncade_proto.codec import encode
from asyncade_proto.messages import Assignment, Upstream, Weights
from asyncade_rl.choices import Precision
from asyncade_rl.envs import Environments, make_environments
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
from asyncade_runtime.transport.roles import Outbox, Subscriber
from asyncade_runtime.weights_feed import WeightsFeed

WAIT_S: Final = 0.25
"""How long one step may block on a socket: what a SIGTERM waits for at most."""


@dataclass(slots=True)
class _Work:
    """What follows from an assignment; made anew when the learner asks for something else."""

    assignment: Assignment
    network: ActorCritic
    model: str
    player: Player
    reporter: Reporter


class Actor:
    """Plays and reports.

    Args:
        actor_id: unique among the living.
        envs: E, games played at once.
        env_threads: threads that step the emulators.
        precision: of the network's multiplications.
        outbox: to the learner.
        subscriber: weights from the learner.
        metrics: told what happens.
        health: ticked every step; ready once there are weights.
        log: told what a person should know.
        make_environments: for tests.
    """

    def __init__(
        self,
        *,
        actor_id: str,
        envs: int,
        env_threads: int,
        precision: Precision = "float32",
        outbox: Outbox,
        subscriber: Subscriber,
        metrics: ActorMetrics,
        health: Health,
        log: Any = None,
        make_environments: Callable[..., Environments] = make_environments,
    ) -> None:
        self._actor_id = actor_id
        self._envs = envs
        self._env_threads = env_threads
        self._precision = precision
        self._outbox = outbox
        self._metrics = metrics
        self._health = health
        self._log = log or structlog.get_logger()
        self._feed = WeightsFeed(subscriber, metrics.stages, metrics.weights_refused, self._log)
        self._connections = ConnectionLog(
            metrics.connection_events,
            self._log,
            using={"upstream": outbox, "weights": subscriber},
        )
        self._make_environments = make_environments
        self._work: _Work | None = None
        self._run: int | None = None
        self._policy_version = 0
        self._sequence = 0
        self._received = 0
        self._unsent: tuple[Upstream, bytes] | None = None
        self._deferred: Weights | None = None
        health.waiting_for = "weights from the learner"

    def run(self, stop: threading.Event) -> None:
        """Steps until told to stop.

        Raises:
            AccessRefusedError: of the learner's socket.
        """
        while not stop.is_set():
            self.step()

    def step(self) -> None:
        """Takes the newest weights, and makes and sends one message if it may.

        It may not when there are no weights yet, when as many of its messages are on their way as
        the learner allows, or when the last one is still to be sent. Then it waits, at most
        `WAIT_S`, for the thing that is missing.
        """
        self._health.tick()
        self._connections.note()
        if self._unsent is not None:
            self._send(*self._unsent)
            return
        self._take_weights(timeout_s=0.0 if self._may_report() else WAIT_S)
        if self._work is None or not self._may_report():
            return
        work = self._work
        message = self._report(work)
        self._metrics.stages.enter("encode")
        self._send(message, encode(message))
        work.reporter.meanwhile(work.player, work.network, work.assignment)

    def close(self) -> None:
        """Ends the games."""
        if self._work is not None:
            self._work.player.close()

    def _may_report(self) -> bool:
        """Whether fewer messages are on their way than the learner allows.

        The count only falls when weights tell of messages received, so it bounds what is made from
        one weights version too.
        """
        if self._work is None:
            return False
        return self._sequence - self._received < self._work.assignment.messages_in_flight

    def _report(self, work: _Work) -> Upstream:
        header = Header(
            actor_id=self._actor_id,
            sequence=self._sequence,
            policy_version=self._policy_version,
            model=work.model,
        )
        message = work.reporter.report(
            work.player, work.network, work.assignment, header, self._refresh_weights
        )
        self._sequence += 1
        self._metrics.env_steps.inc(message.env_steps)
        if len(message.episodes.returns):
            self._metrics.episodes.inc(len(message.episodes.returns))
            self._metrics.last_return.set(float(message.episodes.returns[-1]))
        return message

    def _send(self, message: Upstream, frame: bytes) -> None:
        """Sends, or keeps the message for the next step: connection trouble is never fatal."""
        self._metrics.stages.enter("send")
        if self._outbox.send(frame, timeout_s=WAIT_S):
            self._unsent = None
            self._metrics.messages.labels(kind=type(message).__name__.lower()).inc()
            self._metrics.bytes_sent.inc(len(frame))
            return
        if self._unsent is None:
            self._log.info("nobody takes the message; trying on", sequence=message.sequence)
        self._unsent = (message, frame)
        self._metrics.send_timeouts.inc()

    def _take_weights(self, timeout_s: float) -> None:
        """Takes the newest weights, between two messages: whatever they ask for can begin now."""
        self._metrics.stages.enter("wait")
        arrival = self._feed.newer(0.0 if self._deferred else timeout_s)
        weights = arrival.weights if arrival else self._deferred
        self._deferred = None
        if weights is not None:
            self._apply_or_refuse(weights)

    def _refresh_weights(self) -> None:
        """Takes newer weights within an unroll, unless they change what is to be done.

        An unroll takes hundreds of milliseconds: without this its last steps would be played by
        weights that old. The log-probabilities sent are of the weights that chose, so V-trace
        corrects each step for its own.
        """
        arrival = self._feed.newer(0.0)
        if arrival is None or self._work is None:
            return
        weights = arrival.weights
        if weights.run == self._run and _same_work(self._work.assignment, weights.assignment):
            self._apply_or_refuse(weights)
        else:
            self._deferred = weights

    def _apply_or_refuse(self, weights: Weights) -> None:
        try:
            self._apply(weights)
        except (ModelMismatchError, UnknownGameError, ValueError) as error:
            self._feed.refuse("model", str(error))

    def _apply(self, weights: Weights) -> None:
        """Takes the weights, or raises and leaves everything as it was."""
        old = self._work
        same = old is not None and _same_work(old.assignment, weights.assignment)
        work = old if old is not None and same else self._begin(weights)
        try:
            check_fingerprint(weights.model, work.model)
            load_safetensors(work.network, weights.safetensors)
            work.network.hold_for_inference()
        except ModelMismatchError:
            if old is None or work.player is not old.player:
                work.player.close()
            raise
        if old is not None and work.player is not old.player:
            old.player.close()
        if weights.run != self._run:
            self._log.info("a learner", run=f"{weights.run:016x}", version=weights.policy_version)
        work.assignment = weights.assignment
        self._work = work
        self._run = weights.run
        self._policy_version = weights.policy_version
        # An actor that is not mentioned has nothing on its way: it is new to this learner, or what
        # it sent is lost. A number above its own count is that of a dead actor of the same name.
        received = weights.received.get(self._actor_id, self._sequence)
        self._received = min(received, self._sequence)
        self._health.ready = True
        self._metrics.weights_received.inc()
        now = time.time()
        self._metrics.weights_timestamp.set(now)
        if weights.published_at is not None:
            self._metrics.weights_latency.observe(max(0.0, now - weights.published_at))
        self._metrics.policy_version.set(weights.policy_version)

    def _begin(self, weights: Weights) -> _Work:
        """Sets up for an assignment; a player goes on if only the kind of message has changed."""
        assignment, old = weights.assignment, self._work
        # A restarted actor has its old name: the version keeps it from repeating its old games.
        name = zlib.crc32(self._actor_id.encode())
        entropy = np.random.SeedSequence([assignment.seed, name, weights.policy_version])
        seed = int(entropy.generate_state(1)[0])
        if old is not None and _same_game(old.assignment, assignment):
            player, network = old.player, old.network
        else:
            network = make_network(num_actions(assignment.game), assignment.network)
            network.precision = self._precision
            # Here, too: before games are started in vain.
            check_fingerprint(weights.model, fingerprint(network))
            environments = self._make_environments(
                assignment.game,
                self._envs,
                repeat_action_probability=assignment.repeat_action_probability,
                num_threads=self._env_threads,
            )
            player = Player(environments, seed, self._metrics.stages)
            self._log.info("environment protocol", envs=self._envs, **environments.protocol())
        self._log.info("assignment", request=assignment.request, T=assignment.unroll_length)
        reporter = make_reporter(assignment.request, self._metrics.stages, seed)
        return _Work(assignment, network, fingerprint(network), player, reporter)


def _same_game(one: Assignment, other: Assignment) -> bool:
    return (one.game, one.repeat_action_probability, one.network) == (
        other.game,
        other.repeat_action_probability,
        other.network,
    )


def _same_work(one: Assignment, other: Assignment) -> bool:
    return _same_game(one, other) and one.request == other.request
