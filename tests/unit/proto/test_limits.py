from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard

from asyncade_proto import buffers, codec, limits
from asyncade_proto.codec import decode, encode
from asyncade_proto.errors import DecodeError, TooLargeError
from asyncade_proto.messages import (
    TRUNCATED,
    Episodes,
    Gradients,
    Message,
    Trajectory,
    Weights,
    check_unroll,
)
from builders import episodes, trajectory

Forge = Callable[..., bytes]
Header = dict[str, Any]

MEGA = 10**6


def reason_of(frame: bytes) -> str | None:
    """Returns None for a frame that is a message."""
    try:
        decode(frame)
    except DecodeError as error:
        return error.reason
    return None


@contextmanager
def at_most(peak_bytes: int) -> Iterator[None]:
    """Asserts that Python, numpy and zstandard's results never took more memory than this."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < peak_bytes


@pytest.fixture
def gradients(messages: dict[str, Message]) -> Gradients:
    message = messages["gradients-float32"]
    assert isinstance(message, Gradients)
    return message


@pytest.fixture
def weights(messages: dict[str, Message]) -> Weights:
    message = messages["weights"]
    assert isinstance(message, Weights)
    return message


def games(count: int) -> Episodes:
    return Episodes(returns=np.zeros(count, np.float32), lengths=np.ones(count, np.int32))


# --- each limit: kept and broken by one ------------------------------------------------------


def test_message_bytes(weights: Weights) -> None:
    around = len(encode(replace(weights, safetensors=bytes(2**25)))) - 2**25
    size = limits.MAX_MESSAGE_BYTES - around
    frame = encode(replace(weights, safetensors=bytes(size)))
    assert len(frame) == limits.MAX_MESSAGE_BYTES
    assert reason_of(frame) is None
    assert reason_of(frame + b"\x00") == "limit"
    assert reason_of(b"A3C\x02" + frame) == "protocol_version"  # its limits may be others
    with pytest.raises(ValueError, match=r"bytes .*67108864"):
        encode(replace(weights, safetensors=bytes(size + 1)))


def test_header_bytes(frames: dict[str, bytes], forge: Forge) -> None:
    def padded(size: int) -> Callable[[Header], None]:
        def edit(header: Header) -> None:
            # Strings of 256 to 512 bytes have as many bytes in front, whatever their length.
            header["p"] = [["x" * 480] * 190] * 2
            header["q"] = ["x" * 198] * ((size - len(msgpack.packb(header)) - 300) // 200)
            header["r"] = "x" * 256
            header["r"] = "x" * (256 + size - len(msgpack.packb(header)))
            assert len(msgpack.packb(header)) == size

        return edit

    frame = frames["weights"]
    assert reason_of(forge(frame, padded(limits.MAX_HEADER_BYTES))) is None
    assert reason_of(forge(frame, padded(limits.MAX_HEADER_BYTES + 1))) == "limit"


def test_a_header_too_long_is_not_sent(gradients: Gradients) -> None:
    tensors = {f"{'x' * 1000}{i}": np.zeros(1, np.float32) for i in range(200)}
    with pytest.raises(ValueError, match=r"bytes of header .*196608"):
        encode(replace(gradients, tensors=tensors))


def test_buffers(gradients: Gradients, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"layer{i}" for i in range(limits.MAX_BUFFERS - 2)]  # two are for the episodes
    most = replace(gradients, tensors=dict.fromkeys(names, np.zeros(1, np.float32)))
    assert reason_of(encode(most)) is None
    over = replace(most, tensors={**most.tensors, "more": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match=r"257 buffers .*256"):
        encode(over)
    monkeypatch.setattr(codec, "MAX_BUFFERS", 257)
    frame = encode(over)
    assert reason_of(frame) == "limit"  # msgpack may read 257 now, Buffers may not
    monkeypatch.undo()
    assert reason_of(frame) == "limit"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({str(i): i for i in range(limits.MAX_MAP_ENTRIES)}, None),
        ({str(i): i for i in range(limits.MAX_MAP_ENTRIES + 1)}, "limit"),
        ([1] * limits.MAX_BUFFERS, None),
        ([1] * (limits.MAX_BUFFERS + 1), "limit"),
        ("🕹" * 128, None),
        ("x" * 513, "limit"),
    ],
    ids=lambda value: str(value)[:10],
)
def test_unknown_values_keep_the_limits(
    frames: dict[str, bytes], forge: Forge, value: Any, reason: str | None
) -> None:
    for kind in ("trajectory", "gradients-float32", "weights"):
        assert reason_of(forge(frames[kind], lambda h: h.update(unknown=value))) == reason


@pytest.mark.parametrize("field", ["actor_id", "model"])
@pytest.mark.parametrize(("length", "reason"), [(1, None), (128, None), (129, "limit")])
def test_text_length(gradients: Gradients, field: str, length: int, reason: str | None) -> None:
    changed: dict[str, Any] = {field: "é" * (length // 2) + "x" * (length % 2)}
    assert reason_of(encode(replace(gradients, **changed))) == reason


@pytest.mark.parametrize(("length", "reason"), [(120, None), (121, "limit")])
def test_tensor_names(gradients: Gradients, length: int, reason: str | None) -> None:
    tensors = {"x" * length: np.zeros(1, np.float32)}
    assert reason_of(encode(replace(gradients, tensors=tensors))) == reason


@pytest.mark.parametrize(("count", "reason"), [(0, None), (16, None), (17, "limit")])
def test_losses(gradients: Gradients, count: int, reason: str | None) -> None:
    losses = {str(i): 1.0 for i in range(count)}
    assert reason_of(encode(replace(gradients, losses=losses))) == reason


@pytest.mark.parametrize(("count", "reason"), [(1024, None), (1025, "limit")])
def test_senders(
    weights: Weights, count: int, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = encode(replace(weights, received={str(i): i for i in range(count)}))
    assert reason_of(frame) == reason
    monkeypatch.setattr(codec, "MAX_MAP_ENTRIES", 2000)  # no other limit stands in for this one
    assert reason_of(frame) == reason


def test_no_name_of_a_sender_keeps_the_learner_from_publishing(weights: Weights) -> None:
    longest = limits.MAX_TEXT_LENGTH
    names = [f"{i:04}".rjust(longest, "x") for i in range(limits.MAX_SENDERS)]
    assert all(len(name.encode()) == longest for name in names)
    assignment = replace(weights.assignment, game="x" * longest, network="x" * longest)
    received = dict.fromkeys(names, limits.MAX_COUNT)
    full = replace(weights, model="x" * longest, assignment=assignment, received=received)
    assert reason_of(encode(full)) is None


def test_every_sequence_can_be_counted(gradients: Gradients, weights: Weights) -> None:
    last = limits.MAX_COUNT - 1
    assert reason_of(encode(replace(gradients, sequence=last))) is None
    assert reason_of(encode(replace(weights, received={"a": last + 1}))) is None
    assert reason_of(encode(replace(gradients, sequence=last + 1))) == "malformed"


@pytest.mark.parametrize(("count", "reason"), [(0, None), (6, None), (7, "limit")])
def test_dimensions(gradients: Gradients, count: int, reason: str | None) -> None:
    tensors = {"x": np.zeros((1,) * count, np.float32)}
    assert reason_of(encode(replace(gradients, tensors=tensors))) == reason


@pytest.mark.parametrize(
    ("steps", "envs", "reason"),
    [
        (limits.MAX_UNROLL_LENGTH, 1, None),
        (limits.MAX_UNROLL_LENGTH + 1, 1, "limit"),
        (1, limits.MAX_ENVIRONMENTS, None),
        (1, limits.MAX_ENVIRONMENTS + 1, "limit"),
    ],
)
def test_unroll_length_and_environments(steps: int, envs: int, reason: str | None) -> None:
    assert reason_of(encode(trajectory(steps, envs, 1))) == reason


def test_episodes() -> None:
    assert reason_of(encode(trajectory(1, 1, 1, episodes=games(limits.MAX_STEPS)))) is None
    assert reason_of(encode(trajectory(1, 1, 1, episodes=games(limits.MAX_STEPS + 1)))) == "limit"


def test_the_arrays_of_a_message_share_one_limit(
    gradients: Gradients, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = replace(gradients, tensors={name: np.zeros(25, np.float32) for name in "ab"})
    frame = encode(message)
    halves = encode(message, bfloat16=True)  # count as the float32 that they become
    monkeypatch.setattr(buffers, "MAX_ARRAY_BYTES", 200)
    assert reason_of(frame) is None
    assert reason_of(halves) is None
    monkeypatch.setattr(buffers, "MAX_ARRAY_BYTES", 199)
    assert reason_of(frame) == "limit"
    assert reason_of(halves) == "limit"


def test_arrays_too_large_are_not_sent_even_if_they_compress_well() -> None:
    with pytest.raises(ValueError, match=r"bytes of arrays .*268435456"):
        encode(trajectory(1, 1, 7328))  # 5 x 7328 x 7328 is just over 2**28


# --- nothing large at the sender's choice ----------------------------------------------------


def compressed_zeros(size: int) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(bytes(size))


BOMB = compressed_zeros(2**28)


def bomb(header: Header, shape: list[int], **description: Any) -> None:
    """Puts the bomb in front; the caller appends nothing else but the empty episodes."""
    header["buffers"] = [
        {"name": "tensors/x", "dtype": "<f4", "shape": shape, "bytes": len(BOMB)}
        | {"compression": "zstd"}
        | description,
        {"name": "episode_returns", "dtype": "<f4", "shape": [0], "bytes": 0},
        {"name": "episode_lengths", "dtype": "<i4", "shape": [0], "bytes": 0},
    ]


@pytest.mark.parametrize(
    ("shape", "description", "reason"),
    [
        ([100], {}, "malformed"),  # the shape lies
        ([2**26], {"dtype": "|u1"}, "malformed"),  # nobody wants this dtype
        ([2**26 + 1], {}, "limit"),
        ([2**27], {"dtype": "bfloat16"}, "limit"),  # twice the size once decoded
        ([0, 2**26], {}, "malformed"),
        ([2**26], {"name": "unknown"}, "malformed"),  # not read, so no tensor is left
    ],
)
def test_a_bomb_is_not_unpacked(
    frames: dict[str, bytes], forge: Forge, shape: list[int], description: Any, reason: str
) -> None:
    frame = frames["gradients-float32"]
    frame = frame[: 8 + int.from_bytes(frame[4:8], "little")]  # without its arrays
    frame = forge(frame, lambda header: bomb(header, shape, **description), body=BOMB)
    with at_most(MEGA):
        assert reason_of(frame) == reason


def test_many_bombs_are_stopped_by_what_they_hold_together(
    frames: dict[str, bytes], forge: Forge
) -> None:
    size = 2**26
    data = compressed_zeros(size)
    each = {"dtype": "<f4", "shape": [size // 4], "compression": "zstd", "bytes": len(data)}

    def edit(header: Header) -> None:
        header["buffers"] = [{"name": f"tensors/{i}"} | each for i in range(200)]

    frame = frames["gradients-float32"]
    frame = frame[: 8 + int.from_bytes(frame[4:8], "little")]
    frame = forge(frame, edit, body=200 * data)
    assert len(frame) < MEGA
    with at_most(int(1.1 * limits.MAX_ARRAY_BYTES)):
        assert reason_of(frame) == "limit"


def filled(item: bytes) -> bytes:
    """Lists in lists of 250 such items, as many as a header holds."""
    room = limits.MAX_HEADER_BYTES - 3
    while len(item) <= room:
        count = min(250, room // len(item))
        item = b"\xdc" + count.to_bytes(2) + item * count
        if count < 250:
            break
    return item


@pytest.mark.parametrize(
    "raw",
    {
        "one list": b"\xdd\x03\xff\xff\xff",
        "one map": b"\xdf\x03\xff\xff\xff",
        "lists in lists, all declared full": b"\xdc\x01\x00" * 1020,
        "maps in maps, all declared full": b"\xde\x04\x00\xa1a" * 1020,
        "as many empty lists as there is room": filled(b"\x90"),
        "as many empty maps as there is room": filled(b"\x80"),
        "as many maps of one as there is room": filled(b"\x81\xa0\x90"),
        "as many short strings as there is room": filled(b"\xa2ab"),
        "as many floats as there is room": filled(b"\xcb\x3f\xf1" + 6 * b"\x11"),
    }.items(),
    ids=lambda item: item[0],
)
def test_containers_in_the_header_do_not_grow(raw: tuple[str, bytes], forge: Forge) -> None:
    assert len(raw[1]) <= limits.MAX_HEADER_BYTES
    with at_most(20 * MEGA):
        assert reason_of(forge(raw=raw[1])) in ("malformed", "limit")


def test_sizes_in_the_preamble_allocate_nothing() -> None:
    with at_most(10_000):
        assert reason_of(b"A3C\x01\xff\xff\xff\xff") == "limit"
        assert reason_of(b"A3C\x01\xff\xff\x00\x00") == "malformed"


def test_an_unroll_is_checked_at_its_exact_worst_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step may be an episode that the time limit cuts off."""
    steps, envs, side = 5, 3, 2
    worst = trajectory(
        steps,
        envs,
        side,
        ends=np.full((steps, envs), TRUNCATED, np.uint8),
        episodes=episodes(*[1.0] * (steps * envs)),
    )
    arrays = [getattr(worst, n) for n in Trajectory.__slots__] + [
        *(worst.episodes.returns, worst.episodes.lengths)
    ]
    size = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    monkeypatch.setattr("asyncade_proto.messages.MAX_ARRAY_BYTES", size)
    check_unroll(steps, envs, side)
    monkeypatch.setattr("asyncade_proto.messages.MAX_ARRAY_BYTES", size - 1)
    with pytest.raises(TooLargeError, match=f"at most {envs - 1} environments"):
        check_unroll(steps, envs, side)
