"""A relay on memory sockets; the test plays its learner and its actors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

import builders
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients, Request, Weights
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.relay import Relay
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryQueue
from asyncade_runtime.transport.roles import Peer
from builders import Clock

ME = "relay"
HERE = Peer("10.0.0.1")


SHAPES: dict[str, tuple[int, ...]] = {"policy.weight": (2, 3), "policy.bias": (3,), "scale": ()}
SAMPLES = 240  # of a learner's update, shared by the relay's actors


def gradients(
    actor_id: str = "a",
    sequence: int = 0,
    policy_version: int = 1,
    *,
    samples: int = 10,
    returns: Sequence[float] = (),
    seed: int = 0,
    **fields: Any,
) -> Gradients:
    """Returns random gradients and losses of an actor."""
    draw = np.random.default_rng([seed, samples, sequence])
    tensors = {n: np.asarray(draw.normal(size=s).astype(np.float32)) for n, s in SHAPES.items()}
    given: dict[str, Any] = {
        "actor_id": actor_id,
        "sequence": sequence,
        "policy_version": policy_version,
        "samples": samples,
        "env_steps": len(returns),
        "tensors": tensors,
        "losses": {"total": float(draw.normal()), "value": float(draw.normal())},
        "episodes": builders.episodes(*returns),
    }
    return builders.gradients(**given | fields)


def weights(policy_version: int = 1, request: Request = "gradients", **fields: Any) -> Weights:
    """Returns weights of a learner whose actors have one message in flight."""
    given = {"policy_version": policy_version, "request": request, "messages_in_flight": 1}
    return builders.weights(objective={"minibatch_size": SAMPLES}, **given | fields)


def trajectory(actor_id: str = "a", sequence: int = 0) -> bytes:
    return encode(builders.trajectory(actor_id=actor_id, sequence=sequence))


class Rig:
    """A relay, its metrics, and the other ends of its sockets."""

    def __init__(self, capacity: int = 64, **settings: Any) -> None:
        self.clock = Clock()
        above, below = MemoryBroadcast(), MemoryBroadcast()
        self.up, self.down = MemoryQueue(capacity), MemoryQueue(128)
        self.learner = above.publisher()
        self.actor = below.subscriber()
        self.below = below
        self.inbox = self.up.inbox()
        self.registry = CollectorRegistry()
        self.health = Health(60.0, clock=self.clock)
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
            clock=self.clock,
        )

    def wait(self, messages: bool, room: bool, timeout_s: float) -> None:
        assert 0 < timeout_s <= 0.25
        self.waits.append((messages, room))

    def step(self, *messages: Gradients | bytes, peer: Peer = HERE) -> None:
        """Sends messages as actors of one peer would, and steps once for each."""
        outbox = self.down.outbox(peer)
        for message in messages:
            frame = message if isinstance(message, bytes) else encode(message)
            assert outbox.send(frame, 0.0)
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
        """Returns the frames sent to the learner since the last call."""
        return [one.frame for one in iter(lambda: self.inbox.receive(0.0), None)]

    def means(self) -> list[Gradients]:
        """Returns the gradients sent to the learner since the last call."""
        messages = [decode(frame) for frame in self.sent()]
        return [message for message in messages if isinstance(message, Gradients)]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_relay_{name}", labels)
