"""The arrays of a message: cut where the header says, read only when somebody asks for one."""

from __future__ import annotations

from typing import Final

import numpy as np

from asyncade_proto import arrays
from asyncade_proto.arrays import Array
from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields
from asyncade_proto.limits import MAX_ARRAY_BYTES, MAX_BUFFERS, MAX_MESSAGE_BYTES

ANY: Final = None
"""In a wanted shape: an axis of any size."""


class Buffers:
    """What follows the header.

    A buffer is decompressed only once its dtype and shape have been found to be those wanted; one
    that nobody asks for costs nothing.

    Args:
        header: describes them under ``buffers``, in the order of their bytes.
        body: the bytes; every one must belong to exactly one buffer.

    Raises:
        DecodeError: the descriptions do not fit the body.
    """

    def __init__(self, header: Fields, body: memoryview) -> None:
        self._parts: dict[str, tuple[Fields, memoryview]] = {}
        self._bytes_left = MAX_ARRAY_BYTES
        start = 0
        for description in header.maps("buffers", at_most=MAX_BUFFERS):
            name = description.text("name")
            end = start + description.integer("bytes", 0, MAX_MESSAGE_BYTES)
            if name in self._parts:
                raise DecodeError("malformed", f"buffer {name} is there twice")
            self._parts[name] = description, body[start:end]
            start = end
        if start != len(body):
            raise DecodeError("malformed", f"buffers of {start} bytes, {len(body)} came")

    def names(self, prefix: str) -> list[str]:
        """Returns the names that begin so, in their order."""
        return [name for name in self._parts if name.startswith(prefix)]

    def take(self, name: str, dtype: str, shape: tuple[int | None, ...] | None) -> Array:
        """Returns one array.

        Args:
            name: of the buffer.
            dtype: as the array must have it once decoded.
            shape: as it must be; `ANY` for an axis of any size, None for any shape at all.

        Raises:
            DecodeError: it is missing, something else, too large, or has NaN or infinity in it.
        """
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
            raise DecodeError("limit", f"arrays of over {MAX_ARRAY_BYTES} bytes together")
        array = arrays.unpack(layout, data)
        if dtype == "<f4" and not np.isfinite(array).all():
            raise DecodeError("not_finite", f"{name} holds NaN or infinity")
        return array


def _fits(have: tuple[int, ...], want: tuple[int | None, ...] | None) -> bool:
    if want is None:
        return True
    return len(have) == len(want) and all(
        w is ANY or w == h for h, w in zip(have, want, strict=True)
    )
