"""Learner, relay and actor at work in threads of one process, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import zmq
from prometheus_client import CollectorRegistry

from asyncade_learner.learner import Learner
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.relay import Relay
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.zmq_role import wait_for_any
from asyncade_runtime.transport.zmq_sockets import (
    EVERY_VERSION_HWM,
    ZmqInbox,
    ZmqOutbox,
    ZmqPublisher,
    ZmqSubscriber,
)
from integration.transports import DEADLINE_S, when_free
from rigs.actor import make_actor
from rigs.learner import make_learner

ANY = "tcp://127.0.0.1:*"
ENVS, T = 4, 8
SETTINGS: dict[str, Any] = {
    "game": "catch",
    "precision": "float32",
    "unroll_length": T,
    "calibration_env_steps": 2 * ENVS * T,
    "passes": 1,
    "minibatch_size": ENVS * T,
    "actors_behind_relay": 2,
}


class Service:
    """A service's addresses, health and metrics.

    Args:
        at: a service whose addresses this one takes over.
    """

    def __init__(self, at: Service | None = None) -> None:
        self.upstream, self.weights = (at.upstream, at.weights) if at else (ANY, ANY)
        self.registry = CollectorRegistry()
        self.health = Health(60.0)
        self.up = threading.Event()

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"asyncade_{name}", labels) or 0.0


@contextmanager
def thread(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Runs `work` in a thread with an event that is set at the end."""
    stop = threading.Event()
    running = threading.Thread(target=work, args=(stop,))
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join(DEADLINE_S)
        assert not running.is_alive()


@contextmanager
def binding(context: zmq.SyncContext, service: Service) -> Iterator[tuple[ZmqInbox, ZmqPublisher]]:
    """Binds a service's sockets and notes their addresses."""
    with (
        closing(when_free(lambda: ZmqInbox(context, service.upstream))) as upstream,
        closing(when_free(lambda: ZmqPublisher(context, service.weights))) as publisher,
    ):
        service.upstream, service.weights = upstream.endpoint, publisher.endpoint
        service.up.set()
        yield upstream, publisher


@contextmanager
def connecting(
    context: zmq.SyncContext, above: Service, hwm: int | None = None
) -> Iterator[tuple[ZmqOutbox, ZmqSubscriber]]:
    """Connects to the service above."""
    with (
        closing(ZmqOutbox(context, above.upstream)) as outbox,
        closing(ZmqSubscriber(context, above.weights, hwm=hwm)) as subscriber,
    ):
        yield outbox, subscriber


@contextmanager
def learning(
    context: zmq.SyncContext, run_dir: Path, at: Service | None = None, **settings: Any
) -> Iterator[tuple[Service, Learner]]:
    """Runs a learner."""
    service, made = Service(at), list[Learner]()
    ready = threading.Event()

    def work(stop: threading.Event) -> None:
        with binding(context, service) as (inbox, publisher):
            learner = make_learner(
                SETTINGS | settings, run_dir, inbox, publisher, service.registry, service.health
            )
            made.append(learner)
            ready.set()
            learner.run(stop)

    with thread(work):
        assert ready.wait(DEADLINE_S)
        yield service, made[0]


@contextmanager
def relaying(
    context: zmq.SyncContext, above: Service, at: Service | None = None, relay_id: str = "relay"
) -> Iterator[Service]:
    """Runs a relay."""
    service = Service(at)

    def work(stop: threading.Event) -> None:
        with (
            binding(context, service) as (inbox, publisher),
            connecting(context, above, EVERY_VERSION_HWM) as (outbox, subscriber),
        ):

            def wait(messages: bool, room: bool, timeout_s: float) -> None:
                readable = [subscriber, publisher, *([inbox] if messages else [])]
                wait_for_any(readable, [outbox] if room else [], timeout_s)

            Relay(
                relay_id,
                RelaySettings(),
                subscriber=subscriber,
                publisher=publisher,
                inbox=inbox,
                outbox=outbox,
                wait=wait,
                metrics=RelayMetrics(service.registry),
                health=service.health,
            ).run(stop)

    with thread(work):
        assert service.up.wait(DEADLINE_S)
        yield service


@contextmanager
def playing(context: zmq.SyncContext, above: Service, actor_id: str) -> Iterator[Service]:
    """Runs an actor."""
    service = Service()

    def work(stop: threading.Event) -> None:
        with connecting(context, above) as (outbox, subscriber):
            options = {"actor_id": actor_id, "envs": ENVS}
            actor = make_actor(outbox, subscriber, service.registry, service.health, **options)
            actor.run(stop)
            actor.close()

    with thread(work):
        yield service
