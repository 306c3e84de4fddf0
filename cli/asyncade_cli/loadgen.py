"""``asyncade loadgen``: synthetic actors that replay recorded messages to a learner.

Synthetic actors follow the protocol (proto/SPEC.md): weights tell them what to send, the model's
fingerprint, the policy version and their credit. Messages are recorded and encoded once; each one
sent gets a new header.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Final

import zmq

from asyncade_cli.replay import LoadgenError, RecordedMessage, record
from asyncade_cli.settings import LoadgenSettings
from asyncade_proto.codec import decode
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Assignment, Request, Weights
from asyncade_runtime.lifecycle import WAIT_S, stop_on_signals
from asyncade_runtime.transport.connection_log import check_access
from asyncade_runtime.transport.keys import load_actor_keys
from asyncade_runtime.transport.roles import Outbox, Subscriber
from asyncade_runtime.transport.zmq_sockets import EVERY_VERSION_HWM, ZmqOutbox, ZmqSubscriber

_RETRY_S: Final = 0.001
"""Wait for weights while an actor has credit but its socket is full or the rate limit is reached.
"""


@dataclass(slots=True)
class SyntheticActor:
    """A synthetic actor.

    Attributes:
        actor_id: in every header.
        outbox: connection to the learner.
        sequence: messages sent.
        received: of these, messages that the learner has acknowledged with weights.
        unsent: frame that did not fit into the socket, and its env steps.
    """

    actor_id: str
    outbox: Outbox
    sequence: int = 0
    received: int = 0
    unsent: tuple[bytes, int] | None = None


class LoadGenerator:
    """Steps synthetic actors against one learner.

    Args:
        settings: of the command.
        outboxes: one per actor.
        subscriber: receives the learner's weights for all actors.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        settings: LoadgenSettings,
        *,
        outboxes: Sequence[Outbox],
        subscriber: Subscriber,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._subscriber = subscriber
        self._clock = clock
        self._actors = [
            SyntheticActor(f"{settings.actor_id}-{number}", outbox)
            for number, outbox in enumerate(outboxes)
        ]
        self._weights: Weights | None = None
        self._recordings: dict[tuple[object, ...], list[RecordedMessage]] = {}
        self._created = clock()
        self._started: float | None = None
        self._ended = 0.0
        self._sent: dict[Request, int] = {"trajectories": 0, "gradients": 0}
        self._env_steps = self._bytes = self._refused = self._weights_received = 0

    def over(self) -> bool:
        """Returns whether the limit of messages or seconds is reached."""
        if self._started is None:
            return False
        return self._messages_left() <= 0 or (
            self._clock() - self._started >= self._settings.seconds
        )

    def step(self) -> None:
        """Receives the newest weights and sends what every actor's credit allows.

        Raises:
            LoadgenError: no weights arrive in time, or something else arrives.
        """
        can_send = self._weights is not None and any(map(self._has_credit, self._actors))
        self._receive_weights(_RETRY_S if can_send else WAIT_S)
        if self._weights is None:
            if self._clock() - self._created > self._settings.wait_seconds:
                raise LoadgenError(
                    f"no weights from {self._settings.weights_address} in "
                    f"{self._settings.wait_seconds:g} s: start a learner, or correct"
                    " --weights-address"
                )
            return
        for actor in self._actors:
            _check_access(actor.outbox)
        sent = True
        while sent:
            recording = self._recording(self._weights.assignment)
            if self._started is None:
                self._started = self._clock()
            if self.over():
                break
            # One message per actor and round, so that all actors send equally often.
            sent = sum(self._send_one(actor, recording) for actor in self._actors) > 0
            self._receive_weights(0.0)
        self._ended = self._clock()

    def report(self) -> dict[str, Any]:
        """Returns what was sent, and at which rate.

        Raises:
            LoadgenError: the learner never requested messages of --mode.
        """
        mode = self._settings.mode
        expected: Request = "gradients" if mode == "gradients" else "trajectories"
        if mode is not None and self._weights and not self._sent[expected]:
            raise LoadgenError(
                f"the learner never requested {expected}: start it with --mode {mode}, or leave out"
                " --mode here"
            )
        seconds = self._ended - self._started if self._started is not None else 0.0
        assignment = self._weights.assignment if self._weights else None
        messages, env_steps = sum(self._sent.values()), self._env_steps
        return {
            "actors": len(self._actors),
            "envs": self._settings.envs,
            "game": self._settings.game or (assignment and assignment.game),
            "unroll_length": assignment and assignment.unroll_length,
            "messages_in_flight": assignment and self._credit(assignment),
            "messages": messages,
            "trajectories": self._sent["trajectories"],
            "gradients": self._sent["gradients"],
            "env_steps": env_steps,
            "bytes": self._bytes,
            "seconds": round(seconds, 3),
            "env_steps_per_second": round(env_steps / seconds, 1) if seconds > 0 else 0.0,
            "messages_per_second": round(messages / seconds, 1) if seconds > 0 else 0.0,
            "bytes_per_env_step": round(self._bytes / env_steps, 2) if env_steps else None,
            "refused_sends": self._refused,
            "weights_taken": self._weights_received,
            "policy_version": self._weights and self._weights.policy_version,
        }

    # --- sending -----------------------------------------------------------------------------

    def _messages_left(self) -> float:
        limit = self._settings.messages
        return math.inf if limit is None else limit - sum(self._sent.values())

    def _credit(self, assignment: Assignment) -> int:
        """Returns the messages an actor may have in flight."""
        assigned = assignment.messages_in_flight
        return min(assigned, self._settings.messages_in_flight or assigned)

    def _has_credit(self, actor: SyntheticActor) -> bool:
        assert self._weights is not None
        return actor.sequence - actor.received < self._credit(self._weights.assignment)

    def _rate_allows(self) -> bool:
        assert self._started is not None
        rate, seconds = self._settings.rate, self._clock() - self._started
        return rate == "unlimited" or self._env_steps <= rate * seconds

    def _send_one(self, actor: SyntheticActor, recording: list[RecordedMessage]) -> bool:
        """Sends one message of an actor; returns False if it may not send or its socket is full."""
        assert self._weights is not None
        if not (self._has_credit(actor) and self._messages_left() > 0 and self._rate_allows()):
            return False
        frame, env_steps = actor.unsent or self._next_frame(actor, recording, self._weights)
        if not actor.outbox.send(frame, timeout_s=0.0):
            actor.unsent = frame, env_steps
            self._refused += 1
            return False
        actor.unsent = None
        actor.sequence += 1
        self._sent[self._weights.assignment.request] += 1
        self._env_steps += env_steps
        self._bytes += len(frame)
        return True

    def _next_frame(
        self, actor: SyntheticActor, recording: list[RecordedMessage], weights: Weights
    ) -> tuple[bytes, int]:
        message = recording[actor.sequence % len(recording)]
        fields: dict[str, object] = {
            "actor_id": actor.actor_id,
            "sequence": actor.sequence,
            "policy_version": weights.policy_version,
            "model": weights.model,
        }
        return message.frame(**fields), message.env_steps

    # --- weights -----------------------------------------------------------------------------

    def _receive_weights(self, timeout_s: float) -> None:
        _check_access(self._subscriber)
        frame = self._subscriber.latest(timeout_s)
        if frame is None:
            return
        try:
            weights = decode(frame)
        except DecodeError as error:
            raise LoadgenError(f"weights cannot be decoded: {error}") from error
        if not isinstance(weights, Weights):
            raise LoadgenError(
                f"received {type(weights).__name__} as weights: correct --weights-address"
            )
        old = self._weights
        if old and weights.run == old.run and weights.policy_version <= old.policy_version:
            return  # repeated for a new subscriber
        self._weights = weights
        self._weights_received += 1
        for actor in self._actors:
            actor.unsent = None  # it is encoded again, for these weights
            received = weights.received.get(actor.actor_id, actor.sequence)
            actor.received = min(received, actor.sequence)

    def _recording(self, assignment: Assignment) -> list[RecordedMessage]:
        """Returns the messages to replay; records them if the assignment has changed."""
        key = (
            assignment.request,
            assignment.game,
            assignment.games,
            assignment.unroll_length,
            assignment.network,
        )
        if key not in self._recordings:
            before = self._clock()
            self._recordings[key] = record(assignment, self._settings)
            if self._started is not None:  # recording time does not count
                self._started += self._clock() - before
        return self._recordings[key]


def _check_access(role: Outbox | Subscriber) -> None:
    """Reconnects where libzmq has given up.

    Raises:
        AccessRefusedError: the keys do not match.
    """
    for event in role.events():
        check_access(event)


def run(settings: LoadgenSettings) -> dict[str, Any]:
    """Connects, replays until a limit, SIGTERM or SIGINT, and returns the report.

    Raises:
        LoadgenError: no learner answers, or it never requests messages of --mode.
        AccessRefusedError: the keys do not match.
        SocketAddressError: an address is malformed.
        KeysError: the folder of keys cannot be used.
    """
    stop = stop_on_signals()
    keys = None if settings.keys is None else load_actor_keys(settings.keys)
    context = zmq.Context()
    try:
        with ExitStack() as roles:
            subscriber = ZmqSubscriber(
                context,
                settings.weights_address,
                hwm=EVERY_VERSION_HWM,  # must not miss a version
                keys=keys,
            )
            roles.enter_context(closing(subscriber))
            outboxes = []
            for _ in range(settings.actors):
                outboxes.append(ZmqOutbox(context, settings.upstream_address, keys=keys))
                roles.enter_context(closing(outboxes[-1]))
            generator = LoadGenerator(settings, outboxes=outboxes, subscriber=subscriber)
            while not stop.is_set() and not generator.over():
                generator.step()
            return generator.report()
    finally:
        context.term()
