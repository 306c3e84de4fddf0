"""The four socket roles that carry every message between actors and learner.

===============  =========  ========================================================
role             held by    promise
===============  =========  ========================================================
`Outbox`         actor      at-most-once delivery; `send` fails when there is no room
`Inbox`          learner    a short queue per actor, read fairly
`Publisher`      learner    sends to all subscribers, re-sends the last frame to late ones
`Subscriber`     actor      returns only the newest frame
===============  =========  ========================================================

A message is one frame of opaque bytes. The learner binds and actors connect, so actors may start
first and may leave and return. One thread owns each role object. `zmq_sockets` implements the
roles over ZeroMQ, `memory` within one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """A change of a connection's state.

    Attributes:
        kind: ``connected``: the handshake succeeded, messages can flow. ``disconnected``: the peer
            left, or was silent for longer than the heartbeat timeout. ``retried``: no answer,
            another attempt is scheduled. ``unanswered``: the peer accepts the connection and says
            nothing, as a stopped process does; a disconnect and a retry follow.
            ``handshake_failed``: the peer does not speak our protocol; ZeroMQ may never retry.
            ``refused``: the keys do not match, so retrying is pointless.
        endpoint: configured address of a role that connects (``tcp://learner:5555``); address of
            the connection (``tcp://127.0.0.1:5555``) of one that binds.
        detail: explanation for the log; may be empty.
    """

    kind: Literal[
        "connected", "disconnected", "retried", "unanswered", "handshake_failed", "refused"
    ]
    endpoint: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a frame, as far as the socket can tell; nothing here is claimed by the sender.

    Attributes:
        address: IP address, without the port: it changes with every connection. Empty for a
            transport that has none.
        key: public key that the peer proved to hold, 40 characters of Z85; None without CURVE.
    """

    address: str
    key: str | None = None

    def __str__(self) -> str:
        address = self.address or "a peer without address"
        return address if self.key is None else f"{address} with key {self.key}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A received frame and who sent it."""

    frame: bytes
    peer: Peer


class AccessRefusedError(Exception):
    """The learner refused this peer's key, or presented a key that this peer does not trust."""


class _Role(Protocol):
    """Methods that all four roles have."""

    def events(self) -> list[ConnectionEvent]:
        """Returns the connection events since the last call, without blocking.

        Call it every step: only these events tell a slow peer from a wrong address.
        """
        ...

    def close(self) -> None:
        """Closes the role. A second call does nothing."""
        ...


class Outbox(_Role, Protocol):
    """Sends an actor's trajectories or gradients."""

    def send(self, frame: bytes, timeout_s: float) -> bool:
        """Queues one frame for sending.

        Args:
            frame: the encoded message.
            timeout_s: longest time to wait for room, in seconds.

        Returns:
            True once the frame is queued; this is not a receipt, and a learner that dies loses the
            frame. False if there was no learner or no room for the whole timeout; the frame was
            not sent.
        """
        ...


class Inbox(_Role, Protocol):
    """Receives the messages of all actors."""

    @property
    def endpoint(self) -> str:
        """The bound address, with the actual port where ``:*`` was asked for."""
        ...

    def receive(self, timeout_s: float) -> Envelope | None:
        """Returns the next frame; None if none arrives within `timeout_s` seconds."""
        ...


class Publisher(_Role, Protocol):
    """Publishes the learner's newest weights to every actor."""

    @property
    def endpoint(self) -> str:
        """The bound address, with the actual port where ``:*`` was asked for."""
        ...

    def publish(self, frame: bytes) -> None:
        """Sends `frame` to every subscriber and keeps it for late subscribers. Never blocks."""
        ...

    def welcome_joiners(self) -> int:
        """Re-sends the last frame if there are new subscribers. Never blocks.

        Call it every step. The re-sent frame reaches *every* subscriber, so subscribers ignore a
        version that they already have.

        Returns:
            The number of new subscriptions since the last call.
        """
        ...


class Subscriber(_Role, Protocol):
    """Receives the newest weights."""

    def latest(self, timeout_s: float) -> bytes | None:
        """Returns the newest frame not yet returned, skipping older ones.

        Call it every step: it also renews the subscription to a restarted learner.

        Args:
            timeout_s: longest time to wait for a frame, in seconds.

        Returns:
            The frame, or None on timeout. A re-sent frame is returned again.
        """
        ...
