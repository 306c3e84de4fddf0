"""Every limit of the wire, kept and exceeded by one; and that bad frames cost little memory."""

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
from asyncade_proto.codec import encode
from asyncade_proto.errors import TooLargeError
from asyncade_proto.messages import TRUNCATED, Episodes, Trajectory, check_unroll
from builders import episodes, trajectory
from rigs.wire import (
    FRAMES,
    GRADIENTS,
    WEIGHTS,
    Header,
    forged,
    reason_of,
    with_header,
    without_buffers,
)

MEGA = 10**6


@contextmanager
def at_most(peak_bytes: int) -> Iterator[None]:
    """Asserts a peak of Python's, numpy's and zstandard's memory below this."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < peak_bytes


def games(count: int) -> Episodes:
    return Episodes(returns=np.zeros(count, np.float32), lengths=np.ones(count, np.int32))


# --- each limit ----------------------------------------------------------------------------------


def test_a_message_has_a_limit_of_bytes() -> None:
    around = len(encode(replace(WEIGHTS, safetensors=bytes(2**25)))) - 2**25
    size = limits.MAX_MESSAGE_BYTES - around
    frame = encode(replace(WEIGHTS, safetensors=bytes(size)))
    assert len(frame) == limits.MAX_MESSAGE_BYTES
    assert reason_of(frame) is None
    assert reason_of(frame + b"\x00") == "limit"
    assert reason_of(b"A3C\x01" + frame) == "protocol_version"  # it may have other limits
    with pytest.raises(ValueError, match=r"bytes .*67108864"):
        encode(replace(WEIGHTS, safetensors=bytes(size + 1)))


def test_a_header_has_a_limit_of_bytes() -> None:
    def padded(size: int) -> Callable[[Header], None]:
        def edit(header: Header) -> None:
            # Strings of 256 to 512 bytes all have a prefix of three bytes.
            header["p"] = [["x" * 480] * 190] * 2
            header["q"] = ["x" * 198] * ((size - len(msgpack.packb(header)) - 300) // 200)
            header["r"] = "x" * 256
            header["r"] = "x" * (256 + size - len(msgpack.packb(header)))
            assert len(msgpack.packb(header)) == size

        return edit

    frame = FRAMES["weights"]
    assert reason_of(forged(frame, padded(limits.MAX_HEADER_BYTES))) is None
    assert reason_of(forged(frame, padded(limits.MAX_HEADER_BYTES + 1))) == "limit"


def test_a_header_over_the_limit_is_not_encoded() -> None:
    tensors = {f"{'x' * 1000}{i}": np.zeros(1, np.float32) for i in range(200)}
    with pytest.raises(ValueError, match=r"bytes of header .*196608"):
        encode(replace(GRADIENTS, tensors=tensors))


def test_a_message_has_a_limit_of_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"layer{i}" for i in range(limits.MAX_BUFFERS - 2)]  # two are for the episodes
    most = replace(GRADIENTS, tensors=dict.fromkeys(names, np.zeros(1, np.float32)))
    assert reason_of(encode(most)) is None
    over = replace(most, tensors={**most.tensors, "more": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match=r"257 buffers .*256"):
        encode(over)
    monkeypatch.setattr(codec, "MAX_BUFFERS", 257)
    frame = encode(over)
    assert reason_of(frame) == "limit"  # msgpack reads 257 now, Buffers refuses them
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
def test_unknown_values_have_the_same_limits(value: Any, reason: str | None) -> None:
    for kind in ("trajectory", "gradients-float32", "weights"):
        assert reason_of(forged(FRAMES[kind], lambda h: h.update(unknown=value))) == reason


@pytest.mark.parametrize("field", ["actor_id", "model"])
@pytest.mark.parametrize(("length", "reason"), [(1, None), (128, None), (129, "limit")])
def test_text_has_a_limit_of_bytes(field: str, length: int, reason: str | None) -> None:
    changed: dict[str, Any] = {field: "é" * (length // 2) + "x" * (length % 2)}
    assert reason_of(encode(replace(GRADIENTS, **changed))) == reason


@pytest.mark.parametrize(("length", "reason"), [(120, None), (121, "limit")])
def test_names_of_tensors_have_a_limit(length: int, reason: str | None) -> None:
    tensors = {"x" * length: np.zeros(1, np.float32)}
    assert reason_of(encode(replace(GRADIENTS, tensors=tensors))) == reason


@pytest.mark.parametrize(("count", "reason"), [(0, None), (16, None), (17, "limit")])
def test_losses_have_a_limit(count: int, reason: str | None) -> None:
    losses = {str(i): 1.0 for i in range(count)}
    assert reason_of(encode(replace(GRADIENTS, losses=losses))) == reason


@pytest.mark.parametrize(("count", "reason"), [(1024, None), (1025, "limit")])
def test_senders_have_a_limit(
    count: int, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = encode(replace(WEIGHTS, received={str(i): i for i in range(count)}))
    assert reason_of(frame) == reason
    monkeypatch.setattr(codec, "MAX_MAP_ENTRIES", 2000)  # so that no other limit applies
    assert reason_of(frame) == reason


@pytest.mark.parametrize(("count", "reason"), [(256, None), (257, "limit")])
def test_unroll_lengths_have_a_limit(count: int, reason: str | None) -> None:
    lengths = {str(i): 1 + i for i in range(count)}
    assert reason_of(encode(replace(WEIGHTS, unroll_lengths=lengths))) == reason


def test_the_longest_names_of_senders_fit_a_header() -> None:
    longest = limits.MAX_TEXT_LENGTH
    names = [f"{i:04}".rjust(longest, "x") for i in range(limits.MAX_SENDERS)]
    assert all(len(name.encode()) == longest for name in names)
    assignment = replace(WEIGHTS.assignment, game="x" * longest, network="x" * longest)
    received = dict.fromkeys(names, limits.MAX_COUNT)
    lengths = dict.fromkeys(names[: limits.MAX_UNROLL_LENGTHS], limits.MAX_UNROLL_LENGTH)
    full = replace(
        WEIGHTS,
        model="x" * longest,
        assignment=replace(assignment, games=limits.MAX_ENVIRONMENTS),
        received=received,
        unroll_lengths=lengths,
    )
    assert reason_of(encode(full)) is None


def test_the_largest_sequence_can_be_acknowledged() -> None:
    last = limits.MAX_COUNT - 1
    assert reason_of(encode(replace(GRADIENTS, sequence=last))) is None
    assert reason_of(encode(replace(WEIGHTS, received={"a": last + 1}))) is None
    assert reason_of(encode(replace(GRADIENTS, sequence=last + 1))) == "malformed"


@pytest.mark.parametrize(("count", "reason"), [(0, None), (6, None), (7, "limit")])
def test_arrays_have_a_limit_of_dimensions(count: int, reason: str | None) -> None:
    tensors = {"x": np.zeros((1,) * count, np.float32)}
    assert reason_of(encode(replace(GRADIENTS, tensors=tensors))) == reason


@pytest.mark.parametrize(
    ("steps", "envs", "reason"),
    [
        (limits.MAX_UNROLL_LENGTH, 1, None),
        (limits.MAX_UNROLL_LENGTH + 1, 1, "limit"),
        (1, limits.MAX_ENVIRONMENTS, None),
        (1, limits.MAX_ENVIRONMENTS + 1, "limit"),
    ],
)
def test_steps_and_environments_have_limits(steps: int, envs: int, reason: str | None) -> None:
    assert reason_of(encode(trajectory(steps, envs, 1))) == reason


def test_episodes_have_a_limit() -> None:
    assert reason_of(encode(trajectory(1, 1, 1, episodes=games(limits.MAX_STEPS)))) is None
    assert reason_of(encode(trajectory(1, 1, 1, episodes=games(limits.MAX_STEPS + 1)))) == "limit"


def test_the_arrays_of_a_message_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    message = replace(GRADIENTS, tensors={name: np.zeros(25, np.float32) for name in "ab"})
    frame = encode(message, float8=False)
    halves = encode(message)  # count as the float32 that they decode to
    monkeypatch.setattr(buffers, "MAX_ARRAY_BYTES", 200)
    assert reason_of(frame) is None
    assert reason_of(halves) is None
    monkeypatch.setattr(buffers, "MAX_ARRAY_BYTES", 199)
    assert reason_of(frame) == "limit"
    assert reason_of(halves) == "limit"


def test_large_arrays_are_not_encoded_even_if_they_compress_well() -> None:
    with pytest.raises(ValueError, match=r"bytes of arrays .*268435456"):
        encode(trajectory(1, 1, 7328))  # 5 x 7328 x 7328 is just over 2**28


# --- memory --------------------------------------------------------------------------------------


def compressed_zeros(size: int) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(bytes(size))


BOMB = compressed_zeros(2**28)


def bomb(header: Header, shape: list[int], **description: Any) -> None:
    """Describes a bomb as a tensor, before empty episodes."""
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
        ([2**26], {"dtype": "|u1"}, "malformed"),  # not the dtype of a tensor
        ([2**26 + 1], {}, "limit"),
        ([2**27], {"dtype": "float8_e5m2"}, "limit"),  # twice the size once decoded
        ([0, 2**26], {}, "malformed"),
        ([2**26], {"name": "unknown"}, "malformed"),  # ignored, so there is no tensor
    ],
)
def test_a_decompression_bomb_is_not_unpacked(
    shape: list[int], description: Any, reason: str
) -> None:
    frame = without_buffers(FRAMES["gradients-float32"])
    frame = forged(frame, lambda header: bomb(header, shape, **description), BOMB)
    with at_most(MEGA):
        assert reason_of(frame) == reason


def test_many_bombs_are_refused_by_their_total_size() -> None:
    size = 2**26
    data = compressed_zeros(size)
    each = {"dtype": "<f4", "shape": [size // 4], "compression": "zstd", "bytes": len(data)}

    def edit(header: Header) -> None:
        header["buffers"] = [{"name": f"tensors/{i}"} | each for i in range(200)]

    frame = without_buffers(FRAMES["gradients-float32"])
    frame = forged(frame, edit, 200 * data)
    assert len(frame) < MEGA
    with at_most(int(1.1 * limits.MAX_ARRAY_BYTES)):
        assert reason_of(frame) == "limit"


def test_compressed_weights_are_not_held_twice() -> None:
    size = 2**26
    data = compressed_zeros(size)
    each = {"name": "safetensors", "dtype": "|u1", "shape": [size], "compression": "zstd"}

    def edit(header: Header) -> None:
        header["buffers"] = [each | {"bytes": len(data)}]

    with at_most(int(1.1 * size)):
        assert reason_of(forged(without_buffers(FRAMES["weights"]), edit, data)) is None


def filled(item: bytes) -> bytes:
    """Returns nested lists of 250 items each, as many as fit in a header."""
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
def test_containers_in_the_header_take_bounded_memory(raw: tuple[str, bytes]) -> None:
    assert len(raw[1]) <= limits.MAX_HEADER_BYTES
    with at_most(20 * MEGA):
        assert reason_of(with_header(raw[1])) in ("malformed", "limit")


def test_sizes_in_the_preamble_allocate_nothing() -> None:
    with at_most(10_000):
        assert reason_of(b"A3C\x02\xff\xff\xff\xff") == "limit"
        assert reason_of(b"A3C\x02\xff\xff\x00\x00") == "malformed"


def test_an_unroll_is_checked_at_its_exact_worst_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step may be a truncated episode."""
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
