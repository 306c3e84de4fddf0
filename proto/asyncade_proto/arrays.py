"""Encodes and decodes one array: little-endian, C-order, a short list of dtypes.

`dtype` on the wire is numpy's ``dtype.str`` or ``float8_e5m2``: the upper half of a float16,
rounded to nearest even (Micikevicius et al. 2022, "FP8 formats for deep learning"). numpy has no
such type, so these arrays are float32 in memory on both ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields
from asyncade_proto.limits import MAX_ARRAY_BYTES, MAX_DIMENSIONS

FLOAT8: Final = "float8_e5m2"
DTYPES: Final = {"|u1": 1, "<i4": 4, "<f4": 4, FLOAT8: 1}
"""Allowed dtypes, with their bytes per element on the wire."""

_MAX_WINDOW_BYTES: Final = 8 * 2**20  # RFC 8878 asks this of every zstd decoder; level 1 needs less

Array = npt.NDArray[Any]
Buffer = bytes | memoryview

_FLOAT8_VALUES: Final = (np.arange(256, dtype="<u2") << 8).view("<f2").astype("<f4")
"""The number of each float8."""

_FLOAT8_PIECE: Final = 2**18
"""Numbers looked up at once: the indices stay in the processor's cache."""


class Packed(NamedTuple):
    """An encoded array.

    Attributes:
        description: its entry in the header, without its name.
        data: its bytes on the wire.
        array_bytes: its decoded size.
    """

    description: dict[str, Any]
    data: Buffer
    array_bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Dtype and shape from a description, checked against the limits before reading any data.

    Attributes:
        wire_dtype: one of `DTYPES`.
        shape: sizes of the axes.
        compressed: true if the bytes are one zstd frame.
    """

    wire_dtype: str
    shape: tuple[int, ...]
    compressed: bool

    @property
    def dtype(self) -> str:
        """The decoded array's dtype, as numpy's ``dtype.str``."""
        return "<f4" if self.wire_dtype == FLOAT8 else self.wire_dtype

    @property
    def wire_bytes(self) -> int:
        """Size on the wire, before compression."""
        return math.prod(self.shape) * DTYPES[self.wire_dtype]

    @property
    def array_bytes(self) -> int:
        """Decoded size in memory."""
        return math.prod(self.shape) * DTYPES[self.dtype]


def pack(array: Array, *, compress: bool = False, float8: bool = False) -> Packed:
    """Encodes an array.

    Args:
        array: uint8, int32 or float32.
        compress: compress with zstd level 1 (39 bytes per 84x84 frame of Pong).
        float8: quarter a float32 array; relative error up to 2**-3 (5% in the root of the mean
            square) from 2**-14 on, below it absolute up to 2**-17. Numbers from 61,440 on become
            infinite.

    Raises:
        TypeError: the dtype is not allowed on the wire.
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    name = little.dtype.str
    if float8 and name == "<f4":
        little, name = _to_float8(little), FLOAT8
    if name not in DTYPES:
        raise TypeError(f"dtype {array.dtype} is not on the wire's list: {list(DTYPES)}")
    data: Buffer = little.reshape(-1).view(np.uint8).data
    description = {"dtype": name, "shape": list(array.shape)}
    if compress and array.size:
        data = zstandard.ZstdCompressor(level=1).compress(data)
        description["compression"] = "zstd"
    return Packed(description | {"bytes": len(data)}, data, array.nbytes)


def read_layout(description: Fields) -> Layout:
    """Reads a description, without looking at any data.

    Raises:
        DecodeError: ``limit`` if the size is over a limit, otherwise ``malformed``.
    """
    layout = Layout(
        wire_dtype=description.choice("dtype", tuple(DTYPES)),
        shape=description.sizes("shape", at_most=MAX_DIMENSIONS),
        compressed=not description.absent("compression")
        and description.choice("compression", ("zstd",)) == "zstd",
    )
    # An axis of 0 counts as 1: [0, 2**60, 2**60] is an empty array but an error in numpy.
    size = math.prod(max(n, 1) for n in layout.shape) * DTYPES[layout.dtype]
    if size > MAX_ARRAY_BYTES:
        raise DecodeError("limit", f"an array of over {MAX_ARRAY_BYTES} bytes")
    if layout.compressed and layout.wire_bytes == 0:
        raise DecodeError("malformed", "an empty array is not compressed")
    return layout


def unpack(layout: Layout, data: Buffer) -> Array:
    """Decodes an array: read-only, aligned, and a view of `data` where possible.

    Allocates no more than the layout's size, of compressed float8 a quarter more, whatever the data
    contain.

    Raises:
        DecodeError: ``malformed``: the data do not match the layout.
    """
    data = uncompressed(layout, data)
    if layout.wire_dtype == FLOAT8:
        array = _from_float8(np.frombuffer(data, dtype="|u1"))
    else:
        array = np.frombuffer(data, dtype=layout.dtype)
        if not array.flags.aligned:  # buffers are not padded
            array = array.copy()
    array.flags.writeable = False
    return array.reshape(layout.shape)


def uncompressed(layout: Layout, data: Buffer) -> Buffer:
    """Returns an array's bytes as they are without compression: `data` itself if it has none.

    Raises:
        DecodeError: ``malformed``: the data do not match the layout.
    """
    if layout.compressed:
        data = _decompress(data, layout.wire_bytes)
    if len(data) != layout.wire_bytes:
        raise DecodeError("malformed", f"{len(data)} bytes, the shape needs {layout.wire_bytes}")
    return data


def _decompress(data: Buffer, expected: int) -> bytes:
    """Decompresses exactly `expected` bytes; refuses decompression bombs before unpacking.

    zstd allocates the content size that its frame header declares, so that is compared first.
    """
    try:
        declared = zstandard.frame_content_size(data)
        if declared != expected:  # -1 means undeclared
            raise DecodeError(
                "malformed", f"zstd declares {declared} bytes, the shape needs {expected}"
            )
        return bytes(
            zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompress(
                data, max_output_size=expected, allow_extra_data=False
            )
        )
    except zstandard.ZstdError as error:
        raise DecodeError("malformed", f"zstd: {error}") from error


def _from_float8(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Looks the numbers up piece by piece: numpy makes an index of 8 bytes of each one first."""
    numbers = np.empty(raw.size, "<f4")
    for start in range(0, raw.size, _FLOAT8_PIECE):
        piece = slice(start, start + _FLOAT8_PIECE)
        np.take(_FLOAT8_VALUES, raw[piece], out=numbers[piece], mode="clip")
    return numbers


def _to_float8(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    with np.errstate(over="ignore"):  # to infinity, which the receiver refuses
        bits = array.reshape(-1).astype("<f2").view("<u2")
    nan = np.isnan(array).reshape(-1)
    if nan.any():  # rounding can turn a NaN into infinity or 0, so NaNs become one fixed NaN
        bits[nan] = 0x7E00
    rounded = bits >> np.uint16(8)
    rounded &= np.uint16(1)
    rounded += np.uint16(0x7F)
    rounded += bits
    rounded >>= np.uint16(8)
    return rounded.astype("|u1")
