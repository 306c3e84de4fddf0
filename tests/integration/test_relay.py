"""Relays over real sockets: late joiners, restarts on either side, many subscribers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from prometheus_client import CollectorRegistry

from asyncade_actor.actor import Actor
from asyncade_actor.metrics import ActorMetrics
from asyncade_learner.learner import Learner
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner
from asyncade_proto.codec import encode
from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_proto.messages import Weights
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.relay import Relay
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.zmq_role import wait_for_any
from asyncade_runtime.transport.zmq_sockets import (
    EVERY_VERSION_HWM,
    ZmqInbox,
    ZmqOutbox,
    ZmqPublisher,
    ZmqSubscriber,
)
from integration.tcp_bytes import bytes_sent_from
from integration.transports import DEADLINE_S, eventually, when_free

ANY = "tcp://127.0.0.1:*"
ENVS, T = 4, 8
SETTINGS: dict[str, Any] = {
    "game": "catch",
    "precision": "float32",
    "unroll_length": T,
    "calibration_env_steps": 2 * ENVS * T,
    "passes": 1,
    "minibatch_size": ENVS * T,
}


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    yield context
    context.term()


@contextmanager
def thread(work: Callable[[threading.Event], object]) -> Iterator[None]:
    stop = threading.Event()
    running = threading.Thread(target=work, args=(stop,))
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join(DEADLINE_S)
        assert not running.is_alive()


class Ends:
    """The addresses of a learner or a relay, and what it says of itself."""

    def __init__(self, upstream: str = ANY, weights: str = ANY) -> None:
        self.upstream = upstream
        self.weights = weights
        self.registry = CollectorRegistry()
        self.up = threading.Event()

    def bound(self, inbox: ZmqInbox, publisher: ZmqPublisher) -> None:
        self.upstream, self.weights = inbox.endpoint, publisher.endpoint
        self.up.set()

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"asyncade_{name}", labels) or 0.0


@contextmanager
def binding(context: zmq.SyncContext, ends: Ends) -> Iterator[tuple[ZmqInbox, ZmqPublisher]]:
    limit = MAX_MESSAGE_BYTES
    with (
        closing(
            when_free(lambda: ZmqInbox(context, ends.upstream, max_message_bytes=limit))
        ) as inbox,
        closing(when_free(lambda: ZmqPublisher(context, ends.weights))) as publisher,
    ):
        ends.bound(inbox, publisher)
        yield inbox, publisher


@contextmanager
def connecting(
    context: zmq.SyncContext, ends: Ends, hwm: int | None = None
) -> Iterator[tuple[ZmqOutbox, ZmqSubscriber]]:
    limit = MAX_MESSAGE_BYTES
    with (
        closing(ZmqOutbox(context, ends.upstream)) as outbox,
        closing(
            ZmqSubscriber(context, ends.weights, max_message_bytes=limit, hwm=hwm)
        ) as subscriber,
    ):
        yield outbox, subscriber


@contextmanager
def relaying(
    context: zmq.SyncContext, above: Ends, below: Ends | None = None, relay_id: str = "relay"
) -> Iterator[Ends]:
    """A relay at work in a thread; with `below`, at the addresses of an earlier one."""
    ends = Ends() if below is None else Ends(below.upstream, below.weights)

    def work(stop: threading.Event) -> None:
        with (
            binding(context, ends) as (inbox, publisher),
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
                metrics=RelayMetrics(ends.registry),
                health=Health(60.0),
            ).run(stop)

    with thread(work):
        assert ends.up.wait(DEADLINE_S)
        yield ends


@contextmanager
def learning(
    context: zmq.SyncContext, run_dir: Path, at: Ends | None = None, **settings: Any
) -> Iterator[tuple[Ends, Learner]]:
    ends = Ends() if at is None else Ends(at.upstream, at.weights)
    made: list[Learner] = []

    def work(stop: threading.Event) -> None:
        with binding(context, ends) as (inbox, publisher):
            learner = make_learner(
                LearnerSettings(**SETTINGS | {"run_dir": run_dir} | settings),
                inbox=inbox,
                publisher=publisher,
                folder=RunFolder.create(run_dir),
                metrics=LearnerMetrics(ends.registry),
                health=Health(60.0),
            )
            made.append(learner)
            learner.run(stop)

    with thread(work):
        eventually(lambda: made, "a learner")
        yield ends, made[0]


@contextmanager
def playing(context: zmq.SyncContext, above: Ends, actor_id: str) -> Iterator[Ends]:
    seen = Ends()

    def work(stop: threading.Event) -> None:
        with connecting(context, above) as (outbox, subscriber):
            actor = Actor(
                actor_id=actor_id,
                envs=ENVS,
                env_threads=1,
                outbox=outbox,
                subscriber=subscriber,
                metrics=ActorMetrics(seen.registry),
                health=Health(60.0),
            )
            actor.run(stop)
            actor.close()

    with thread(work):
        yield seen


# --- training through a relay --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_actors_train_through_relays_and_directly(
    context: zmq.SyncContext, tmp_path: Path, mode: str
) -> None:
    with learning(context, tmp_path, mode=mode) as (ends, learner), ExitStack() as others:
        relays = [
            others.enter_context(relaying(context, ends, relay_id=f"relay-{n}")) for n in range(2)
        ]
        actors = [
            others.enter_context(playing(context, above, f"actor-{n}"))
            for n, above in enumerate([*relays, relays[0], ends])
        ]
        eventually(lambda: learner.progress.updates >= 10, "ten updates")
        for actor in actors:
            played = actor.metric("actor_env_steps_total")
            eventually(
                lambda actor=actor, played=played: actor.metric("actor_env_steps_total") > played,
                "everybody plays on",
            )
        # In gradient mode two relays and an actor of its own are three to the learner.
        expected = 4 if mode == "data" else 3
        eventually(lambda: ends.metric("learner_active_actors") == expected, f"{expected} actors")
        before = learner.progress.updates
        eventually(lambda: learner.progress.updates > before + 5, "no waiting after that")


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_a_relay_that_ends_is_replaced(context: zmq.SyncContext, tmp_path: Path, mode: str) -> None:
    with learning(context, tmp_path, mode=mode) as (ends, learner), ExitStack() as others:
        with relaying(context, ends) as first:
            actor = others.enter_context(playing(context, first, "actor"))
            eventually(lambda: learner.progress.updates >= 5, "updates")
        before = learner.progress.updates
        with relaying(context, ends, first, relay_id="another") as second:
            eventually(lambda: learner.progress.updates > before + 5, "updates by the same actor")
            assert second.metric("relay_active_actors") == 1
            version = learner.progress.policy_version
            eventually(lambda: actor.metric("actor_policy_version") > version, "newer weights")
            others.close()


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_relay_and_actor_outlive_the_learner(
    context: zmq.SyncContext, tmp_path: Path, mode: str
) -> None:
    with ExitStack() as others:
        with learning(context, tmp_path, mode=mode) as (ends, first):
            relay = others.enter_context(relaying(context, ends))
            others.enter_context(playing(context, relay, "actor"))
            eventually(lambda: first.progress.updates >= 5, "updates")
        before = first.progress.updates
        with learning(context, tmp_path, ends, mode=mode, resume="must") as (_, second):
            eventually(lambda: second.progress.updates > before + 5, "the same relay goes on")
            others.close()


# --- weights to many -----------------------------------------------------------------------------


def weights(version: int, size: int = 100_000) -> bytes:
    settings = LearnerSettings(game="catch")
    return encode(
        Weights(
            run=1,
            policy_version=version,
            model="m",
            assignment=settings.assignment("trajectories", 1.0),
            received={},
            safetensors=version.to_bytes(4, "little") * (size // 4),
        )
    )


def test_who_joins_late_gets_the_newest_at_once(context: zmq.SyncContext) -> None:
    learner = Ends()
    with (
        binding(context, learner) as (_, publisher),
        relaying(context, learner) as relay,
        ExitStack() as subscribers,
    ):
        eventually(lambda: publisher.welcome_joiners(), "the relay")
        for version in (1, 2):
            publisher.publish(weights(version))
            eventually(
                lambda v=version: relay.metric("relay_policy_version") == v, "weights on the way"
            )
        for _ in range(3):
            late = subscribers.enter_context(
                closing(ZmqSubscriber(context, relay.weights, max_message_bytes=2**20))
            )
            assert late.latest(DEADLINE_S) == weights(2)
        assert relay.metric("relay_weights_received_total") == 2  # nothing was asked of the learner


SUBSCRIBERS, RELAYS, VERSIONS = 256, 4, 5


def drain(publisher: ZmqPublisher, subscribers: list[zmq.SyncSocket]) -> None:
    """Until there are no repetitions on their way: those come a quarter of a second apart."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 1.0:
        publisher.welcome_joiners()
        for one in subscribers:
            if one.poll(0):
                assert one.recv() == weights(1)
                quiet_since = time.monotonic()
        time.sleep(0.01)


def all_get_every_version(
    context: zmq.SyncContext, publisher: ZmqPublisher, addresses: list[str]
) -> int:
    """Publishes versions, each after the last has come in everywhere; returns bytes sent."""
    with ExitStack() as stack:
        subscribers = []
        for number in range(SUBSCRIBERS):
            one = stack.enter_context(closing(context.socket(zmq.SUB)))
            one.set(zmq.LINGER, 0)
            one.subscribe(b"")
            one.connect(addresses[number % len(addresses)])
            subscribers.append(one)
        publisher.publish(weights(1))
        for one in subscribers:  # repeated for whoever subscribed after the broadcast
            while not one.poll(50):
                publisher.welcome_joiners()
        drain(publisher, subscribers)
        before = bytes_sent_from(publisher.endpoint)
        for version in range(2, 2 + VERSIONS):
            frame = weights(version)
            publisher.publish(frame)
            for one in subscribers:
                assert one.poll(int(DEADLINE_S * 1000)), f"version {version} did not come"
                assert one.recv() == frame
        return bytes_sent_from(publisher.endpoint) - before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the kernel's counters")
def test_256_subscribers_through_4_relays_cost_the_learner_4(context: zmq.SyncContext) -> None:
    with binding(context, Ends()) as (_, publisher):
        direct = all_get_every_version(context, publisher, [publisher.endpoint])
    learner = Ends()
    with binding(context, learner) as (_, publisher), ExitStack() as stack:
        relays = [stack.enter_context(relaying(context, learner)) for _ in range(RELAYS)]
        joined = 0
        while joined < RELAYS:
            joined += publisher.welcome_joiners()
            time.sleep(0.01)
        relayed = all_get_every_version(context, publisher, [relay.weights for relay in relays])
        for relay in relays:
            assert relay.metric("relay_policy_version") == 1 + VERSIONS
            assert relay.metric("relay_weights_received_total") == 1 + VERSIONS
    frame = len(weights(1))
    assert direct == pytest.approx(SUBSCRIBERS * VERSIONS * frame, rel=0.01)
    assert relayed == pytest.approx(RELAYS * VERSIONS * frame, rel=0.01)
    assert direct / relayed == pytest.approx(SUBSCRIBERS / RELAYS, rel=0.01)


@pytest.mark.parametrize(("hwm", "waiting"), [(EVERY_VERSION_HWM, 3), (None, 1)])
def test_a_relay_queues_weights_but_takes_the_newest(
    context: zmq.SyncContext, hwm: int | None, waiting: int
) -> None:
    """CONFLATE, which keeps one, can lose it. Too seldom for a test: so it looks at the queue."""
    ends = Ends()
    with (
        binding(context, ends) as (_, publisher),
        connecting(context, ends, hwm) as (_, subscriber),
    ):
        eventually(publisher.welcome_joiners, "the subscriber")
        for newest in (3, 6):
            for version in range(newest - 2, newest + 1):
                publisher.publish(weights(version))
            time.sleep(0.5)  # until all have come
            if newest == 3:
                queued = iter(lambda: subscriber._socket.poll(0) and subscriber._socket.recv(), 0)
                assert len(list(queued)) == waiting
            else:
                assert subscriber.latest(0.0) == weights(6)
        assert subscriber.latest(0.0) is None
