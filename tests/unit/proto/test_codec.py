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

FIXED = settings(derandomize=True, deadline=None, max_examples=100)

Forge = Callable[..., bytes]
Same = Callable[[Any, Any], bool]
Header = dict[str, Any]


def reason_of(frame: bytes) -> str | None:
    """Returns None for a frame that is a message."""
    try:
        decode(frame)
    except DecodeError as error:
        return error.reason
    return None


def header_of(frame: bytes) -> Header:
    found: Header = msgpack.unpackb(frame[8 : 8 + int.from_bytes(frame[4:8], "little")])
    return found


# --- round trips -----------------------------------------------------------------------------

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
)
WEIGHTS = st.builds(
    Weights,
    run=st.integers(0, 2**64 - 1),
    assignment=ASSIGNMENTS,
    received=st.dictionaries(TEXT, st.integers(0, 2**53), max_size=3),
    safetensors=st.binary(),
    **MODEL_AND_VERSION,
)


@FIXED
@given(message=trajectories() | gradients() | WEIGHTS)
def test_a_message_comes_back_bit_for_bit(message: Message, same: Same) -> None:
    assert same(decode(encode(message)), message)


@FIXED
@given(message=gradients())
def test_bfloat16_changes_the_tensors_alone(message: Gradients, same: Same) -> None:
    largest = np.float32(3.38e38)
    tensors = {name: np.clip(t, -largest, largest) for name, t in message.tensors.items()}
    back = decode(encode(replace(message, tensors=tensors), bfloat16=True))
    assert isinstance(back, Gradients)
    assert same(replace(back, tensors={}), replace(message, tensors={}))
    assert list(back.tensors) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(back.tensors[name], tensor, rtol=2**-8, atol=2**-134)


def test_arrays_are_read_only(messages: dict[str, Message]) -> None:
    found = 0
    for message in messages.values():
        values = [getattr(message, field.name) for field in fields(message)]
        values += [*getattr(message, "tensors", {}).values()]
        for value in values:
            if isinstance(value, np.ndarray):
                found += 1
                assert not value.flags.writeable
    assert found == 6 + 3 + 3


@pytest.mark.parametrize("wrap", [bytearray, memoryview])
def test_any_buffer_of_bytes_is_a_frame(
    frames: dict[str, bytes], messages: dict[str, Message], same: Same, wrap: Callable[[bytes], Any]
) -> None:
    assert all(same(decode(wrap(frame)), messages[name]) for name, frame in frames.items())


def test_what_repeats_itself_is_compressed(messages: dict[str, Message]) -> None:
    header = header_of(encode(messages["trajectory"]))
    compressed = {b["name"] for b in header["buffers"] if b.get("compression") == "zstd"}
    assert compressed == {"frames", "actions", "rewards", "ends"}
    for name in ("gradients-float32", "weights"):  # zstd gains nothing on these
        assert "zstd" not in str(header_of(encode(messages[name])))


# --- the preamble and the header -------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not_ours"),
        (b"A3C", "not_ours"),
        (b"A3D\x01\x00\x00\x00\x00", "not_ours"),
        (b"a3c\x01\x01\x00\x00\x00\x80", "not_ours"),
        (b"GET / HTTP/1.1\r\n\r\n", "not_ours"),
        # A later version may look otherwise from the fifth byte on.
        (b"A3C\x00", "protocol_version"),
        (b"A3C\x02", "protocol_version"),
        (b"A3C\xff\xff\xff\xff\xff", "protocol_version"),
        (b"A3C\x01", "malformed"),
        (b"A3C\x01\x00\x00\x00", "malformed"),
        (b"A3C\x01\x00\x00\x00\x00", "malformed"),
        (b"A3C\x01\x02\x00\x00\x00\x80", "malformed"),
        (b"A3C\x01\x01\x00\x03\x00" + bytes(196609), "limit"),
        (b"A3C\x01\xff\xff\xff\xff\x80", "limit"),
    ],
)
def test_a_wrong_preamble_is_refused(frame: bytes, reason: str) -> None:
    assert reason_of(frame) == reason


def test_a_header_longer_than_the_frame_is_refused(messages: dict[str, Message]) -> None:
    weights = messages["weights"]
    assert isinstance(weights, Weights)
    frame = encode(replace(weights, safetensors=b""))  # nothing follows its header
    assert reason_of(frame) is None
    assert reason_of(frame[:4] + bytes([frame[4] + 1]) + frame[5:]) == "malformed"


@pytest.mark.parametrize(
    "raw",
    [b"\x90", b"\x01", b"\xc0", b"\xc1", b"\x80\x80", b"\x81\xa1a", b"\xdb\xff\xff\xff\xff"],
)
def test_a_header_that_is_no_map_is_refused(raw: bytes, forge: Forge) -> None:
    assert reason_of(forge(raw=raw)) == "malformed"


@pytest.mark.parametrize(
    ("entry", "reason"),
    {
        "fine": (b"\xa1a\x01", None),
        "key there already": (b"\xa5model\xa1m", "malformed"),
        "key twice inside": (b"\xa1a\x82\xa1a\x01\xa1a\x02", "malformed"),
        "integer key": (b"\x01\x01", "malformed"),
        "boolean key": (b"\xc3\x01", "malformed"),
        "list key": (b"\x90\x01", "malformed"),
        "binary key": (b"\xc4\x01a\x01", "limit"),
        "binary": (b"\xa1a\xc4\x01a", "limit"),
        "extension": (b"\xa1a\xd4\x01\x00", "limit"),
        "timestamp": (b"\xa1a\xd6\xff\x00\x00\x00\x00", "limit"),
        "no utf-8": (b"\xa1a\xa1\xff", "malformed"),
        "half a surrogate pair": (b"\xa1a\xa3\xed\xa0\x80", "malformed"),
        "never used byte": (b"\xa1a\xc1", "malformed"),
        "nested too deeply": (b"\xa1a" + b"\x91" * 60000 + b"\x01", "malformed"),
        "list too long": (b"\xa1a\xdd\xff\xff\xff\xff", "limit"),
        "map too long": (b"\xa1a\xdf\xff\xff\xff\xff", "limit"),
        "string past the end": (b"\xa1a\xdb\xff\xff\xff\xff", "malformed"),
        "something behind": (b"\xa1a\x01\x80", "malformed"),
        "nothing behind a key": (b"\xa1a", "malformed"),
    }.values(),
)
def test_an_entry_of_the_header_that_is_not_ours_is_refused(
    frames: dict[str, bytes], forge: Forge, entry: bytes, reason: str | None
) -> None:
    frame = frames["weights"]
    end = 8 + int.from_bytes(frame[4:8], "little")
    assert 0x80 <= frame[8] < 0x8F  # a map of that many entries less 0x80
    raw = bytes([frame[8] + 1]) + frame[9:end] + entry
    assert reason_of(forge(raw=raw, body=frame[end:])) == reason


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("where", ["type", "actor_id", "sequence", "buffers", "losses", "dtype"])
@pytest.mark.parametrize("depth", [1, 400, 1000])
def test_nesting_in_any_place_is_refused(
    frames: dict[str, bytes], forge: Forge, where: str, depth: int
) -> None:
    # Packed by hand: msgpack itself packs no more than 511 levels.
    marker = "the marker"

    def mark(header: Header) -> None:
        (header if where in header else header["buffers"][0])[where] = marker

    frame = forge(frames["gradients-float32"], mark)
    size = int.from_bytes(frame[4:8], "little")
    deep = b"\x91" * depth + b"\x01"
    raw = frame[8 : 8 + size].replace(msgpack.packb(marker), deep)
    assert reason_of(forge(raw=raw, body=frame[8 + size :])) == "malformed"


# --- buffers ---------------------------------------------------------------------------------

EMPTY = {"dtype": "|u1", "shape": [0], "bytes": 0}


@pytest.mark.parametrize(
    ("edit", "reason"),
    {
        "no buffers": (lambda h: h.pop("buffers"), "malformed"),
        "a map of buffers": (lambda h: h.update(buffers={}), "malformed"),
        "a list of names": (lambda h: h.update(buffers=["frames"]), "malformed"),
        "no descriptions": (lambda h: h.update(buffers=[]), "malformed"),
        "no name": (lambda h: h["buffers"][0].pop("name"), "malformed"),
        "one name twice": (lambda h: h["buffers"][1].update(name="frames"), "malformed"),
        "one too few": (lambda h: h["buffers"].pop(), "malformed"),
        "another name": (lambda h: h["buffers"][0].update(name="images"), "malformed"),
        "no size": (lambda h: h["buffers"][0].pop("bytes"), "malformed"),
        "negative size": (lambda h: h["buffers"][0].update(bytes=-1), "malformed"),
        "huge size": (lambda h: h["buffers"][0].update(bytes=2**64 - 1), "malformed"),
        "past the end": (lambda h: h["buffers"][0].update(bytes=2**20), "malformed"),
        "short of the end": (lambda h: h["buffers"][-1].update(bytes=7), "malformed"),
        "another order": (lambda h: h["buffers"].reverse(), "malformed"),
        "transposed": (lambda h: h["buffers"][0].update(shape=[9, 2, 3, 4]), "malformed"),
        "another dtype": (lambda h: h["buffers"][5].update(dtype="<i4"), "malformed"),
        "seven axes": (lambda h: h["buffers"][0].update(shape=[1] * 7), "limit"),
    }.values(),
)
def test_buffers_that_do_not_fit_are_refused(
    frames: dict[str, bytes], forge: Forge, edit: Callable[[Header], object], reason: str
) -> None:
    assert reason_of(forge(frames["trajectory"], edit)) == reason


def test_a_name_is_there_once(frames: dict[str, bytes], forge: Forge) -> None:
    sound = {"name": "sound", "bytes": 0}
    assert decode(forge(frames["weights"], lambda h: h["buffers"].append(sound)))
    assert (
        reason_of(forge(frames["weights"], lambda h: h["buffers"].extend([sound, sound])))
        == "malformed"
    )


def test_every_byte_belongs_to_a_buffer(frames: dict[str, bytes]) -> None:
    assert all(reason_of(frame + b"\x00") == "malformed" for frame in frames.values())


@pytest.mark.parametrize("kind", ["trajectory", "gradients-float32", "weights"])
def test_what_is_not_known_is_ignored(
    frames: dict[str, bytes], messages: dict[str, Message], forge: Forge, same: Same, kind: str
) -> None:
    def newer(header: Header) -> None:
        for place in (header, header["buffers"][0], *header.get("assignment", {}).values()):
            if isinstance(place, dict):
                place["colour"] = {"red": [1, None, 0.5, "x" * 512]}
        header["buffers"].append({"name": "sound", "bytes": 3, "dtype": "f16", "shape": nested(9)})

    assert same(decode(forge(frames[kind], newer, body=b"abc")), messages[kind])


# --- fields of the messages ------------------------------------------------------------------


def with_element(array: Any, value: float) -> Any:
    changed = array.copy()
    changed[(0,) * array.ndim] = value
    return changed


PER_STEP = ("actions", "behaviour_log_probs", "rewards", "ends")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "change", "reason"),
    [
        *((name, lambda a: a.astype(np.int32), "malformed") for name in ("frames", "rewards")),
        *((name, lambda a: a[:-1], "malformed") for name in PER_STEP),
        ("actions", lambda a: a[:, :-1], "malformed"),
        ("actions", lambda a: a[:0], "malformed"),
        ("actions", lambda a: a.reshape(-1), "malformed"),
        ("frames", lambda a: a[:, :-1], "malformed"),
        ("frames", lambda a: a[:1], "malformed"),
        ("frames", lambda a: a[..., 0], "malformed"),
        ("frames", lambda a: a[..., :0], "malformed"),
        ("ends", lambda a: with_element(a, 3), "malformed"),
        ("ends", lambda a: with_element(a, 2), "malformed"),  # one truncation, no value for it
        ("bootstrap_values", lambda a: a[:0], "malformed"),
        ("behaviour_log_probs", lambda a: with_element(a, 1e-45), "malformed"),
        *(
            (name, lambda a, bad=bad: with_element(a, bad), "not_finite")
            for name in ("rewards", "bootstrap_values", "behaviour_log_probs")
            for bad in (NAN, INF, -INF)
        ),
    ],
)
def test_a_trajectory_at_odds_with_itself_is_refused(
    messages: dict[str, Message], field: str, change: Callable[[Any], Any], reason: str
) -> None:
    trajectory = messages["trajectory"]
    changed: dict[str, Any] = {field: change(getattr(trajectory, field))}
    assert reason_of(encode(replace(trajectory, **changed))) == reason


def test_an_unroll_without_steps_or_environments_is_refused(messages: dict[str, Message]) -> None:
    trajectory = messages["trajectory"]
    assert isinstance(trajectory, Trajectory)
    for cut, frames in ((np.s_[:0], np.s_[:, :4]), (np.s_[:, :0], np.s_[:0])):
        changed = {name: getattr(trajectory, name)[cut] for name in PER_STEP}
        changed |= {"frames": trajectory.frames[frames], "bootstrap_values": np.zeros(0, "<f4")}
        assert reason_of(encode(replace(trajectory, **changed))) == "malformed"


@pytest.mark.parametrize("kind", ["trajectory", "gradients-float32"])
@pytest.mark.parametrize(
    ("returns", "lengths", "reason"),
    [
        ([1.0], [], "malformed"),
        ([1.0], [0], "malformed"),
        ([1.0, 2.0], [5, -1], "malformed"),
        ([NAN], [1], "not_finite"),
        ([[1.0]], [[1]], "malformed"),
    ],
)
def test_wrong_episodes_are_refused(
    messages: dict[str, Message], kind: str, returns: Any, lengths: Any, reason: str
) -> None:
    wrong = Episodes(returns=np.array(returns, np.float32), lengths=np.array(lengths, np.int32))
    changed: dict[str, Any] = {"episodes": wrong}
    assert reason_of(encode(replace(messages[kind], **changed))) == reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tensors": {}}, "malformed"),
        ({"tensors": {"": np.ones(1, np.float32)}}, "malformed"),
        ({"tensors": {"a\nb": np.ones(1, np.float32)}}, "malformed"),
        ({"tensors": {"a": np.ones(1, np.int32)}}, "malformed"),
        ({"tensors": {"a": np.array([1, NAN], np.float32)}}, "not_finite"),
        ({"tensors": {"a": np.array(-INF, np.float32)}}, "not_finite"),
        ({"losses": {"policy": NAN}}, "not_finite"),
        ({"losses": {"policy": "1"}}, "malformed"),
        ({"losses": {"policy": True}}, "malformed"),
        ({"losses": {"a\nb": 1.0}}, "malformed"),
    ],
    ids=str,
)
def test_wrong_gradients_are_refused(
    messages: dict[str, Message], changed: dict[str, Any], reason: str
) -> None:
    assert reason_of(encode(replace(messages["gradients-float32"], **changed))) == reason


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7F7FFFFF])
def test_bfloat16_hides_neither_nan_nor_overflow(messages: dict[str, Message], bits: int) -> None:
    tensors = {"a": np.array([bits], "<u4").view("<f4")}
    gradients = messages["gradients-float32"]
    assert isinstance(gradients, Gradients)
    assert reason_of(encode(replace(gradients, tensors=tensors), bfloat16=True)) == "not_finite"


@pytest.mark.parametrize("blob", [np.zeros((2, 2), np.uint8), np.zeros(4, np.float32)], ids=str)
def test_weights_are_one_row_of_bytes(frames: dict[str, bytes], forge: Forge, blob: Any) -> None:
    def edit(header: Header) -> None:
        header["buffers"] = [
            {
                "name": "safetensors",
                "dtype": blob.dtype.str,
                "shape": list(blob.shape),
                "bytes": blob.nbytes,
            }
        ]

    header_bytes = int.from_bytes(frames["weights"][4:8], "little")
    without_body = frames["weights"][: 8 + header_bytes]
    assert reason_of(forge(without_body, edit, body=blob.tobytes())) == "malformed"


@pytest.mark.parametrize("kind", ["", "Trajectory", "weights\n", "x", 5, None, ["weights"]])
def test_an_unknown_type_is_refused(frames: dict[str, bytes], forge: Forge, kind: Any) -> None:
    assert reason_of(forge(frames["weights"], lambda h: h.update(type=kind))) == "malformed"


@pytest.mark.parametrize("one", ["trajectory", "gradients-float32", "weights"])
@pytest.mark.parametrize("other", ["trajectory", "gradients", "weights"])
def test_one_kind_does_not_pass_for_another(
    frames: dict[str, bytes], forge: Forge, one: str, other: str
) -> None:
    if not one.startswith(other):
        assert reason_of(forge(frames[one], lambda h: h.update(type=other))) == "malformed"


# --- any bytes at all ------------------------------------------------------------------------


def survive(frame: bytes) -> None:
    """Decodes, and lets nothing but the one error through."""
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
    start=st.sampled_from([b"", b"A3C\x01", b"A3C\x01\x20\x00\x00\x00"]),
    rest=st.binary(max_size=200),
)
def test_random_bytes_are_survived(start: bytes, rest: bytes) -> None:
    survive(start + rest)


def test_every_truncation_is_refused(frames: dict[str, bytes]) -> None:
    for frame in frames.values():
        for size in range(len(frame)):
            assert reason_of(frame[:size]) in DECODE_REASONS


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_survived(frames: dict[str, bytes], mask: int) -> None:
    for frame in frames.values():
        for position in range(len(frame)):
            flipped = bytearray(frame)
            flipped[position] ^= mask
            survive(bytes(flipped))


def test_several_flipped_bytes_are_survived(frames: dict[str, bytes]) -> None:
    rng = random.Random(0)
    for frame in frames.values():
        for _ in range(500):
            flipped = bytearray(frame)
            for _ in range(rng.randint(2, 8)):
                flipped[rng.randrange(8, len(frame))] = rng.randrange(256)
            survive(bytes(flipped))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0, 1, 2, 4, 5, 9, "zstd", "bfloat16", "<f4", "|u1", "<i4", "frames", "ends"])
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
def test_random_headers_are_survived(header: Header, forge: Forge) -> None:
    survive(forge(raw=msgpack.packb(header)))


@settings(FIXED, max_examples=400)
@given(data=st.data())
def test_a_header_with_one_odd_value_is_survived(
    data: st.DataObject, frames: dict[str, bytes], forge: Forge
) -> None:
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

    frame = frames[data.draw(st.sampled_from(sorted(frames)))]
    survive(forge(frame, edit))
