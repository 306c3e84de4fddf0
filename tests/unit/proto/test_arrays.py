"""Arrays on the wire: exact round trips, float8 rounding, refused descriptions and data."""

from __future__ import annotations

import math
import struct
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from asyncade_proto.arrays import Array, Packed, pack, read_layout, unpack
from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields
from asyncade_proto.limits import MAX_ARRAY_BYTES

FIXED = settings(derandomize=True, deadline=None, max_examples=100)

ANY_ARRAY: st.SearchStrategy[Array] = arrays(
    dtype=st.sampled_from([np.dtype(name) for name in ("u1", "<i4", "<f4", ">i4", ">f4")]),
    shape=array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4),
)


def unpacked(packed: Packed) -> Array:
    return unpack(read_layout(Fields(packed.description)), packed.data)


def reason_of(description: dict[str, Any], data: bytes = b"") -> str:
    with pytest.raises(DecodeError) as caught:
        unpack(read_layout(Fields(description)), data)
    return caught.value.reason


@FIXED
@given(array=ANY_ARRAY, compress=st.booleans())
def test_an_array_comes_back_bit_for_bit(array: Array, compress: bool) -> None:
    packed = pack(array, compress=compress)
    back = unpacked(packed)
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert packed.description["bytes"] == len(packed.data)
    assert packed.array_bytes == back.nbytes
    assert packed.description.get("compression") == ("zstd" if compress and array.size else None)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("float8", [False, True])
def test_an_array_is_decoded_in_little_more_memory_than_it_needs(
    compress: bool, float8: bool
) -> None:
    """A frame of two kilobytes can declare 256 MiB, but not make the receiver take 768."""
    array = np.zeros(2**24, np.float32)
    packed = pack(array, float8=float8)
    description, data = packed.description, bytes(packed.data)
    if compress:
        data = zstandard.ZstdCompressor(level=1).compress(data)
        description = description | {"compression": "zstd", "bytes": len(data)}
    tracemalloc.start()
    try:
        unpack(read_layout(Fields(description)), data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 1.3 * array.nbytes


@pytest.mark.parametrize(
    "view", [np.s_[::2], np.s_[::-1], np.s_[:, 1], np.s_[..., np.newaxis]], ids=str
)
def test_a_strided_view_is_sent_in_c_order(view: Any) -> None:
    array = np.arange(24, dtype=np.int32).reshape(4, 6).T[view]
    np.testing.assert_array_equal(unpacked(pack(array)), array)


@pytest.mark.parametrize("dtype", ["f8", "f2", "i8", "i1", "u2", "?", "O", "S3", "c8", "M8[s]"])
def test_other_dtypes_are_not_packed(dtype: str) -> None:
    with pytest.raises(TypeError, match="dtype"):
        pack(np.zeros(2, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("options", [{}, {"compress": True}, {"float8": True}], ids=str)
def test_unpacked_arrays_are_aligned_and_read_only(
    dtype: type, offset: int, options: dict[str, bool]
) -> None:
    packed = pack(np.arange(9, dtype=dtype), **options)
    data = memoryview(bytes(offset) + packed.data)[offset:]  # as in a frame
    back = unpacked(packed._replace(data=data))
    assert back.flags.aligned
    assert not back.flags.writeable
    np.testing.assert_array_equal(back, np.arange(9))


def float8_by_hand(number: float) -> float:
    """Rounds to the nearest float16, and that to the nearest float8; ties to an even last bit."""
    try:
        half = struct.unpack("<H", struct.pack("<e", abs(number)))[0]
    except OverflowError:
        return math.copysign(math.inf, number)
    if math.isnan(number) or math.isinf(number):
        return number

    def exactly(upper_byte: int) -> Fraction:
        if upper_byte == 0x7C:
            return Fraction(2) ** 16  # the next number, if there were one
        return Fraction(struct.unpack("<e", struct.pack("<H", upper_byte << 8))[0])

    exact = Fraction(struct.unpack("<e", struct.pack("<H", half))[0])
    errors = {byte: abs(exactly(byte) - exact) for byte in (half >> 8, (half >> 8) + 1)}
    nearest = min(errors, key=lambda byte: (errors[byte], byte % 2))
    rounded: float = struct.unpack("<e", struct.pack("<H", nearest << 8))[0]
    return math.copysign(rounded, number)


NUMBERS = [0.0, 1.0, 1.125, 1.375, 1.1249, 1.3751, 2.0**-16, 2.0**-17, 1.01 * 2.0**-17, 2.0**-24]
NUMBERS += [57_344.0, 61_439.0, 61_440.0, 65_519.0, 65_520.0, 3e38, math.inf, math.nan]
EDGES = [int(bits) for bits in np.array(NUMBERS, "<f4").view("<u4")]
EDGES += [1, 0x7F800001, 0x7FC00000, 0x7FFF8000, 0x7FFFFFFF]
EDGES += [bits | 0x80000000 for bits in EDGES]


@FIXED
@given(bits=st.lists(st.integers(0, 2**32 - 1) | st.sampled_from(EDGES), min_size=1))
def test_float8_rounds_to_the_nearest_even(bits: list[int]) -> None:
    exact = np.array(bits + EDGES, dtype="<u4").view("<f4")
    rounded = unpacked(pack(exact, float8=True))
    by_hand = np.array([float8_by_hand(float(number)) for number in exact], dtype=np.float32)
    np.testing.assert_array_equal(rounded, by_hand)
    numbers = ~np.isnan(exact)
    np.testing.assert_array_equal(np.signbit(rounded)[numbers], np.signbit(exact)[numbers])


def test_float8_quarters_the_bytes_of_floats_only() -> None:
    assert len(pack(np.ones(10, np.float32), float8=True).data) == 10
    assert pack(np.ones(10, np.int32), float8=True).description["dtype"] == "<i4"


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


ANYTHING_ELSE: list[Any] = [None, 1, "1", {}, [-1], [1.0], [True]]
FLOAT = {"dtype": "<f4", "shape": [1], "bytes": 4}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *(({"dtype": dtype}, "malformed") for dtype in ["<f8", "<u2", "|O", "f4", "", 4, None, []]),
        *(({"dtype": dtype}, "malformed") for dtype in [b"<f4", nested(400), {"dtype": "<f4"}]),
        *(({"shape": shape}, "malformed") for shape in ANYTHING_ELSE),
        *(({"shape": shape}, "malformed") for shape in [["1"], [None], [[1]], nested(400)]),
        ({"shape": [1] * 7}, "limit"),
        ({"shape": [2**26 + 1]}, "limit"),
        ({"shape": [2**64 - 1] * 6}, "limit"),
        # Empty, but numpy cannot make them: the product of the sizes overflows.
        ({"shape": [0, 2**40, 2**40]}, "limit"),
        ({"shape": [2**63, 0]}, "limit"),
        ({"dtype": "float8_e5m2", "shape": [2**26 + 1]}, "limit"),  # four bytes each once decoded
        *(({"compression": name}, "malformed") for name in ["gzip", "", "ZSTD", 1, True, ["zstd"]]),
        ({"shape": [0], "compression": "zstd"}, "malformed"),
        ({"shape": [2]}, "malformed"),
        ({"shape": [0]}, "malformed"),
        ({"dtype": "float8_e5m2"}, "malformed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_description_is_refused(change: dict[str, Any], reason: str) -> None:
    assert reason_of(FLOAT | change, bytes(4)) == reason


def test_a_layout_may_be_as_large_as_the_limit() -> None:
    layout = read_layout(Fields({"dtype": "<i4", "shape": [MAX_ARRAY_BYTES // 4]}))
    assert layout.array_bytes == layout.wire_bytes == MAX_ARRAY_BYTES


def zstd(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + bytes(4)
FOUR = zstd(bytes(4))


@pytest.mark.parametrize(
    "data",
    {
        "empty": b"",
        "not zstd": b"1234",
        "magic alone": FOUR[:4],
        "cut": FOUR[:-1],
        "trailing bytes": FOUR + b"z",
        "two frames": FOUR + FOUR,
        "skippable frame in front": SKIPPABLE + FOUR,
        "skippable frame behind": FOUR + SKIPPABLE,
        "size not declared": zstd(bytes(4), write_content_size=False),
        "less than the shape": zstd(bytes(3)),
        "more than the shape": zstd(bytes(5)),
        # Single-segment frames have the content size in one byte at offset 5.
        "declares more than it holds": zstd(bytes(3))[:5] + b"\x04" + zstd(bytes(3))[6:],
        "declares less than it holds": zstd(bytes(5))[:5] + b"\x04" + zstd(bytes(5))[6:],
        # Frame header descriptor 0x21: one byte of dictionary id follows.
        "wants a dictionary": FOUR[:4] + b"\x21\x07" + FOUR[5:],
    }.items(),
    ids=lambda item: item[0],
)
def test_a_wrong_zstd_frame_is_refused(data: tuple[str, bytes]) -> None:
    assert reason_of(FLOAT | {"compression": "zstd"}, data[1]) == "malformed"


@pytest.mark.parametrize("data", [b"", zstd(b""), zstd(b"") + b"trailing"])
def test_an_empty_array_is_not_compressed(data: bytes) -> None:
    assert reason_of({"dtype": "<f4", "shape": [3, 0], "compression": "zstd"}, data) == "malformed"


def test_a_truncated_zstd_frame_allocates_no_large_window() -> None:
    size = 2**25
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=24)
    data = zstd(noise, compression_params=parameters)
    description = {"dtype": "|u1", "shape": [size], "compression": "zstd"}
    assert unpack(read_layout(Fields(description)), data).tobytes() == noise
    with pytest.raises(DecodeError, match=r"malformed: zstd: .*memory"):
        unpack(read_layout(Fields(description)), data[:1000])
