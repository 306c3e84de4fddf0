"""The arrays of a message, decoded on request."""

from __future__ import annotations

from typing import Final

import numpy as np

from asyncade_proto import arrays
from asyncade_proto.arrays import Array, Layout
from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields
from asyncade_proto.limits import MAX_ARRAY_BYTES, MAX_BUFFERS, MAX_MESSAGE_BYTES

ANY: Final = None
"""In an expected shape: an axis of any size."""


class Buffers:
    """The part of a frame that follows the header.

    A buffer is decompressed only after its dtype and shape have been checked; buffers that are not
    requested cost nothing.

    Args:
        header: describes the buffers under ``buffers``, in the order of their bytes.
        body: the bytes; each belongs to exactly one buffer.

    Raises:
        DecodeError: the descriptions do not match the body.
    """

    def __init__(self, header: Fields, body: memoryview) -> None:
        self._parts: dict[str, tuple[Fields, memoryview]] = {}
        self._bytes_left = MAX_ARRAY_BYTES
        start = 0
        for description in header.maps("buffers", at_most=MAX_BUFFERS):
            name = description.text("name")
            end = start + description.integer("bytes", 0, MAX_MESSAGE_BYTES)
            if name in self._parts:
                raise DecodeError("malformed", f"duplicate buffer {name}")
            self._parts[name] = description, body[start:end]
            start = end
        if start != len(body):
            raise DecodeError("malformed", f"buffers of {start} bytes in a body of {len(body)}")

    def names(self, prefix: str) -> list[str]:
        """Returns the names that start with `prefix`, in order."""
        return [name for name in self._parts if name.startswith(prefix)]

    def take(self, name: str, dtype: str, shape: tuple[int | None, ...] | None) -> Array:
        """Decodes one array.

        Args:
            name: of the buffer.
            dtype: expected dtype of the decoded array.
            shape: expected shape; `ANY` for an axis of any size, None for any shape.

        Raises:
            DecodeError: the buffer is missing, has another dtype or shape, is too large, or
                contains NaN or infinity.
        """
        layout, data = self._checked(name, dtype, shape)
        array = arrays.unpack(layout, data)
        if dtype == "<f4" and not np.isfinite(array).all():
            raise DecodeError("not_finite", f"{name} contains NaN or infinity")
        return array

    def take_bytes(self, name: str) -> bytes:
        """Returns the bytes of an array of dtype uint8 and one axis, without a second copy.

        Raises:
            DecodeError: as `take`.
        """
        return bytes(arrays.uncompressed(*self._checked(name, "|u1", (ANY,))))

    def _checked(
        self, name: str, dtype: str, shape: tuple[int | None, ...] | None
    ) -> tuple[Layout, memoryview]:
        """Returns the layout of an array that may be decoded, and its bytes."""
        if name not in self._parts:
            raise DecodeError("malformed", f"buffer {name} is missing")
        description, data = self._parts[name]
        layout = arrays.read_layout(description)
        if layout.dtype != dtype or not _fits(layout.shape, shape):
            raise DecodeError(
                "malformed", f"{name} is {layout.dtype} {layout.shape}, not {dtype} {shape}"
            )
        self._bytes_left -= layout.array_bytes
        if self._bytes_left < 0:
            raise DecodeError("limit", f"arrays of more than {MAX_ARRAY_BYTES} bytes in total")
        return layout, data


def _fits(have: tuple[int, ...], want: tuple[int | None, ...] | None) -> bool:
    if want is None:
        return True
    return len(have) == len(want) and all(
        w is ANY or w == h for h, w in zip(have, want, strict=True)
    )
