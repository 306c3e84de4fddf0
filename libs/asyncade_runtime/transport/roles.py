"""The four socket roles that carry every message between actors and learner.

===============  =========  ========================================================
role             who        promise
===============  =========  ========================================================
`Outbox`         actor      at most once, and refuses when nobody takes the frame
`Inbox`          learner    a short queue per actor, all actors served fairly
`Publisher`      learner    keeps the last frame for those who join late
`Subscriber`     actor      only the newest frame
===============  =========  ========================================================

A message is one frame of bytes; what is in it is not known here. The learner is the side with the
address, so actors may come, go, and start first. One thread owns each role object.
`zmq_sockets` implements the roles over ZeroMQ, `memory` within one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """One change in the life of a connection, to be logged and counted.

    Attributes:
        kind: ``connected``: the handshake succeeded, messages can flow. ``disconnected``: the peer
            went away, or was silent for longer than the heartbeat timeout. ``retried``: nobody
            answered, another attempt is scheduled. ``handshake_failed``: something answered that
            is no peer of ours; ZeroMQ may then never try again. ``refused``: the peer does not let
            us in, or is not who we trust; trying on is of no use.
        endpoint: address the event is about, as ZeroMQ writes it (``tcp://127.0.0.1:5555``).
        detail: one phrase for a person; empty when the kind says it all.
    """

    kind: Literal["connected", "disconnected", "retried", "handshake_failed", "refused"]
    endpoint: str
    detail: str = ""


class AccessRefusedError(Exception):
    """The learner does not let this actor in, or is not the one that it trusts."""


class _Role(Protocol):
    """What all four have."""

    def events(self) -> list[ConnectionEvent]:
        """Returns what happened to the connections since the last call, without blocking.

        Call it every step: nothing else tells a slow peer from a wrong address.
        """
        ...

    def close(self) -> None:
        """Ends the role. A second call does nothing."""
        ...


class Outbox(_Role, Protocol):
    """Where an actor puts its trajectories or gradients."""

    def send(self, frame: bytes, timeout_s: float) -> bool:
        """Hands over one frame, or says that nobody took it.

        Args:
            frame: the message.
            timeout_s: how long to wait for room, in seconds.

        Returns:
            True when it is on its way, which is no receipt: a learner that dies loses it. False
            when there was no learner, or no room, for the whole timeout; the frame is then still
            the caller's, to keep or to drop.
        """
        ...


class Inbox(_Role, Protocol):
    """Where the learner takes what all actors sent."""

    @property
    def endpoint(self) -> str:
        """The address really bound, with the port number that ``:*`` was given."""
        ...

    def receive(self, timeout_s: float) -> bytes | None:
        """Returns the next frame, or None when there was none for `timeout_s` seconds."""
        ...


class Publisher(_Role, Protocol):
    """Where the learner shows its newest weights to every actor."""

    @property
    def endpoint(self) -> str:
        """The address really bound, with the port number that ``:*`` was given."""
        ...

    def publish(self, frame: bytes) -> None:
        """Sends `frame` to every subscriber and keeps it for late ones. Never blocks."""
        ...

    def welcome_joiners(self) -> int:
        """Sends the last frame once more if anybody subscribed since. Never blocks.

        Call it every step. The frame then reaches *every* subscriber again, so subscribers
        ignore a version they already have.

        Returns:
            How many subscribed since the last call.
        """
        ...


class Subscriber(_Role, Protocol):
    """Where an actor finds the newest weights."""

    def latest(self, timeout_s: float) -> bytes | None:
        """Returns the newest frame not yet returned, skipping older ones.

        Call it every step: a subscription to a restarted learner is renewed in here.

        Args:
            timeout_s: how long to wait, in seconds, while there is none.

        Returns:
            The frame, or None when there was none in time. A re-sent frame comes again.
        """
        ...
