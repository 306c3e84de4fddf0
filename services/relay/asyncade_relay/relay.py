"""The relay's loop: newest weights down, trajectories up as they are, gradients up as an average.

It keeps nothing that matters. Killed at any instant, it loses the messages in its hands; actors and
learner go on with the next relay at its address.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import structlog

from asyncade_proto.codec import decode, encode, split
from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields
from asyncade_proto.limits import MAX_COUNT
from asyncade_proto.messages import Gradients, Weights
from asyncade_relay.gathering import Gathering
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.roster import Roster
from asyncade_relay.settings import RelaySettings
from asyncade_relay.weights import for_actors
from asyncade_rl.schedule import share_of_samples
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Inbox, Outbox, Publisher, Subscriber
from asyncade_runtime.verdicts import Dropped
from asyncade_runtime.weights_feed import WeightsFeed

WAIT_S: Final = 0.25
"""How long one step may block: what a SIGTERM waits for at most."""

Kind = Literal["trajectory", "gradients"]


class Wait(Protocol):
    """Blocks until there is something to do."""

    def __call__(self, *, messages: bool, room: bool, timeout_s: float) -> None:
        """Returns when there are weights or joiners, or in time.

        Args:
            messages: also when actors' messages are there.
            room: also when the learner has room for a message.
            timeout_s: how long at most, in seconds.
        """
        ...


class Relay:
    """Stands between a learner and the actors of a node or zone.

    Args:
        relay_id: what the learner is to know it by; unique among living relays and actors.
        settings: how old gradients may be, and how long they are waited for.
        subscriber: weights from the learner.
        publisher: weights to the actors.
        inbox: messages from the actors.
        outbox: messages to the learner.
        wait: for any of these four.
        metrics: told what happens.
        health: ticked every step; ready once there are weights.
        log: told what a person should know.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        relay_id: str,
        settings: RelaySettings,
        *,
        subscriber: Subscriber,
        publisher: Publisher,
        inbox: Inbox,
        outbox: Outbox,
        wait: Wait,
        metrics: RelayMetrics,
        health: Health,
        log: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._inbox = inbox
        self._outbox = outbox
        self._wait = wait
        self._metrics = metrics
        self._health = health
        self._log = log or structlog.get_logger()
        self._feed = WeightsFeed(subscriber, metrics.stages, metrics.weights_refused, self._log)
        self._connections = ConnectionLog(
            metrics.connection_events,
            self._log,
            serving={"upstream": inbox, "weights": publisher},
            using={"learner_upstream": outbox, "learner_weights": subscriber},
            keys_option="--learner-keys",
        )
        self._clock = clock
        self._roster = Roster()
        self._gathering = Gathering(
            relay_id,
            self._roster,
            max_policy_lag=settings.max_policy_lag,
            patience_seconds=settings.patience_seconds,
        )
        self._weights: Weights | None = None
        self._unsent: deque[tuple[Kind, bytes]] = deque()
        health.waiting_for = "weights from the learner"

    def run(self, stop: threading.Event) -> None:
        """Steps until told to stop.

        Raises:
            AccessRefusedError: of the learner's socket.
        """
        while not stop.is_set():
            self.step()

    def step(self) -> None:
        """Waits for something to do, at most `WAIT_S`, and does it: weights before messages.

        Messages are taken one a step, and only while nothing waits to be sent: more are left in the
        sockets, which fill up and hold the actors back.
        """
        self._health.tick()
        self._connections.note()
        self._metrics.stages.enter("blocked" if self._unsent else "wait")
        self._wait(messages=self._takes_messages(), room=bool(self._unsent), timeout_s=WAIT_S)
        self._metrics.stages.enter("weights")
        self._welcome()
        self._take_weights()
        self._send()
        if self._takes_messages():
            self._take_message()
        now = self._clock()
        self._roster.forget_silent(now)
        if self._gathering.due(now):
            self._send_average()
        self._metrics.active_actors.set(len(self._roster))

    # --- down --------------------------------------------------------------------------------

    def _welcome(self) -> None:
        joined = self._publisher.welcome_joiners()
        if joined:
            self._metrics.joins.inc(joined)
            self._log.info("actors joined", count=joined)

    def _take_weights(self) -> None:
        arrival = self._feed.newer(0.0)
        if arrival is None:
            return
        weights, frame = arrival
        old = self._weights
        if old is None or weights.run != old.run:
            self._log.info("a learner", run=f"{weights.run:016x}", version=weights.policy_version)
        self._weights = weights
        late = self._gathering.renew(weights)
        if late is not None:
            self._unsent.append(("gradients", encode(late)))
        self._publish(weights, frame)

    def _publish(self, weights: Weights, frame: bytes) -> None:
        """Passes weights on: as they are, unless actors are to report to the relay."""
        if weights.assignment.request == "gradients":
            samples = weights.assignment.objective.minibatch_size
            try:
                frame = for_actors(
                    frame,
                    received=self._roster.received(),
                    minibatch_size=share_of_samples(samples, len(self._roster)),
                )
            except ValueError as error:
                self._feed.refuse("limit", str(error))
                return
        self._publisher.publish(frame)
        self._health.ready = True
        self._metrics.weights_received.inc()
        self._metrics.weights_published_bytes.inc(len(frame))
        self._metrics.policy_version.set(weights.policy_version)
        now = time.time()
        self._metrics.weights_timestamp.set(now)
        if weights.published_at is not None:
            self._metrics.weights_latency.observe(max(0.0, now - weights.published_at))

    # --- up ----------------------------------------------------------------------------------

    def _takes_messages(self) -> bool:
        """Whether an actor's message can be used: it is known what is asked for, nothing waits."""
        return self._weights is not None and not self._unsent

    def _take_message(self) -> None:
        """Takes one message in: a gradient that is asked for to average, others to send on.

        Of those only the header is looked at. Whether they are wanted is the learner's to decide,
        but what is no message ends here.
        """
        frame = self._inbox.receive(0.0)
        if frame is None:
            return
        self._metrics.stages.enter("decode")
        self._metrics.received_bytes.inc(len(frame))
        assert self._weights is not None
        try:
            kind, actor_id, sequence = _sender(frame)
            averages = kind == "gradients" == self._weights.assignment.request
            gradients = decode(frame) if averages else None
        except DecodeError as error:
            self._drop(error.reason, str(error))
            return
        self._metrics.received.labels(kind=kind).inc()
        if isinstance(gradients, Gradients):
            self._metrics.stages.enter("average")
            self._average(gradients)
            return
        self._metrics.lost.inc(self._roster.heard(actor_id, sequence, self._clock()))
        self._unsent.append((kind, frame))
        self._send()

    def _average(self, gradients: Gradients) -> None:
        verdict = self._gathering.offer(gradients, self._clock())
        self._metrics.lost.inc(verdict.lost)
        if isinstance(verdict, Dropped):
            self._drop(verdict.reason, verdict.detail)
        else:
            self._metrics.policy_lag.observe(verdict.policy_lag)

    def _drop(self, reason: str, detail: str) -> None:
        self._metrics.dropped.labels(reason=reason).inc()
        self._log.debug("message dropped", reason=reason, detail=detail)

    def _send_average(self) -> None:
        self._metrics.stages.enter("average")
        if not self._gathering.complete():
            self._metrics.incomplete.inc()
        self._unsent.append(("gradients", encode(self._gathering.take())))
        self._send()

    def _send(self) -> None:
        """Sends what waits, or keeps it for the next step: connection trouble is never fatal."""
        self._metrics.stages.enter("send")
        while self._unsent:
            kind, frame = self._unsent[0]
            if not self._outbox.send(frame, timeout_s=0.0):
                self._metrics.send_timeouts.inc()
                return
            self._unsent.popleft()
            self._metrics.sent.labels(kind=kind).inc()
            self._metrics.sent_bytes.inc(len(frame))


def _sender(frame: bytes) -> tuple[Kind, str, int]:
    """Returns kind, actor and sequence number of a message, without looking at its arrays.

    Raises:
        DecodeError: it is none that an actor sends.
    """
    header, _ = split(frame)
    fields = Fields(header)
    kind: Kind = fields.choice("type", ("trajectory", "gradients"))
    return kind, fields.text("actor_id"), fields.integer("sequence", 0, MAX_COUNT - 1)
