"""The actor's loop: take the newest weights, play, send one message.

An actor holds no state that matters. It may start before or long after the learner, it may be
killed at any instant (only the unsent message is lost), and it outlives learners.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import structlog

from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.modes import ActorMode, make_mode
from asyncade_actor.player import Header, Player
from asyncade_proto.codec import encode
from asyncade_proto.messages import Assignment, Upstream, Weights, check_unroll
from asyncade_rl.choices import Precision
from asyncade_rl.envs import Environments, make_environments
from asyncade_rl.envs.groups import in_groups
from asyncade_rl.games import FRAME_SIDE, UnknownGameError
from asyncade_rl.params import ModelMismatchError
from asyncade_rl.session import Session
from asyncade_runtime.lifecycle import WAIT_S, Health
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Outbox, Subscriber
from asyncade_runtime.weights_feed import WeightsFeed

_TOLD_BY_THEN: Final = 32
"""Messages after which a higher count is not that of a dead actor any more."""


@dataclass(slots=True)
class _Work:
    """An assignment, as it applies to this actor, and what the actor set up for it."""

    assignment: Assignment
    session: Session
    player: Player
    mode: ActorMode

    def continues_with(self, assignment: Assignment) -> bool:
        """Returns whether the assignment can be carried out with this setup."""
        return self.session.plays(assignment) and self.assignment.request == assignment.request


class Actor:
    """Plays the learner's game and sends it trajectories or gradients.

    Args:
        actor_id: unique among the running actors.
        envs: games played in parallel, unless the learner assigns fewer.
        env_threads: threads that step the games.
        precision: floating-point format of the network's matrix products.
        outbox: to the learner.
        subscriber: weights from the learner.
        metrics: updated by the actor.
        health: ticked every step and every env step; ready once weights are in use.
        log: default: structlog's.
        make_environments: replaceable in tests.
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
        self._new_session = partial(
            Session,
            envs=envs,
            env_threads=env_threads,
            precision=precision,
            make_environments=in_groups(make_environments),
        )
        self._work: _Work | None = None
        self._run: int | None = None
        self._policy_version = 0
        self._sequence = 0
        self._received = 0
        self._warned = False
        self._unsent: tuple[Upstream, bytes] | None = None
        self._deferred: Weights | None = None
        health.waiting_for = "weights from the learner"

    def run(self, stop: threading.Event) -> None:
        """Steps until `stop` is set, and abandons the unroll in hand before its next env step.

        On a crowded machine the rest of an unroll can take longer than an orchestrator waits.

        Raises:
            AccessRefusedError: the learner's socket refused this actor.
            TooLargeError: the assigned unrolls of all environments exceed a limit of the wire.
        """
        while not stop.is_set():
            for _ in self.advance():
                if stop.is_set():
                    return

    def step(self) -> None:
        """Takes the newest weights, then makes and sends one message if it may.

        It may not while no weights have arrived, while the learner's limit of messages in flight is
        reached, or while the last message is unsent. Then it waits at most `WAIT_S` for what is
        missing.
        """
        for _ in self.advance():
            pass

    def advance(self) -> Iterator[None]:
        """Does what `step` does; yields before every env step, where the actor can be suspended."""
        self._health.tick()
        self._connections.note()
        if self._unsent is not None:
            self._send(*self._unsent)
            return
        self._take_weights(timeout_s=0.0 if self._may_report() else WAIT_S)
        work = self._work
        if work is None or not self._may_report():
            return
        header = Header(
            actor_id=self._actor_id,
            sequence=self._sequence,
            policy_version=self._policy_version,
            model=work.session.model,
        )
        for _ in work.mode.play(work.assignment):
            yield
            self._health.tick()
            if work.mode.refreshes_weights:
                self._refresh_weights()
        message = work.mode.message(work.assignment, header)
        self._count(message)
        self._metrics.stages.enter("encode", message.env_steps)
        self._send(message, encode(message))

    def close(self) -> None:
        """Closes the environments."""
        if self._work is not None:
            self._work.session.close()

    def _may_report(self) -> bool:
        """Returns whether fewer messages are in flight than the learner allows.

        The count falls only when weights acknowledge messages, so it also bounds the messages made
        with one version of the weights.
        """
        if self._work is None:
            return False
        return self._sequence - self._received < self._work.assignment.messages_in_flight

    def _count(self, message: Upstream) -> None:
        self._sequence += 1
        self._metrics.env_steps.inc(message.env_steps)
        if len(message.episodes.returns):
            self._metrics.episodes.inc(len(message.episodes.returns))
            self._metrics.last_return.set(float(message.episodes.returns[-1]))

    def _send(self, message: Upstream, frame: bytes) -> None:
        """Sends, or keeps the message for the next step: a lost connection is never fatal."""
        self._metrics.stages.enter("send")
        if self._outbox.send(frame, timeout_s=WAIT_S):
            self._unsent = None
            self._metrics.messages.labels(kind=type(message).__name__.lower()).inc()
            self._metrics.bytes_sent.inc(len(frame))
            return
        if self._unsent is None:
            self._log.info("send timed out; retrying", sequence=message.sequence)
        self._unsent = (message, frame)
        self._metrics.send_timeouts.inc()

    def _take_weights(self, timeout_s: float) -> None:
        """Takes the newest weights between two messages, where a new assignment can begin."""
        self._metrics.stages.enter("wait")
        arrival = self._feed.newer(0.0 if self._deferred else timeout_s)
        weights = arrival.weights if arrival else self._deferred
        self._deferred = None
        if weights is not None:
            self._apply_or_refuse(weights)

    def _refresh_weights(self) -> None:
        """Takes newer weights within an unroll; defers them if the assignment changes.

        An unroll takes hundreds of milliseconds: without this its last steps would be played with
        weights of that age.
        """
        arrival = self._feed.newer(0.0)
        if arrival is None or self._work is None:
            return
        weights = arrival.weights
        if self._work.continues_with(weights.assignment):
            self._apply_or_refuse(weights)
        else:
            self._deferred = weights

    def _apply_or_refuse(self, weights: Weights) -> None:
        assignment = self._own(weights)
        if assignment.request == "trajectories":
            check_unroll(assignment.unroll_length, assignment.games or self._envs, FRAME_SIDE)
        try:
            self._apply(weights, assignment)
        except (ModelMismatchError, UnknownGameError, ValueError) as error:
            self._feed.refuse("model", str(error))

    def _own(self, weights: Weights) -> Assignment:
        """Returns the assignment with this actor's number of games and unroll length."""
        shared = weights.assignment
        return replace(
            shared,
            unroll_length=weights.unroll_lengths.get(self._actor_id, shared.unroll_length),
            games=min(self._envs, shared.games or self._envs),
        )

    def _apply(self, weights: Weights, assignment: Assignment) -> None:
        """Uses the weights, or raises and leaves everything as it was."""
        work = self._work
        if work is not None and work.session.plays(assignment):
            session = work.session
        else:
            session = self._new_session(
                assignment.game,
                assignment.network,
                repeat_action_probability=assignment.repeat_action_probability,
            )
        session.load(weights)
        before = None if work is None else _summary(work.assignment)
        if work is None or not work.continues_with(assignment):
            work = self._begin(session, assignment, weights.policy_version)
        work.assignment = assignment
        if _summary(assignment) != before:
            self._log.info("assignment", **_summary(assignment))
        if weights.run != self._run:
            self._log.info(
                "new learner run", run=f"{weights.run:016x}", version=weights.policy_version
            )
        self._work = work
        self._run = weights.run
        self._policy_version = weights.policy_version
        # An unnamed actor has nothing in flight: it is new to this learner, or its messages were
        # lost. A number above its own count belongs to a dead actor of the same name.
        received = weights.received.get(self._actor_id, self._sequence)
        self._received = min(received, self._sequence)
        if received > self._sequence >= _TOLD_BY_THEN and not self._warned:
            self._warned = True
            self._log.warning("another actor has this id", cure="--actor-id: give each its own")
        self._health.ready = True
        self._metrics.count_weights(weights)

    def _begin(self, session: Session, assignment: Assignment, version: int) -> _Work:
        """Sets up for an assignment; the player continues if only the mode has changed."""
        old = self._work
        # A restarted actor has its old name: the version keeps it from repeating its old games.
        name = zlib.crc32(self._actor_id.encode())
        entropy = np.random.SeedSequence([assignment.seed, name, version])
        seed = int(entropy.generate_state(1)[0])
        if old is not None and old.session is session:
            player = old.player
        else:
            player = Player(session.environments, seed, self._metrics.stages, assignment.games)
            protocol = session.environments.protocol()
            self._log.info("environment protocol", envs=self._envs, **protocol)
            self.close()
        mode = make_mode(assignment.request, player, session.network, self._metrics.stages, seed)
        return _Work(assignment, session, player, mode)


def _summary(assignment: Assignment) -> dict[str, Any]:
    """Returns what the log says of an assignment."""
    return {
        "request": assignment.request,
        "games": assignment.games,
        "T": assignment.unroll_length,
    }
