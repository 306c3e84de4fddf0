"""Relays over real sockets: late joiners, restarts on either side, many subscribers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import zmq

import builders
from asyncade_proto.codec import encode
from asyncade_runtime.transport.zmq_sockets import EVERY_VERSION_HWM, ZmqPublisher, ZmqSubscriber
from integration.services import Service, binding, connecting, learning, playing, relaying
from integration.tcp_bytes import bytes_sent_from
from integration.transports import DEADLINE_S, eventually


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    yield context
    context.term()


# --- training through a relay --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_actors_train_through_relays_and_directly(
    context: zmq.SyncContext, tmp_path: Path, mode: str
) -> None:
    with learning(context, tmp_path, mode=mode) as (service, learner), ExitStack() as others:
        relays = [
            others.enter_context(relaying(context, service, relay_id=f"relay-{n}"))
            for n in range(2)
        ]
        actors = [
            others.enter_context(playing(context, above, f"actor-{n}"))
            for n, above in enumerate([*relays, relays[0], service])
        ]
        eventually(lambda: learner.progress.updates >= 10, "ten updates")
        for actor in actors:
            played = actor.metric("actor_env_steps_total")
            eventually(
                lambda actor=actor, played=played: actor.metric("actor_env_steps_total") > played,
                "more play by every actor",
            )
        # In gradient mode the learner sees two relays and one actor.
        expected = 4 if mode == "data" else 3
        eventually(lambda: service.metric("learner_active_actors") == expected, "all are active")
        before = learner.progress.updates
        eventually(lambda: learner.progress.updates > before + 5, "more updates")


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_a_relay_that_ends_is_replaced(context: zmq.SyncContext, tmp_path: Path, mode: str) -> None:
    with learning(context, tmp_path, mode=mode) as (service, learner), ExitStack() as others:
        with relaying(context, service) as first:
            actor = others.enter_context(playing(context, first, "actor"))
            eventually(lambda: learner.progress.updates >= 5, "updates")
        before = learner.progress.updates
        with relaying(context, service, first, relay_id="another") as second:
            eventually(lambda: learner.progress.updates > before + 5, "updates with the same actor")
            assert second.metric("relay_active_actors") == 1
            version = learner.progress.policy_version
            eventually(lambda: actor.metric("actor_policy_version") > version, "newer weights")
            others.close()


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_relay_and_actor_outlive_the_learner(
    context: zmq.SyncContext, tmp_path: Path, mode: str
) -> None:
    with ExitStack() as others:
        with learning(context, tmp_path, mode=mode) as (service, first):
            relay = others.enter_context(relaying(context, service))
            others.enter_context(playing(context, relay, "actor"))
            eventually(lambda: first.progress.updates >= 5, "updates")
        before = first.progress.updates
        with learning(context, tmp_path, service, mode=mode, resume="must") as (_, second):
            eventually(lambda: second.progress.updates > before + 5, "updates by the same relay")
            others.close()


# --- weights to many -----------------------------------------------------------------------------


def weights(version: int, size: int = 100_000) -> bytes:
    content = version.to_bytes(4, "little") * (size // 4)
    return encode(builders.weights(policy_version=version, safetensors=content))


def test_a_late_subscriber_gets_the_newest_weights_at_once(context: zmq.SyncContext) -> None:
    learner = Service()
    with (
        binding(context, learner) as (_, publisher),
        relaying(context, learner) as relay,
        ExitStack() as subscribers,
    ):
        eventually(lambda: publisher.welcome_joiners(), "the relay")
        for version in (1, 2):
            publisher.publish(weights(version))
            eventually(
                lambda v=version: relay.metric("relay_policy_version") == v, "weights at the relay"
            )
        for _ in range(3):
            late = subscribers.enter_context(
                closing(ZmqSubscriber(context, relay.weights, max_message_bytes=2**20))
            )
            assert late.latest(DEADLINE_S) == weights(2)
        assert relay.metric("relay_weights_received_total") == 2  # the learner sent none again


SUBSCRIBERS, RELAYS, VERSIONS = 256, 4, 5


def drain(publisher: ZmqPublisher, subscribers: list[zmq.SyncSocket]) -> None:
    """Receives until no repetition is in flight: they come a quarter of a second apart."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 1.0:
        publisher.welcome_joiners()
        for one in subscribers:
            if one.poll(0):
                assert one.recv() == weights(1)
                quiet_since = time.monotonic()
        time.sleep(0.01)


def bytes_of_all_versions(
    context: zmq.SyncContext, publisher: ZmqPublisher, addresses: list[str]
) -> int:
    """Publishes versions, each once all have the one before; returns the bytes sent."""
    with ExitStack() as stack:
        subscribers = []
        for number in range(SUBSCRIBERS):
            one = stack.enter_context(closing(context.socket(zmq.SUB)))
            one.set(zmq.LINGER, 0)
            one.subscribe(b"")
            one.connect(addresses[number % len(addresses)])
            subscribers.append(one)
        publisher.publish(weights(1))
        for one in subscribers:  # sent again to late subscribers
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
def test_256_subscribers_through_4_relays_cost_as_much_as_4(
    context: zmq.SyncContext,
) -> None:
    with binding(context, Service()) as (_, publisher):
        direct = bytes_of_all_versions(context, publisher, [publisher.endpoint])
    learner = Service()
    with binding(context, learner) as (_, publisher), ExitStack() as stack:
        relays = [stack.enter_context(relaying(context, learner)) for _ in range(RELAYS)]
        joined = 0
        while joined < RELAYS:
            joined += publisher.welcome_joiners()
            time.sleep(0.01)
        relayed = bytes_of_all_versions(context, publisher, [relay.weights for relay in relays])
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
    """CONFLATE keeps one message and can lose it, too rarely to be seen: check the queue."""
    service = Service()
    with (
        binding(context, service) as (_, publisher),
        connecting(context, service, hwm) as (_, subscriber),
    ):
        eventually(publisher.welcome_joiners, "the subscriber")
        for newest in (3, 6):
            for version in range(newest - 2, newest + 1):
                publisher.publish(weights(version))
            time.sleep(0.5)  # until all have arrived
            if newest == 3:
                queued = iter(lambda: subscriber._socket.poll(0) and subscriber._socket.recv(), 0)
                assert len(list(queued)) == waiting
            else:
                assert subscriber.latest(0.0) == weights(6)
        assert subscriber.latest(0.0) is None
