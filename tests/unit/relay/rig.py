"""A relay between a learner and actors that are a test, and what the relay sends."""

from __future__ import annotations

from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Episodes, Gradients, Trajectory, Weights
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.relay import Relay
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryQueue

ME = "relay"


def trajectory(actor_id: str = "a", sequence: int = 0) -> bytes:
    """What an actor sends in data mode: nothing in it but the header is read by a relay."""
    return encode(
        Trajectory(
            actor_id=actor_id,
            sequence=sequence,
            policy_version=1,
            model="m",
            frames=np.arange(2 * 7 * 4, dtype=np.uint8).reshape(2, 7, 2, 2),
            actions=np.zeros((3, 2), np.uint8),
            behaviour_log_probs=np.zeros((3, 2), np.float32),
            rewards=np.zeros((3, 2), np.float32),
            ends=np.zeros((3, 2), np.uint8),
            bootstrap_values=np.zeros(0, np.float32),
            episodes=Episodes(returns=np.zeros(0, np.float32), lengths=np.zeros(0, np.int32)),
        )
    )


class Rig:
    """A relay, and what the learner, an actor and Prometheus see of it."""

    def __init__(self, capacity: int = 64, **settings: Any) -> None:
        self.now = 1000.0
        above, below = MemoryBroadcast(), MemoryBroadcast()
        self.up, self.down = MemoryQueue(capacity), MemoryQueue(128)
        self.learner = above.publisher()
        self.actor = below.subscriber()
        self.below = below
        self.inbox = self.up.inbox()
        self.registry = CollectorRegistry()
        self.health = Health(60.0, clock=lambda: self.now)
        self.waits: list[tuple[bool, bool]] = []
        self.from_actors, self.to_learner = self.down.inbox(), self.up.outbox()
        self.relay = Relay(
            ME,
            RelaySettings(**{"patience_seconds": 1.0, "max_policy_lag": 3} | settings),
            subscriber=above.subscriber(),
            publisher=below.publisher(),
            inbox=self.from_actors,
            outbox=self.to_learner,
            wait=self.wait,
            metrics=RelayMetrics(self.registry),
            health=self.health,
            clock=lambda: self.now,
        )
        self._outbox = self.down.outbox()

    def wait(self, messages: bool, room: bool, timeout_s: float) -> None:
        assert 0 < timeout_s <= 0.25
        self.waits.append((messages, room))

    def step(self, *messages: Gradients | bytes) -> None:
        """Sends the messages as actors would, and steps as often as it takes to take them in."""
        for message in messages:
            frame = message if isinstance(message, bytes) else encode(message)
            assert self._outbox.send(frame, 0.0)
        for _ in range(max(1, len(messages))):
            self.relay.step()

    def publish(self, weights: Weights) -> bytes:
        frame = encode(weights)
        self.learner.publish(frame)
        self.relay.step()
        return frame

    def newest(self) -> bytes | None:
        return self.actor.latest(0.0)

    def sent(self) -> list[bytes]:
        """What has come to the learner since this was asked last."""
        return list(iter(lambda: self.inbox.receive(0.0), None))

    def averages(self) -> list[Gradients]:
        messages = [decode(frame) for frame in self.sent()]
        return [message for message in messages if isinstance(message, Gradients)]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_relay_{name}", labels)
