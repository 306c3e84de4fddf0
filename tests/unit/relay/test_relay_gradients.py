"""The relay's loop in gradient mode: one actor to the learner, the learner to its actors."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from asyncade_proto import codec
from asyncade_proto.codec import decode, encode, join, split
from asyncade_proto.messages import Weights
from rigs.relay import ME, SAMPLES, Rig, gradients, weights


def test_two_actors_send_one_mean() -> None:
    rig = Rig()
    rig.publish(weights(1, received={"b": 2}))
    first = rig.newest()
    assert first is not None
    passed = decode(first)
    assert isinstance(passed, Weights)
    assert passed.received == {}  # without the learner's own actors
    assert passed.assignment.objective.minibatch_size == SAMPLES
    rig.step(gradients("a", env_steps=16, returns=[5.0]))
    rig.means()
    rig.publish(weights(2, received={ME: 1}))
    rig.step(gradients("b", 0, 2, samples=20, env_steps=16, returns=[-3.0]))
    assert rig.means() == []
    rig.step(gradients("a", 1, 2, samples=10, env_steps=8, returns=[1.0]))
    (mean,) = rig.means()
    assert (mean.actor_id, mean.sequence, mean.policy_version) == (ME, 1, 2)
    assert (mean.samples, mean.env_steps) == (30, 24)
    assert mean.episodes.returns.tolist() == [-3.0, 1.0]
    published = weights(3, received={ME: 2}, games=2, unroll_lengths={"a": 1})
    rig.publish(published)
    newest = decode(rig.newest() or b"")
    assert isinstance(newest, Weights)
    assert newest == replace(published, received={"a": 2, "b": 1})
    assert rig.metric("messages_received_total", kind="gradients") == 3
    assert rig.metric("messages_sent_total", kind="gradients") == 2
    assert rig.metric("policy_lag_versions_count") == 3
    assert rig.metric("averages_incomplete_total") == 0


def test_an_incomplete_mean_is_sent_when_patience_ends() -> None:
    rig = Rig()
    rig.publish(weights(1, messages_in_flight=2))
    rig.step(gradients("a"), gradients("b"), gradients("a", 1))
    assert [mean.samples for mean in rig.means()] == [10, 20]
    rig.publish(weights(2, received={ME: 2}))
    rig.step(gradients("a", 2, 2))
    rig.clock.now += 1.01
    rig.step()
    assert [mean.samples for mean in rig.means()] == [10]
    assert rig.metric("averages_incomplete_total") == 1
    assert rig.metric("active_actors") == 1


def test_a_stale_gradient_is_dropped_and_its_play_reported() -> None:
    rig = Rig()
    rig.publish(weights(10))
    rig.step(gradients("a", 0, 6, env_steps=16), gradients("a", 1, 7, env_steps=8))
    (mean,) = rig.means()
    assert (mean.samples, mean.env_steps, mean.policy_version) == (10, 24, 7)
    assert rig.metric("messages_dropped_total", reason="stale") == 1


def test_a_mean_too_large_for_the_wire_does_not_end_the_relay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The largest gradient fits alone, but not with the episodes of the others."""
    rig = Rig()
    rig.publish(weights(1))
    one = gradients("a", returns=[1.0, 2.0])
    frame, size = encode(one), sum(tensor.nbytes for tensor in one.tensors.values())
    with monkeypatch.context() as patch:
        patch.setattr(codec, "MAX_ARRAY_BYTES", size)
        rig.step(frame)
    assert rig.sent() == []
    assert rig.metric("messages_dropped_total", reason="limit") == 1
    rig.publish(weights(2))  # names no one: what was in flight is lost
    rig.step(gradients("a", 1, 2))
    (mean,) = rig.means()
    assert (mean.sequence, mean.samples) == (1, 10)


def test_unknown_fields_stay_in_the_weights() -> None:
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


def test_weights_too_large_with_the_relays_senders_are_refused() -> None:
    """A header at the limit of the wire must not end the relay."""
    header, arrays = split(encode(weights(1)))
    room = 192 * 2**10 - len(msgpack.packb(header)) - 40
    padding = {"padding": ["x" * 500] * 200, "more": ["y" * 500] * (room // 503 - 201)}
    rig = Rig()
    rig.publish(weights(1, messages_in_flight=500))
    name = "an actor with a long name that fills the header, number"
    rig.step(*[gradients(f"{name} {number:060d}") for number in range(60)])
    rig.newest()
    big = header | {"policy_version": 2, "received": {ME: 60}} | padding
    frame = join(big, [arrays])
    assert isinstance(decode(frame), Weights)
    rig.learner.publish(frame)
    rig.step()
    assert rig.newest() is None
    assert rig.metric("weights_refused_total", reason="limit") == 1
