"""The relay's loop: weights down; trajectories up unchanged, gradients up as their mean.

It keeps nothing that matters. Killed at any instant, it loses the messages it holds; actors and
learner go on with the next relay at its address.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import structlog

from asyncade_proto.codec import Sender, decode, encode, join, sender_of, split
from asyncade_proto.errors import DecodeError, TooLargeError
from asyncade_proto.messages import Gradients, Weights
from asyncade_relay.gathering import Gathering
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.admission import Accepted, Dropped, Roster
from asyncade_runtime.entrance import Entrance
from asyncade_runtime.lifecycle import WAIT_S, Health
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Inbox, Outbox, Peer, Publisher, Subscriber
from asyncade_runtime.weights_feed import WeightsFeed

Kind = Literal["trajectory", "gradients"]


class Relay:
    """Connects the actors of a node or zone to the learner.

    Args:
        relay_id: its name as an actor of the learner; unique among running relays and actors.
        settings: policy lag and patience.
        subscriber: weights from the learner.
        publisher: weights to the actors.
        inbox: messages from the actors.
        outbox: messages to the learner.
        wait: called with (messages, room, timeout in seconds). Blocks until weights or joiners
            arrive, or with `messages` a message, or with `room` the outbox has room.
        metrics: updated by the relay.
        health: ticked every step; ready once weights have arrived.
        log: structured logger.
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
        wait: Callable[[bool, bool, float], None],
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
        self._entrance = Entrance(settings.actors_per_peer, metrics.shut_out, self._log)
        self._gathering = Gathering(
            relay_id,
            self._roster,
            max_policy_lag=settings.max_policy_lag,
            patience_seconds=settings.patience_seconds,
            actors_behind_relay=settings.actors_behind_relay,
        )
        self._weights: Weights | None = None
        self._unsent: deque[tuple[Kind, bytes]] = deque()
        health.waiting_for = "weights from the learner"

    def run(self, stop: threading.Event) -> None:
        """Steps until `stop` is set.

        Raises:
            AccessRefusedError: the learner does not accept the relay's key, or has another one.
        """
        while not stop.is_set():
            self.step()

    def step(self) -> None:
        """Waits at most `WAIT_S` for something to do and does it, weights first.

        Takes one message per step, and only while none waits to be sent: the others stay in the
        sockets, which fill up and hold the actors back.
        """
        self._health.tick()
        self._connections.note()
        self._metrics.stages.enter("blocked" if self._unsent else "wait")
        self._wait(self._takes_messages(), bool(self._unsent), WAIT_S)
        self._metrics.stages.enter("weights")
        self._welcome()
        self._take_weights()
        self._send()
        if self._takes_messages():
            self._take_message()
        now = self._clock()
        self._roster.forget_silent(now)
        self._entrance.forgive(now)
        if self._gathering.due(now):
            self._send_mean()
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
        if self._weights is None or weights.run != self._weights.run:
            run = f"{weights.run:016x}"
            self._log.info("new learner", run=run, version=weights.policy_version)
            self._entrance.new_run()
        self._weights = weights
        late = self._gathering.renew(weights)
        if late is not None:
            self._add_unsent(late)
        self._publish(weights, frame)

    def _publish(self, weights: Weights, frame: bytes) -> None:
        """Publishes weights to the actors, in gradient mode with the relay's own header."""
        if weights.assignment.request == "gradients":
            try:
                frame = self._for_actors(frame)
            except ValueError as error:
                self._feed.refuse("limit", str(error))
                return
        self._publisher.publish(frame)
        self._health.ready = True
        self._metrics.count_weights(weights)
        self._metrics.weights_published_bytes.inc(len(frame))

    def _for_actors(self, frame: bytes) -> bytes:
        """Returns the frame with the relay's own `received`.

        Header fields of a later release, unknown here, stay in it.

        Raises:
            ValueError: the frame would be larger than the wire allows.
        """
        header, arrays = split(frame)
        return join(header | {"received": self._roster.credit()}, [arrays])

    # --- up ----------------------------------------------------------------------------------

    def _takes_messages(self) -> bool:
        """True if a message can be used: weights say what is requested, and none is unsent."""
        return self._weights is not None and not self._unsent

    def _take_message(self) -> None:
        """Takes one message: a requested gradient is averaged, any other is forwarded.

        Only the header of a forwarded message is read. The learner decides whether to use it, but a
        frame that is no message ends here.
        """
        envelope = self._inbox.receive(0.0)
        if envelope is None:
            return
        frame, peer, now = envelope.frame, envelope.peer, self._clock()
        self._metrics.stages.enter("decode")
        self._metrics.received_bytes.inc(len(frame))
        if self._entrance.shut_out(peer):
            self._drop("shut_out", "a frame of a peer that is shut out")
            return
        assert self._weights is not None
        sender = None
        try:
            sender = sender_of(frame)
            averages = sender.kind == "gradients" == self._weights.assignment.request
            gradients = decode(frame) if averages else None
        except DecodeError as error:
            actor_id = None if sender is None else sender.actor_id
            self._judged(peer, actor_id, Dropped(error.reason, error.detail), now)
            return
        if not self._arrived(sender, peer, now):
            return
        if isinstance(gradients, Gradients):
            self._metrics.stages.enter("average")
            self._judged(peer, sender.actor_id, self._gathering.offer(gradients, now), now)
            return
        self._roster.heard(sender.actor_id, sender.sequence, now)
        self._unsent.append((sender.kind, frame))
        self._send()

    def _arrived(self, sender: Sender, peer: Peer, now: float) -> bool:
        """Enters a message into its sender's account; false if it is refused."""
        assert self._weights is not None
        self._metrics.received.labels(kind=sender.kind).inc()
        version = self._weights.policy_version
        found = self._entrance.arrived(sender, peer, policy_version=version, now=now)
        if isinstance(found, Dropped):
            self._judged(peer, sender.actor_id, found, now)
            return False
        self._metrics.lost.inc(found)
        return True

    def _judged(
        self, peer: Peer, actor_id: str | None, outcome: Accepted | Dropped, now: float
    ) -> None:
        self._entrance.judged(peer, actor_id, outcome, now)
        if isinstance(outcome, Dropped):
            self._drop(outcome.reason, outcome.detail)
        else:
            self._metrics.policy_lag.observe(outcome.policy_lag)

    def _drop(self, reason: str, detail: str) -> None:
        self._metrics.dropped.labels(reason=reason).inc()
        self._log.debug("message dropped", reason=reason, detail=detail)

    def _send_mean(self) -> None:
        self._metrics.stages.enter("average")
        if not self._gathering.complete():
            self._metrics.incomplete.inc()
        self._add_unsent(self._gathering.take())
        self._send()

    def _add_unsent(self, mean: Gradients) -> None:
        """Encodes a mean, unless it is too large for the wire: one actor must not end the relay.

        Each part may fit, and the largest gradient with the episodes of several actors may not. Its
        sequence number is used up, so the learner counts it as lost and gives credit again.
        """
        try:
            self._unsent.append(("gradients", encode(mean)))
        except TooLargeError as error:
            self._drop("limit", str(error))

    def _send(self) -> None:
        """Sends what waits, or keeps it for the next step: a lost connection is never fatal."""
        self._metrics.stages.enter("send")
        while self._unsent:
            kind, frame = self._unsent[0]
            if not self._outbox.send(frame, timeout_s=0.0):
                self._metrics.send_timeouts.inc()
                return
            self._unsent.popleft()
            self._metrics.sent.labels(kind=kind).inc()
            self._metrics.sent_bytes.inc(len(frame))
