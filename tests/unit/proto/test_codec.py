"""Messages survive encoding and decoding; arbitrary bytes raise nothing but DecodeError."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from asyncade_proto.codec import decode, encode
from asyncade_proto.errors import DECODE_REASONS, DecodeError
from asyncade_proto.messages import (
    REQUESTS,
    Assignment,
    Episodes,
    Gradients,
    Message,
    Objective,
    Trajectory,
    Weights,
)
from rigs.wire import FRAMES, MESSAGES, Header, forged, reason_of, same, split, with_header

FIXED = settings(derandomize=True, deadline=None, max_examples=100)

# --- round trips -------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30)
COUNT = st.integers(0, 2**53)
FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)
LOSS = st.floats(allow_nan=False, allow_infinity=False)
COST = st.floats(0, 1e6)
CLIP = st.floats(0, 1e6, exclude_min=True)
MODEL_AND_VERSION: dict[str, st.SearchStrategy[Any]] = {"model": TEXT, "policy_version": COUNT}
SENDER: dict[str, st.SearchStrategy[Any]] = {
    "actor_id": TEXT,
    "sequence": st.integers(0, 2**53 - 1),
    **MODEL_AND_VERSION,
}


def floats(*shape: int, elements: st.SearchStrategy[float] = FLOAT) -> st.SearchStrategy[Any]:
    return arrays(np.float32, shape, elements=elements)


@st.composite
def episodes(draw: st.DrawFn) -> Episodes:
    count = draw(st.integers(0, 3))
    lengths = draw(arrays(np.int32, count, elements=st.integers(1, 2**31 - 1)))
    return Episodes(returns=draw(floats(count)), lengths=lengths)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    steps, envs, height, width = (draw(st.integers(1, most)) for most in (6, 3, 4, 4))
    ends = draw(arrays(np.uint8, (steps, envs), elements=st.integers(0, 2)))
    not_positive = st.floats(width=32, max_value=0, allow_nan=False, allow_infinity=False)
    return Trajectory(
        **draw(st.fixed_dictionaries(SENDER)),
        frames=draw(arrays(np.uint8, (envs, steps + 4, height, width))),
        actions=draw(arrays(np.uint8, (steps, envs))),
        behaviour_log_probs=draw(floats(steps, envs, elements=not_positive)),
        rewards=draw(floats(steps, envs)),
        ends=ends,
        bootstrap_values=draw(floats(int((ends == 2).sum()))),
        episodes=draw(episodes()),
    )


@st.composite
def gradients(draw: st.DrawFn) -> Gradients:
    tensor = arrays(np.float32, array_shapes(min_dims=0, max_dims=5, max_side=3), elements=FLOAT)
    return Gradients(
        **draw(st.fixed_dictionaries(SENDER)),
        samples=draw(st.integers(1, 2**20)),
        env_steps=draw(st.integers(0, 2**20)),
        tensors=draw(st.dictionaries(TEXT, tensor, min_size=1, max_size=4)),
        losses=draw(st.dictionaries(TEXT, LOSS, max_size=16)),
        episodes=draw(episodes()),
    )


OBJECTIVES = st.builds(
    Objective,
    discount=st.floats(0, 1),
    lambda_=st.floats(0, 1),
    rho_clip=CLIP,
    clip=st.none() | CLIP,
    passes=st.integers(1, 1024),
    minibatch_size=st.integers(1, 2**20),
    entropy_cost=COST,
    value_cost=COST,
    normalise_advantages=st.booleans(),
    vtrace=st.booleans(),
    batch_samples=st.integers(1, 2**20),
    learning_rate=COST,
    max_gradient_norm=CLIP,
    adam_epsilon=CLIP,
)
ASSIGNMENTS = st.builds(
    Assignment,
    request=st.sampled_from(REQUESTS),
    game=TEXT,
    repeat_action_probability=st.floats(0, 1, exclude_max=True),
    network=TEXT,
    unroll_length=st.integers(1, 1024),
    messages_in_flight=st.integers(1, 1024),
    seed=st.integers(0, 2**63 - 1),
    objective=OBJECTIVES,
    games=st.none() | st.integers(1, 1024),
)
WEIGHTS = st.builds(
    Weights,
    run=st.integers(0, 2**64 - 1),
    assignment=ASSIGNMENTS,
    received=st.dictionaries(TEXT, st.integers(0, 2**53), max_size=3),
    safetensors=st.binary(),
    unroll_lengths=st.dictionaries(TEXT, st.integers(1, 1024), max_size=3),
    **MODEL_AND_VERSION,
)


@FIXED
@given(message=trajectories() | gradients() | WEIGHTS)
def test_a_message_comes_back_bit_for_bit(message: Message) -> None:
    assert same(decode(encode(message, float8=False)), message)


@FIXED
@given(message=gradients())
def test_float8_changes_only_the_tensors(message: Gradients) -> None:
    largest = np.float32(57_344)
    tensors = {name: np.clip(t, -largest, largest) for name, t in message.tensors.items()}
    back = decode(encode(replace(message, tensors=tensors)))
    assert isinstance(back, Gradients)
    assert same(replace(back, tensors={}), replace(message, tensors={}))
    assert list(back.tensors) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(back.tensors[name], tensor, rtol=2**-3, atol=2**-17)


def test_arrays_are_read_only() -> None:
    found = 0
    for message in MESSAGES.values():
        values = [getattr(message, field.name) for field in fields(message)]
        values += [*getattr(message, "tensors", {}).values()]
        for value in values:
            if isinstance(value, np.ndarray):
                found += 1
                assert not value.flags.writeable
    assert found == 6 + 3 + 3


@pytest.mark.parametrize("wrap", [bytearray, memoryview])
def test_any_bytes_like_object_is_decoded(wrap: Callable[[bytes], Any]) -> None:
    assert all(same(decode(wrap(frame)), MESSAGES[name]) for name, frame in FRAMES.items())


def test_repetitive_buffers_are_compressed() -> None:
    header, _ = split(encode(MESSAGES["trajectory"]))
    compressed = {b["name"] for b in header["buffers"] if b.get("compression") == "zstd"}
    assert compressed == {"frames", "actions", "rewards", "ends"}
    for name in ("gradients-float32", "weights"):  # zstd gains nothing on these
        assert "zstd" not in str(split(encode(MESSAGES[name]))[0])


# --- arbitrary bytes -----------------------------------------------------------------------------


def survive(frame: bytes) -> None:
    """Decodes; any error but DecodeError fails the test."""
    try:
        decode(frame)
        return
    except DecodeError as error:
        refused = error
    assert refused.reason in DECODE_REASONS
    assert len(refused.detail) < 300
    assert refused.detail.isprintable()


@FIXED
@given(
    start=st.sampled_from([b"", b"A3C\x02", b"A3C\x02\x20\x00\x00\x00"]),
    rest=st.binary(max_size=200),
)
def test_random_bytes_are_survived(start: bytes, rest: bytes) -> None:
    survive(start + rest)


def test_every_truncation_is_refused() -> None:
    for frame in FRAMES.values():
        for size in range(len(frame)):
            assert reason_of(frame[:size]) in DECODE_REASONS


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_survived(mask: int) -> None:
    for frame in FRAMES.values():
        for position in range(len(frame)):
            flipped = bytearray(frame)
            flipped[position] ^= mask
            survive(bytes(flipped))


def test_several_flipped_bytes_are_survived() -> None:
    rng = random.Random(0)
    for frame in FRAMES.values():
        for _ in range(500):
            flipped = bytearray(frame)
            for _ in range(rng.randint(2, 8)):
                flipped[rng.randrange(8, len(frame))] = rng.randrange(256)
            survive(bytes(flipped))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from(
        [0, 1, 2, 4, 5, 9, "zstd", "float8_e5m2", "<f4", "|u1", "<i4", "frames", "ends"]
    )
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@FIXED
@given(
    header=st.dictionaries(
        st.sampled_from(["type", "buffers", "model", "run"]) | st.text(max_size=5), VALUES
    )
)
def test_random_headers_are_survived(header: Header) -> None:
    survive(with_header(msgpack.packb(header)))


@settings(FIXED, max_examples=400)
@given(data=st.data())
def test_a_header_with_one_odd_value_is_survived(data: st.DataObject) -> None:
    def edit(place: Any) -> None:
        while True:
            key = data.draw(
                st.sampled_from(list(place) if isinstance(place, dict) else range(len(place)))
            )
            inner = place[key]
            if not (isinstance(inner, dict | list) and inner and data.draw(st.integers(0, 9))):
                place[key] = data.draw(VALUES)
                return
            place = inner

    frame = FRAMES[data.draw(st.sampled_from(sorted(FRAMES)))]
    survive(forged(frame, edit))
