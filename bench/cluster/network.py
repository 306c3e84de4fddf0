"""The socket roles on the virtual clock: links with a rate and a latency instead of TCP."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from asyncade_runtime.transport.roles import ConnectionEvent, Envelope, Peer
from bench.cluster.simulation import Process, Simulation

_QUEUED: Final = 2
"""Frames that wait for one subscriber; further ones are dropped, as at ZeroMQ's high-water mark."""


@dataclass
class Link:
    """One direction of a network card: frames pass one after the other.

    Attributes:
        simulation: its clock.
        rate: bytes per second.
    """

    simulation: Simulation
    rate: float = math.inf
    free_at: float = 0.0

    def passes(self, size: int, ready: float) -> float:
        """Returns when a frame of `size` bytes that is ready at a time has passed."""
        self.free_at = max(self.free_at, ready) + size / self.rate
        return self.free_at


class _Role:
    endpoint = "virtual"

    def events(self) -> list[ConnectionEvent]:
        return []

    def close(self) -> None:
        """Nothing to release."""


@dataclass
class Network:
    """The learner's sockets, and the links to its actors.

    Attributes:
        simulation: its clock.
        rate: of every link, in bytes per second.
        latency: one way, in seconds.
        loses: asked for every frame, whether it is lost on its way.
    """

    simulation: Simulation
    rate: float = math.inf
    latency: float = 0.0
    loses: Callable[[], bool] = lambda: False
    received: deque[Envelope] = field(default_factory=deque)
    inbox_waiting: list[Process] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)
    joined: int = 0
    open: bool = True
    sent_down: int = 0
    sent_up: int = 0

    def __post_init__(self) -> None:
        self._outboxes = 0
        self.incoming = Link(self.simulation, self.rate)
        self.outgoing = Link(self.simulation, self.rate)

    def outbox(self) -> Outbox:
        """Returns an actor's sending side."""
        self._outboxes += 1
        return Outbox(self, Link(self.simulation, self.rate), Peer(f"host-{self._outboxes}"))

    def subscriber(self) -> Subscriber:
        """Returns an actor's receiving side."""
        one = Subscriber(self, Link(self.simulation, self.rate))
        self.subscribers.append(one)
        self.joined += 1
        return one

    def deliver(self, frame: bytes, peer: Peer) -> None:
        """Hands a frame to the learner, if there is one."""
        if self.open:
            self.received.append(Envelope(frame, peer))
            self.simulation.wake(self.inbox_waiting)


@dataclass
class Outbox(_Role):
    """An actor's frames to the learner."""

    network: Network
    link: Link
    peer: Peer

    def send(self, frame: bytes, timeout_s: float) -> bool:
        """Sends a frame; False if no learner is connected for the whole timeout."""
        network, simulation = self.network, self.network.simulation
        if not network.open:
            simulation.wait([], timeout_s)
            if not network.open:
                return False
        network.sent_up += len(frame)
        passed = self.link.passes(len(frame), simulation.now) + network.latency
        # The frame streams through both cards, so it pays for the slower one only.
        arrival = max(passed, network.incoming.passes(len(frame), simulation.now + network.latency))
        if not network.loses():
            simulation.at(arrival, lambda: network.deliver(frame, self.peer))
        return True


@dataclass
class Inbox(_Role):
    """The learner's source of frames."""

    network: Network

    def receive(self, timeout_s: float) -> Envelope | None:
        """Returns the next frame; None if none arrives within the time."""
        network = self.network
        if not network.received:
            network.simulation.wait(network.inbox_waiting, timeout_s)
        return network.received.popleft() if network.received else None


@dataclass
class Publisher(_Role):
    """The learner's weights to all subscribers."""

    network: Network
    last: bytes | None = None

    def publish(self, frame: bytes) -> None:
        """Sends a frame to every subscriber, one after the other through the learner's link."""
        self.last = frame
        for subscriber in self.network.subscribers:
            self._send(subscriber, frame)

    def welcome_joiners(self) -> int:
        """Sends the last frame again if there are new subscribers; returns their number."""
        joined, self.network.joined = self.network.joined, 0
        if joined and self.last is not None:
            self.publish(self.last)
        return joined

    def _send(self, subscriber: Subscriber, frame: bytes) -> None:
        network, simulation = self.network, self.network.simulation
        if subscriber.queued >= _QUEUED:
            return
        network.sent_down += len(frame)
        subscriber.queued += 1
        passed = network.outgoing.passes(len(frame), simulation.now) + network.latency
        arrival = max(passed, subscriber.link.passes(len(frame), simulation.now + network.latency))
        lost = network.loses()
        simulation.at(arrival, lambda: subscriber.deliver(None if lost else frame))


@dataclass(eq=False)
class Subscriber(_Role):
    """An actor's newest weights."""

    network: Network
    link: Link
    newest: bytes | None = None
    queued: int = 0
    waiting: list[Process] = field(default_factory=list)

    def deliver(self, frame: bytes | None) -> None:
        """Replaces older weights that nobody has taken; None if they are lost on the way."""
        self.queued -= 1
        if frame is None:
            return
        self.newest = frame
        self.network.simulation.wake(self.waiting)

    def latest(self, timeout_s: float) -> bytes | None:
        """Returns the newest frame not yet returned; None if there is none within the time."""
        if self.newest is None and timeout_s > 0:
            self.network.simulation.wait(self.waiting, timeout_s)
        frame, self.newest = self.newest, None
        return frame

    def close(self) -> None:
        """Ends the subscription."""
        if self in self.network.subscribers:
            self.network.subscribers.remove(self)
