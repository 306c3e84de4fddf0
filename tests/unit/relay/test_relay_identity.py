"""A relay binds the ids of its own actors, and shuts out those that offend."""

from __future__ import annotations

import pytest

from asyncade_proto.codec import encode, join, split
from asyncade_proto.messages import Request
from asyncade_runtime.transport.roles import Peer
from rigs.relay import HERE, Rig, gradients, trajectory, weights

THERE = Peer("10.0.0.2")


@pytest.mark.parametrize("request_", ["trajectories", "gradients"])
def test_an_id_of_another_actor_is_neither_forwarded_nor_averaged(request_: Request) -> None:
    rig = Rig()
    rig.publish(weights(1, request_))
    forward = request_ == "trajectories"
    make = trajectory if forward else lambda actor, number: encode(gradients(actor, number))
    rig.step(make("a", 0))
    rig.step(make("a", 1), peer=THERE)
    rig.step(make("a", 0))  # a replay
    rig.step(make("a", 2**53 - 1))
    for reason in ("identity", "replay", "sequence"):
        assert rig.metric("messages_dropped_total", reason=reason) == 1
    assert len(rig.sent()) == 1
    assert rig.metric("messages_lost_total") == 0


def test_a_hundred_ids_of_one_actor_are_bounded() -> None:
    rig = Rig(actors_per_peer=4)
    rig.publish(weights(1, "trajectories"))
    for number in range(100):
        rig.step(trajectory(f"fake-{number}", 0))
    rig.step(trajectory("honest", 0), peer=THERE)
    assert rig.metric("messages_dropped_total", reason="crowded") == 96
    assert len(rig.sent()) == 5


def test_a_peer_that_sends_junk_is_shut_out_before_its_frames_are_read() -> None:
    rig = Rig()
    rig.publish(weights(1, "trajectories"))
    rig.step(*[b"junk"] * 40)
    rig.step(trajectory("a", 0))
    assert rig.metric("messages_dropped_total", reason="not_ours") == 17
    assert rig.metric("messages_dropped_total", reason="shut_out") == 24
    assert rig.metric("shut_out", who="peer") == 1
    assert rig.sent() == []
    rig.step(trajectory("b", 0), peer=THERE)
    assert len(rig.sent()) == 1
    rig.clock.now += 600
    rig.step()
    assert rig.metric("shut_out", who="peer") == 0
    rig.step(trajectory("a", 1), peer=HERE)
    assert len(rig.sent()) == 1


def test_a_frame_that_the_learner_could_not_attribute_is_not_forwarded() -> None:
    """The learner would have to blame the relay for it."""
    rig = Rig()
    rig.publish(weights(1, "trajectories"))
    header, arrays = split(trajectory())
    del header["policy_version"]
    rig.step(join(header, [arrays]))
    assert rig.metric("messages_dropped_total", reason="malformed") == 1
    assert rig.sent() == []
