"""The relay's loop, one step at a time, between a learner and actors that are these tests."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from asyncade_proto import ports
from asyncade_proto.codec import decode, encode, join, split
from asyncade_proto.messages import Episodes, Gradients, Trajectory, Weights
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.relay import Relay
from asyncade_relay.settings import RelaySettings
from asyncade_rl.schedule import SMALLEST_SHARE
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.memory import MemoryBroadcast, MemoryQueue
from asyncade_runtime.roles import AccessRefusedError, ConnectionEvent

Make = Callable[..., Gradients]
MakeWeights = Callable[..., Weights]
ME = "relay"
SAMPLES = 240


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

    def wait(self, *, messages: bool, room: bool, timeout_s: float) -> None:
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


# --- data mode: through it as through a pipe -----------------------------------------------------


def test_weights_and_trajectories_pass_unchanged(weights: MakeWeights) -> None:
    rig = Rig()
    assert not rig.health.ready
    assert rig.health.waiting_for == "weights from the learner"
    frame = rig.publish(weights(1, "trajectories", received={"a": 3, "z": 1}))
    assert rig.newest() == frame
    assert rig.health.ready
    frames = [trajectory("a", 3), trajectory("b", 0), trajectory("a", 5)]
    rig.step(*frames)
    assert rig.sent() == frames
    assert rig.metric("messages_received_total", kind="trajectory") == 3
    assert rig.metric("messages_sent_total", kind="trajectory") == 3
    assert rig.metric("sent_bytes_total") == sum(map(len, frames))
    assert rig.metric("received_bytes_total") == sum(map(len, frames))
    assert rig.metric("messages_lost_total") == 1
    assert rig.metric("active_actors") == 2
    assert rig.metric("weights_received_total") == 1
    assert rig.metric("weights_published_bytes_total") == len(frame)
    assert rig.metric("policy_version") == 1


def test_a_gradient_that_is_not_asked_for_passes_too(gradients: Make, weights: MakeWeights) -> None:
    """The learner judges it, and counts what was played for it."""
    rig = Rig()
    rig.publish(weights(1, "trajectories"))
    rig.step(gradients())
    assert rig.sent() == [encode(gradients())]


def test_a_trajectory_passes_when_gradients_are_asked_for(weights: MakeWeights) -> None:
    rig = Rig()
    rig.publish(weights(1, "gradients"))
    rig.step(trajectory())
    assert rig.sent() == [trajectory()]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not_ours"),
        (b"A3C\x63", "protocol_version"),
        (b"A3C\x01\x00", "malformed"),
        (join({"type": "trajectory", "actor_id": "a", "sequence": -1}, []), "malformed"),
        (join({"type": "trajectory", "sequence": 1}, []), "malformed"),
        (join({"type": "gradients", "actor_id": "a", "sequence": 1}, []), "malformed"),
    ],
)
def test_what_is_no_message_ends_here(weights: MakeWeights, frame: bytes, reason: str) -> None:
    rig = Rig()
    rig.publish(weights(1, "gradients"))
    rig.step(frame, trajectory())
    assert rig.sent() == [trajectory()]
    assert rig.metric("messages_dropped_total", reason=reason) == 1


def test_weights_from_an_actor_end_here(weights: MakeWeights) -> None:
    rig = Rig()
    rig.publish(weights(1, "trajectories"))
    rig.step(encode(weights(2)))
    assert rig.sent() == []
    assert rig.metric("messages_dropped_total", reason="malformed") == 1


# --- gradient mode -------------------------------------------------------------------------------


def test_two_actors_become_one(gradients: Make, weights: MakeWeights) -> None:
    rig = Rig()
    rig.publish(weights(1, received={"b": 2}))
    first = rig.newest()
    assert first is not None
    told = decode(first)
    assert isinstance(told, Weights)
    assert told.received == {}  # the learner's own actors are of no concern here
    assert told.assignment.objective.minibatch_size == SAMPLES
    rig.step(gradients("a", env_steps=16, returns=[5.0]))
    rig.averages()
    rig.publish(weights(2, received={ME: 1}))
    rig.step(gradients("b", 0, 2, samples=30, env_steps=16, returns=[-3.0]))
    assert rig.averages() == []
    rig.step(gradients("a", 1, 2, samples=10, returns=[1.0]))
    (mean,) = rig.averages()
    assert (mean.actor_id, mean.sequence, mean.policy_version) == (ME, 1, 2)
    assert (mean.samples, mean.env_steps) == (40, 16)
    assert mean.episodes.returns.tolist() == [-3.0, 1.0]
    published = weights(3, received={ME: 2})
    rig.publish(published)
    newest = decode(rig.newest() or b"")
    assert isinstance(newest, Weights)
    share = replace(published.assignment.objective, minibatch_size=SAMPLES // 2)
    assert newest == replace(
        published,
        received={"a": 2, "b": 1},
        assignment=replace(published.assignment, objective=share),
    )
    assert rig.metric("messages_received_total", kind="gradients") == 3
    assert rig.metric("messages_sent_total", kind="gradients") == 2
    assert rig.metric("policy_lag_versions_count") == 3
    assert rig.metric("averages_incomplete_total") == 0


def test_the_share_does_not_fall_below_what_is_worth_sending(
    gradients: Make, weights: MakeWeights
) -> None:
    rig = Rig()
    rig.publish(weights(1, messages_in_flight=1000))
    rig.step(*[gradients(str(number)) for number in range(100)])
    rig.publish(weights(2))
    newest = decode(rig.newest() or b"")
    assert isinstance(newest, Weights)
    assert newest.assignment.objective.minibatch_size == SMALLEST_SHARE


def test_an_incomplete_average_goes_up_in_time(gradients: Make, weights: MakeWeights) -> None:
    rig = Rig()
    rig.publish(weights(1, messages_in_flight=2))
    rig.step(gradients("a"), gradients("b"), gradients("a", 1))
    assert [mean.samples for mean in rig.averages()] == [10, 20]
    rig.publish(weights(2, received={ME: 2}))
    rig.step(gradients("a", 2, 2))
    rig.now += 1.01
    rig.step()
    assert [mean.samples for mean in rig.averages()] == [10]
    assert rig.metric("averages_incomplete_total") == 1
    assert rig.metric("active_actors") == 1


def test_a_stale_gradient_is_dropped_and_its_play_told(
    gradients: Make, weights: MakeWeights
) -> None:
    rig = Rig()
    rig.publish(weights(10))
    rig.step(gradients("a", 0, 6, env_steps=16), gradients("a", 1, 7, env_steps=8))
    (mean,) = rig.averages()
    assert (mean.samples, mean.env_steps, mean.policy_version) == (10, 24, 7)
    assert rig.metric("messages_dropped_total", reason="stale") == 1


def test_fields_of_a_later_release_stay_in_the_weights(weights: MakeWeights) -> None:
    header, arrays = split(encode(weights(1)))
    later = header | {"hint": [1, 2]}
    later["assignment"] = header["assignment"] | {"more": "text"}
    rig = Rig()
    rig.learner.publish(join(later, [arrays]))
    rig.step()
    passed, same = split(rig.newest() or b"")
    assert passed["hint"] == [1, 2]
    assert passed["assignment"]["more"] == "text"
    assert bytes(same) == bytes(arrays)


# --- weights -------------------------------------------------------------------------------------


def test_a_repetition_is_not_passed_on_again(weights: MakeWeights) -> None:
    rig = Rig()
    rig.publish(weights(5, "trajectories"))
    assert rig.newest() is not None
    for version in (5, 4):
        rig.publish(weights(version, "trajectories"))
        assert rig.newest() is None
    rig.publish(weights(1, "trajectories", run=8))  # the learner was started anew
    assert rig.newest() is not None


def test_who_joins_late_gets_the_newest_at_once(weights: MakeWeights) -> None:
    rig = Rig()
    frame = rig.publish(weights(5, "trajectories"))
    late = rig.below.subscriber()
    rig.step()
    assert late.latest(0.0) == frame
    assert rig.metric("actor_joins_total") == 2


def test_what_is_no_weights_is_refused(gradients: Make, weights: MakeWeights) -> None:
    rig = Rig()
    for junk in (b"junk", encode(gradients())):
        rig.learner.publish(junk)
        rig.step()
    assert rig.newest() is None
    assert not rig.health.ready
    assert rig.metric("weights_refused_total", reason="not_ours") == 1
    assert rig.metric("weights_refused_total", reason="malformed") == 1


# --- order and back-pressure ---------------------------------------------------------------------


def test_no_message_is_taken_before_there_are_weights(weights: MakeWeights) -> None:
    rig = Rig()
    rig.step(trajectory())
    assert rig.waits[-1] == (False, False)
    rig.publish(weights(1, "trajectories"))
    assert rig.sent() == [trajectory()]
    rig.step()
    assert rig.waits[-1] == (True, False)


def test_while_the_learner_takes_nothing_actors_are_held_back(weights: MakeWeights) -> None:
    rig = Rig(capacity=1)
    rig.publish(weights(1, "trajectories"))
    frames = [trajectory("a", number) for number in range(4)]
    rig.step(*frames)
    assert rig.waits[-1] == (False, True)
    assert rig.metric("send_timeouts_total") > 0
    newer = rig.publish(weights(2, "trajectories"))
    assert rig.newest() == newer  # weights go on
    assert rig.metric("messages_received_total", kind="trajectory") == 2  # one sent, one in hand
    got = []
    for _ in range(8):
        got += rig.sent()
        rig.step()
    assert got == frames


def test_a_refusal_of_the_learner_ends_it() -> None:
    rig = Rig()
    event = ConnectionEvent("refused", "tcp://x:1", "a wrong key")
    rig.to_learner.events = lambda: [event]  # type: ignore[method-assign]
    with pytest.raises(AccessRefusedError, match=r"a wrong key.*--learner-keys"):
        rig.step()


def test_a_refused_actor_does_not_end_it() -> None:
    rig = Rig()
    event = ConnectionEvent("refused", "tcp://x:1")
    rig.from_actors.events = lambda: [event]  # type: ignore[method-assign]
    rig.step()
    assert rig.metric("connection_events_total", socket="upstream", event="refused") == 1


def test_run_is_a_loop_over_step() -> None:
    rig, stop = Rig(), threading.Event()
    steps: list[int] = []

    def step() -> None:
        steps.append(len(steps))
        if len(steps) == 3:
            stop.set()

    rig.relay.step = step  # type: ignore[method-assign]
    rig.relay.run(stop)
    assert steps == [0, 1, 2]


def test_every_step_is_a_sign_of_life() -> None:
    rig = Rig()
    rig.now += 59.0
    rig.step()
    rig.now += 59.0
    assert rig.health.alive()


# --- what it is made of --------------------------------------------------------------------------


def test_it_needs_neither_torch_nor_games() -> None:
    """Its image has none: the modules below are as good as not installed."""
    program = (
        "import sys\n"
        "for name in ('torch', 'safetensors', 'gymnasium', 'ale_py', 'tensorboardX'):\n"
        "    sys.modules[name] = None\n"
        "import asyncade_relay.__main__, asyncade_relay.relay, asyncade_relay.metrics\n"
        "import asyncade_runtime.sockets\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_ports_are_where_nothing_else_is() -> None:
    settings = RelaySettings()
    addresses = (
        settings.upstream_address,
        settings.weights_address,
        settings.learner_upstream_address,
        settings.learner_weights_address,
    )
    assert [int(a.rpartition(":")[2]) for a in addresses] == [5557, 5558, 5555, 5556]
    assert settings.metrics_port == 9103
    numbers = [value for name, value in vars(ports).items() if name.isupper()]
    assert len(set(numbers)) == len(numbers)


def test_a_header_as_large_as_the_wire_allows_is_no_crash(weights: MakeWeights) -> None:
    """Weights that fit only without the relay's names in them are refused, not fatal."""
    header, arrays = split(encode(weights(1)))
    room = 192 * 2**10 - len(msgpack.packb(header)) - 40
    padding = {"padding": ["x" * 500] * 200, "more": ["y" * 500] * (room // 503 - 201)}
    rig = Rig()
    rig.publish(weights(1, messages_in_flight=500))
    rig.step(*[gradient_of(number) for number in range(60)])
    rig.newest()
    big = header | {"policy_version": 2, "received": {ME: 60}} | padding
    frame = join(big, [arrays])
    assert isinstance(decode(frame), Weights)
    rig.learner.publish(frame)
    rig.step()
    assert rig.newest() is None
    assert rig.metric("weights_refused_total", reason="limit") == 1


def gradient_of(number: int) -> bytes:
    return encode(
        Gradients(
            actor_id=f"an actor with a long name that fills the header, number {number:060d}",
            sequence=0,
            policy_version=1,
            model="0123456789abcdef",
            samples=1,
            env_steps=0,
            tensors={"w": np.zeros(1, np.float32)},
            losses={},
            episodes=Episodes(returns=np.zeros(0, np.float32), lengths=np.zeros(0, np.int32)),
        )
    )
