"""One array to bytes and back: little-endian, C-order, from a short list of dtypes.

`dtype` on the wire is numpy's ``dtype.str``, or ``bfloat16``: the upper half of a float32, rounded
to the nearest even, which numpy has no type for. Arrays are float32 on both ends of it.
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

BFLOAT16: Final = "bfloat16"
DTYPES: Final = {"|u1": 1, "<i4": 4, "<f4": 4, BFLOAT16: 2}
"""Allowed dtypes and their bytes per element on the wire."""

_MAX_WINDOW_BYTES: Final = 8 * 2**20  # what RFC 8878 asks of every zstd decoder, and level 1 of us

Array = npt.NDArray[Any]
Buffer = bytes | memoryview


class Packed(NamedTuple):
    """An array ready to be sent.

    Attributes:
        description: what the header says of it, all but its name.
        data: its bytes on the wire.
        array_bytes: its size once decoded.
    """

    description: dict[str, Any]
    data: Buffer
    array_bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What a description promises, within the limits; no byte of the array was read for it.

    Attributes:
        wire_dtype: one of `DTYPES`.
        shape: sizes of the axes.
        compressed: whether the bytes are one zstd frame.
    """

    wire_dtype: str
    shape: tuple[int, ...]
    compressed: bool

    @property
    def dtype(self) -> str:
        """The array's dtype once decoded, as numpy's ``dtype.str``."""
        return "<f4" if self.wire_dtype == BFLOAT16 else self.wire_dtype

    @property
    def wire_bytes(self) -> int:
        """Size on the wire, before compression."""
        return math.prod(self.shape) * DTYPES[self.wire_dtype]

    @property
    def array_bytes(self) -> int:
        """Size in memory once decoded."""
        return math.prod(self.shape) * DTYPES[self.dtype]


def pack(array: Array, *, compress: bool = False, bfloat16: bool = False) -> Packed:
    """Returns an array as it goes onto the wire.

    Args:
        array: uint8, int32 or float32.
        compress: zstd level 1 (frames: 39 bytes per 84x84 frame of Pong).
        bfloat16: halves a float32 array; relative error up to 2**-8. Numbers above 3.39e38 become
            infinite.

    Raises:
        TypeError: a dtype that is not on the list.
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    name = little.dtype.str
    if bfloat16 and name == "<f4":
        little, name = _to_bfloat16(little), BFLOAT16
    if name not in DTYPES:
        raise TypeError(f"dtype {array.dtype} has no place on the wire; use one of {list(DTYPES)}")
    data: Buffer = little.reshape(-1).view(np.uint8).data
    description = {"dtype": name, "shape": list(array.shape)}
    if compress and array.size:
        data = zstandard.ZstdCompressor(level=1).compress(data)
        description["compression"] = "zstd"
    return Packed(description | {"bytes": len(data)}, data, array.nbytes)


def read_layout(description: Fields) -> Layout:
    """Returns what a description says, without looking at any data.

    Raises:
        DecodeError: ``limit`` for a size over the limits, ``malformed`` for anything else.
    """
    layout = Layout(
        wire_dtype=description.choice("dtype", tuple(DTYPES)),
        shape=description.sizes("shape", at_most=MAX_DIMENSIONS),
        compressed=not description.absent("compression")
        and description.choice("compression", ("zstd",)) == "zstd",
    )
    # An axis of 0 counts as 1, or [0, 2**60, 2**60] would be a small array to us and an error to
    # numpy.
    size = math.prod(max(n, 1) for n in layout.shape) * DTYPES[layout.dtype]
    if size > MAX_ARRAY_BYTES:
        raise DecodeError("limit", f"an array of over {MAX_ARRAY_BYTES} bytes")
    if layout.compressed and layout.wire_bytes == 0:
        raise DecodeError("malformed", "an empty array is not compressed")
    return layout


def unpack(layout: Layout, data: Buffer) -> Array:
    """Returns the array: read-only, aligned, and a view of `data` where that is possible.

    Nothing larger than the layout's own size is allocated, whatever the data say.

    Raises:
        DecodeError: ``malformed``: the data are not what the layout promises.
    """
    if layout.compressed:
        data = _decompress(data, layout.wire_bytes)
    if len(data) != layout.wire_bytes:
        raise DecodeError("malformed", f"{len(data)} bytes where {layout.wire_bytes} were promised")
    if layout.wire_dtype == BFLOAT16:
        array = _from_bfloat16(np.frombuffer(data, dtype="<u2"))
    else:
        array = np.frombuffer(data, dtype=layout.dtype)
        if not array.flags.aligned:  # buffers begin wherever the one before ends
            array = array.copy()
    array.flags.writeable = False
    return array.reshape(layout.shape)


def _decompress(data: Buffer, expected: int) -> bytes:
    """Decompresses exactly `expected` bytes; a bomb is refused before it is unpacked.

    zstd allocates the content size its frame header declares, so that is compared first.
    """
    try:
        declared = zstandard.frame_content_size(data)
        if declared != expected:  # -1 is not declared
            raise DecodeError(
                "malformed", f"zstd declares {declared} bytes, the shape takes {expected}"
            )
        return bytes(
            zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompress(
                data, max_output_size=expected, allow_extra_data=False
            )
        )
    except zstandard.ZstdError as error:
        raise DecodeError("malformed", f"zstd: {error}") from error


def _to_bfloat16(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    bits = array.view("<u4")
    rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    # Rounded up, a NaN can wrap around to 0 and pass for a number; a fixed one cannot.
    rounded = np.where(np.isnan(array), np.uint32(0x7FC00000), bits + rounding)
    halves: npt.NDArray[np.uint16] = (rounded >> np.uint32(16)).astype("<u2")
    return halves


def _from_bfloat16(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    return (halves.astype("<u4") << np.uint32(16)).view("<f4")
