"""``asyncade loadgen``: synthetic actors that replay recorded play, to load a real learner.

Everything that an actor learns from the weights a synthetic one learns too: what to send, the
model's fingerprint, the policy version, its credit (proto/SPEC.md). Only the play is old: it is
recorded once, encoded once, and of each message sent only the header is written anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import zmq

from asyncade_cli.replay import LoadgenError, Recording, record
from asyncade_cli.settings import LoadgenSettings
from asyncade_proto.codec import decode
from asyncade_proto.errors import DecodeError
from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_proto.messages import Assignment, Request, Weights
from asyncade_runtime.lifecycle import stop_on_signals
from asyncade_runtime.transport.keys import load_actor_keys
from asyncade_runtime.transport.roles import Outbox, Subscriber
from asyncade_runtime.transport.zmq_sockets import EVERY_VERSION_HWM, ZmqOutbox, ZmqSubscriber

WAIT_S: Final = 0.25
"""How long one step may block while every actor waits for credit."""

_NO_ROOM_S: Final = 0.001
"""The same while an actor has credit, but its socket has no room or the rate holds it back."""


class Pace:
    """Holds a number of env steps back to a rate.

    Args:
        rate: env steps per second, or unlimited.
    """

    def __init__(self, rate: float | Literal["unlimited"]) -> None:
        self._rate = None if rate == "unlimited" else float(rate)

    def allows(self, env_steps: int, seconds: float) -> bool:
        """Whether more may be sent when so many env steps were, in so many seconds."""
        return self._rate is None or env_steps <= self._rate * seconds


@dataclass(slots=True)
class SyntheticActor:
    """One actor: its counters, its connection, and the frame that its socket had no room for."""

    actor_id: str
    outbox: Outbox
    sequence: int = 0
    received: int = 0
    refused: tuple[bytes, int] | None = field(default=None, repr=False)

    def may_send(self, in_flight: int) -> bool:
        """Whether fewer messages are on their way than are allowed."""
        return self.sequence - self.received < in_flight


class LoadGenerator:
    """Steps synthetic actors against one learner.

    Args:
        settings: what was asked for.
        outboxes: one per actor.
        subscriber: to the learner's weights; for all of them.
        record: makes the messages for an assignment; called when its kind or shape changes.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        settings: LoadgenSettings,
        *,
        outboxes: Sequence[Outbox],
        subscriber: Subscriber,
        record: Callable[[Assignment, LoadgenSettings], Recording] = record,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._subscriber = subscriber
        self._record = record
        self._clock = clock
        self._pace = Pace(settings.rate)
        self._actors = [
            SyntheticActor(f"{settings.actor_id}-{number}", outbox)
            for number, outbox in enumerate(outboxes)
        ]
        self._weights: Weights | None = None
        self._recordings: dict[tuple[object, ...], Recording] = {}
        self._began = clock()
        self._started: float | None = None
        self._ended = 0.0
        self._messages: dict[Request, int] = {"trajectories": 0, "gradients": 0}
        self._env_steps = self._bytes = self._refused = self._weights_taken = 0

    def run(self, stop: threading.Event) -> None:
        """Steps until the end or told to stop.

        Raises:
            LoadgenError: see `step`.
        """
        while not stop.is_set() and not self.over():
            self.step()

    def over(self) -> bool:
        """Whether as much was sent, or for as long, as was asked for."""
        if self._started is None:
            return False
        limit = self._settings.messages
        if limit is not None and sum(self._messages.values()) >= limit:
            return True
        return self._clock() - self._started >= self._settings.seconds

    def step(self) -> None:
        """Takes the newest weights and lets every actor send what it may.

        Raises:
            LoadgenError: no learner is heard of for too long.
        """
        able = self._weights is not None and any(self._may_send(actor) for actor in self._actors)
        self._take_weights(_NO_ROOM_S if able else WAIT_S)
        if self._weights is None:
            if self._clock() - self._began > self._settings.wait_seconds:
                raise LoadgenError(
                    f"no weights from {self._settings.weights_address} in "
                    f"{self._settings.wait_seconds:g} s: start a learner, or mend --weights-address"
                )
            return
        for actor in self._actors:
            actor.outbox.events()  # renews a connection that libzmq has given up
        moved = True
        while moved:
            recording = self._recording(self._weights.assignment)
            if self._started is None:
                self._started = self._clock()
            if self.over():
                break
            # A turn for each, so that all are served alike; again while anybody gets through.
            moved = sum(self._send_one(actor, recording) for actor in self._actors) > 0
            self._take_weights(0.0)
        self._ended = self._clock()

    def report(self) -> dict[str, Any]:
        """Returns what was sent, and how fast.

        Raises:
            LoadgenError: the learner never asked for the kind of message that was expected.
        """
        wanted: Request = "gradients" if self._settings.mode == "gradients" else "trajectories"
        if self._settings.mode is not None and self._weights and not self._messages[wanted]:
            raise LoadgenError(
                f"the learner never asked for {wanted}: start it with --mode {self._settings.mode},"
                " or leave --mode out here"
            )
        seconds = max(self._ended - (self._started or 0.0), 1e-9) if self._started else 0.0
        assignment = self._weights.assignment if self._weights else None
        messages = sum(self._messages.values())
        return {
            "actors": len(self._actors),
            "envs": self._settings.envs,
            "game": self._settings.game or (assignment and assignment.game),
            "unroll_length": assignment and assignment.unroll_length,
            "messages_in_flight": assignment and self._in_flight(assignment),
            "messages": messages,
            "trajectories": self._messages["trajectories"],
            "gradients": self._messages["gradients"],
            "env_steps": self._env_steps,
            "bytes": self._bytes,
            "seconds": round(seconds, 3),
            "env_steps_per_second": round(self._env_steps / seconds, 1) if seconds else 0.0,
            "messages_per_second": round(messages / seconds, 1) if seconds else 0.0,
            "bytes_per_env_step": round(self._bytes / self._env_steps, 2)
            if self._env_steps
            else None,
            "refused_sends": self._refused,
            "weights_taken": self._weights_taken,
            "policy_version": self._weights and self._weights.policy_version,
        }

    # --- sending -----------------------------------------------------------------------------

    @property
    def _request(self) -> Request:
        assert self._weights is not None
        return self._weights.assignment.request

    def _in_flight(self, assignment: Assignment) -> int:
        """Returns the credit: the learner's, or less if less was asked for."""
        return min(
            assignment.messages_in_flight,
            self._settings.messages_in_flight or assignment.messages_in_flight,
        )

    def _may_send(self, actor: SyntheticActor) -> bool:
        assert self._weights is not None
        return actor.may_send(self._in_flight(self._weights.assignment))

    def _send_one(self, actor: SyntheticActor, recording: Recording) -> bool:
        """Sends one message of an actor if it may; False if it may not, or nobody took it."""
        assert self._weights is not None
        limit = self._settings.messages
        if not self._may_send(actor) or (limit and sum(self._messages.values()) >= limit):
            return False
        elapsed = self._clock() - (self._started or 0.0)
        if not self._pace.allows(self._env_steps, elapsed):
            return False
        frame, env_steps = actor.refused or self._next_frame(actor, recording)
        if not actor.outbox.send(frame, timeout_s=0.0):
            actor.refused = frame, env_steps
            self._refused += 1
            return False
        actor.refused = None
        actor.sequence += 1
        self._messages[self._request] += 1
        self._env_steps += env_steps
        self._bytes += len(frame)
        return True

    def _next_frame(self, actor: SyntheticActor, recording: Recording) -> tuple[bytes, int]:
        assert self._weights is not None
        unroll, part = divmod(actor.sequence, recording.sent_per_message)
        message = recording.messages[unroll % len(recording.messages)]
        env_steps = message.env_steps if part == 0 else 0
        fields: dict[str, object] = {
            "actor_id": actor.actor_id,
            "sequence": actor.sequence,
            "policy_version": self._weights.policy_version,
            "model": self._weights.model,
        }
        if self._request == "gradients":
            fields["env_steps"] = env_steps
        return message.frame(**fields), env_steps

    # --- weights -----------------------------------------------------------------------------

    def _take_weights(self, timeout_s: float) -> None:
        self._subscriber.events()  # renews a subscription that libzmq has given up
        frame = self._subscriber.latest(timeout_s)
        if frame is None:
            return
        try:
            weights = decode(frame)
        except DecodeError as error:
            raise LoadgenError(f"what came as weights is none: {error}") from error
        if not isinstance(weights, Weights):
            raise LoadgenError(
                f"a {type(weights).__name__} on the weights socket: mend --weights-address"
            )
        old = self._weights
        if (
            old is not None
            and weights.run == old.run
            and weights.policy_version <= old.policy_version
        ):
            return  # sent again for somebody who joined
        self._weights = weights
        self._weights_taken += 1
        for actor in self._actors:
            actor.refused = None  # it is written anew, for these weights
            received = weights.received.get(actor.actor_id, actor.sequence)
            actor.received = min(received, actor.sequence)

    def _recording(self, assignment: Assignment) -> Recording:
        """Returns what to replay; recorded anew only if the learner asks for something else."""
        key = (assignment.request, assignment.game, assignment.unroll_length, assignment.network)
        if key not in self._recordings:
            before = self._clock()
            self._recordings[key] = self._record(assignment, self._settings)
            if self._started is not None:  # nothing is sent meanwhile: it is no time of the load
                self._started += self._clock() - before
        return self._recordings[key]


def run(settings: LoadgenSettings) -> dict[str, Any]:
    """Connects, replays until the end, SIGTERM or SIGINT, and returns the report.

    Raises:
        LoadgenError: no learner is heard of, or not the one that was meant.
        SocketAddressError: an address is wrong as written.
        KeysError: the folder of keys cannot be used.
    """
    stop = stop_on_signals()
    keys = None if settings.keys is None else load_actor_keys(settings.keys)
    context = zmq.Context()
    try:
        with ExitStack() as roles:
            subscriber = roles.enter_context(
                closing(
                    ZmqSubscriber(
                        context,
                        settings.weights_address,
                        max_message_bytes=MAX_MESSAGE_BYTES,
                        hwm=EVERY_VERSION_HWM,  # a lost one costs the learner's patience
                        keys=keys,
                    )
                )
            )
            outboxes = [
                roles.enter_context(
                    closing(ZmqOutbox(context, settings.upstream_address, keys=keys))
                )
                for _ in range(settings.actors)
            ]
            generator = LoadGenerator(settings, outboxes=outboxes, subscriber=subscriber)
            generator.run(stop)
            return generator.report()
    finally:
        context.term()
