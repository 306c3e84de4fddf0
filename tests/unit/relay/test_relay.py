"""The relay's loop, step by step: data mode, weights, back-pressure, endings."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from asyncade_proto import ports
from asyncade_proto.codec import encode, join
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent
from rigs.relay import Rig, gradients, trajectory, weights

# --- forwarded messages --------------------------------------------------------------------------


def test_weights_and_trajectories_pass_unchanged() -> None:
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


def test_an_unrequested_gradient_passes() -> None:
    """The learner decides about it, and counts its env steps."""
    rig = Rig()
    rig.publish(weights(1, "trajectories"))
    rig.step(gradients())
    assert rig.sent() == [encode(gradients())]


def test_an_unrequested_trajectory_passes() -> None:
    rig = Rig()
    rig.publish(weights(1, "gradients"))
    rig.step(trajectory())
    assert rig.sent() == [trajectory()]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not_ours"),
        (b"A3C\x63", "protocol_version"),
        (b"A3C\x02\x00", "malformed"),
        (join({"type": "trajectory", "actor_id": "a", "sequence": -1}, []), "malformed"),
        (join({"type": "trajectory", "sequence": 1}, []), "malformed"),
        (join({"type": "gradients", "actor_id": "a", "sequence": 1}, []), "malformed"),
        (encode(weights(2)), "malformed"),
    ],
)
def test_undecodable_messages_are_dropped(frame: bytes, reason: str) -> None:
    rig = Rig()
    rig.publish(weights(1, "gradients"))
    rig.step(frame, trajectory())
    assert rig.sent() == [trajectory()]
    assert rig.metric("messages_dropped_total", reason=reason) == 1


# --- weights -------------------------------------------------------------------------------------


def test_repeated_weights_are_not_published_again() -> None:
    rig = Rig()
    rig.publish(weights(5, "trajectories"))
    assert rig.newest() is not None
    for version in (5, 4):
        rig.publish(weights(version, "trajectories"))
        assert rig.newest() is None
    rig.publish(weights(1, "trajectories", run=8))  # of a new run
    assert rig.newest() is not None


def test_a_late_subscriber_gets_the_newest_weights_at_once() -> None:
    rig = Rig()
    frame = rig.publish(weights(5, "trajectories"))
    late = rig.below.subscriber()
    rig.step()
    assert late.latest(0.0) == frame
    assert rig.metric("actor_joins_total") == 2


def test_frames_other_than_weights_are_refused() -> None:
    rig = Rig()
    for junk in (b"junk", encode(gradients())):
        rig.learner.publish(junk)
        rig.step()
    assert rig.newest() is None
    assert not rig.health.ready
    assert rig.metric("weights_refused_total", reason="not_ours") == 1
    assert rig.metric("weights_refused_total", reason="malformed") == 1


# --- order and back-pressure ---------------------------------------------------------------------


def test_no_message_is_taken_before_weights_arrive() -> None:
    rig = Rig()
    rig.step(trajectory())
    assert rig.waits[-1] == (False, False)
    rig.publish(weights(1, "trajectories"))
    assert rig.sent() == [trajectory()]
    rig.step()
    assert rig.waits[-1] == (True, False)


def test_a_blocked_learner_holds_the_actors_back() -> None:
    rig = Rig(capacity=1)
    rig.publish(weights(1, "trajectories"))
    frames = [trajectory("a", number) for number in range(4)]
    rig.step(*frames)
    assert rig.waits[-1] == (False, True)
    assert rig.metric("send_timeouts_total") > 0
    newer = rig.publish(weights(2, "trajectories"))
    assert rig.newest() == newer  # weights still pass
    assert rig.metric("messages_received_total", kind="trajectory") == 2  # one sent, one in hand
    got = []
    for _ in range(8):
        got += rig.sent()
        rig.step()
    assert got == frames


def test_a_refusal_by_the_learner_ends_the_relay() -> None:
    rig = Rig()
    event = ConnectionEvent("refused", "tcp://x:1", "a wrong key")
    rig.to_learner.events = lambda: [event]  # type: ignore[method-assign]
    with pytest.raises(AccessRefusedError, match=r"a wrong key.*--learner-keys"):
        rig.step()


def test_a_refused_actor_does_not_end_the_relay() -> None:
    rig = Rig()
    event = ConnectionEvent("refused", "tcp://x:1")
    rig.from_actors.events = lambda: [event]  # type: ignore[method-assign]
    rig.step()
    assert rig.metric("connection_events_total", socket="upstream", event="refused") == 1


def test_run_steps_until_stop_is_set() -> None:
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
    rig.clock.now += 59.0
    rig.step()
    rig.clock.now += 59.0
    assert rig.health.alive()


# --- imports and ports ---------------------------------------------------------------------------


def test_the_relay_needs_neither_torch_nor_games() -> None:
    """Its image has none of these modules."""
    program = (
        "import sys\n"
        "for name in ('torch', 'safetensors', 'gymnasium', 'ale_py', 'tensorboardX'):\n"
        "    sys.modules[name] = None\n"
        "import asyncade_relay.__main__, asyncade_relay.relay, asyncade_relay.metrics\n"
        "import asyncade_runtime.transport.zmq_sockets\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_default_ports_differ_from_those_of_other_services() -> None:
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
