"""An actor on memory sockets; the test plays the learner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from asyncade_actor.actor import Actor
from asyncade_actor.metrics import ActorMetrics
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Trajectory, Upstream
from asyncade_rl.network import ActorCritic, make_network
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryQueue
from asyncade_runtime.transport.roles import Outbox, Subscriber
from builders import Clock
from rigs.play import Arcade, weights_of

ME = "me"
E = 2


def make_actor(
    outbox: Outbox,
    subscriber: Subscriber,
    registry: CollectorRegistry | None = None,
    health: Health | None = None,
    **options: Any,
) -> Actor:
    """Builds an actor with E environments; `options` are those of `Actor`."""
    return Actor(
        outbox=outbox,
        subscriber=subscriber,
        **{
            "actor_id": ME,
            "envs": E,
            "env_threads": 1,
            "metrics": ActorMetrics(registry or CollectorRegistry()),
            "health": health or Health(60.0),
        }
        | options,
    )


class Rig:
    """An actor, its environments, its metrics and the learner's end of its sockets."""

    def __init__(self, capacity: int = 100, **options: Any) -> None:
        self.queue, broadcast = MemoryQueue(capacity), MemoryBroadcast()
        self.inbox, self.outbox = self.queue.inbox(), self.queue.outbox()
        self.publisher, self.subscriber = broadcast.publisher(), broadcast.subscriber()
        self.registry, self.clock = CollectorRegistry(), Clock()
        self.metrics = ActorMetrics(self.registry)
        self.health = Health(60.0, clock=self.clock)
        self.arcade = Arcade()
        self.network = make_network(3, "small", seed=0)
        own: dict[str, Any] = {"metrics": self.metrics, "make_environments": self.arcade}
        self.actor = make_actor(
            self.outbox, self.subscriber, health=self.health, **own | {"env_threads": 3} | options
        )

    def publish(
        self,
        version: int,
        received: dict[str, int] | None = None,
        network: ActorCritic | None = None,
        **fields: Any,
    ) -> None:
        """Publishes weights; `fields` are those of `builders.weights`."""
        plain = {"run": 1, "policy_version": version, "received": received or {}}
        weights = weights_of(network or self.network, **plain | {"published_at": None} | fields)
        self.publisher.publish(encode(weights))

    def steps(self, count: int = 5) -> list[Upstream]:
        """Steps the actor and returns the messages it sent."""
        for _ in range(count):
            self.actor.step()
        return self.sent()

    def sent(self) -> list[Upstream]:
        """Returns the messages sent since the last call."""
        return [decode(one.frame) for one in iter(lambda: self.inbox.receive(0), None)]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_actor_{name}", labels)


def sequences(messages: Iterable[Upstream]) -> list[int]:
    return [message.sequence for message in messages]


def follows(one: Trajectory, other: Trajectory) -> bool:
    """True if `other` begins with the last frame of `one`."""
    return np.array_equal(one.frames[:, -1], other.frames[:, 3])
