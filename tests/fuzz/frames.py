"""Frames that are mostly right: one field of the header or one array is not what it was.

Reads and writes them without `asyncade_proto`, whose encoder would refuse them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgpack
import zstandard

from fuzz.targets import Mutation
from rigs.wire import FRAMES

SEEDS: Final = tuple(FRAMES.values())

_SIZES: Final = {"|u1": 1, "<i4": 4, "<f4": 4, "float8_e5m2": 1, "<f8": 8, "|O": 8}

_BOMB: Final = 1 / 5000
"""How often an array is made as large as the wire allows: that takes a tenth of a second."""

_MOST: Final = 256 * 2**20

ODD: Final[Sequence[Any]] = (
    *(None, True, False, 0, 1, -1, 2, 3, 4, 5, 7, 10, 84, 255, 256, 257, 1023, 1024, 1025),
    *(2**20, 2**20 + 1, 2**26, 2**28, 2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**53 + 1),
    *(2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, 0.5, 1.0, 1e-320, 1e6, 1e300, float("nan"), float("inf"), float("-inf")),
    *("", "a", "b", "weight", "bias", "tensors/", "tensors/weight", "frames", "actions", "ends"),
    *("zstd", "gradients", "trajectory", "trajectories", "weights", *_SIZES),
    *("x" * 128, "x" * 129, "\u00e9" * 64, "\u00e9" * 65, "\x00", "a\nb", "\u202e", "relay"),
    *([], {}, [0], [1, 1], [2**28], [2**14, 2**14], [0, 2**60], [1] * 6, [1] * 7, [[]] * 3),
    *({"a": 1}, {"a": 2**53}, {"a": float("nan")}, {"a": {"a": {}}}),
    *({str(n): n for n in range(17)}, {"buffers": []}, b"bytes", [{}] * 257),
)
"""Values at and around the limits of the wire, and of types that do not belong."""


def unpacked(frame: bytes) -> tuple[Any, list[bytes]]:
    """Returns the header and the bytes of each array, the last of them unused bytes.

    Raises:
        ValueError: the frame has no header that could be edited.
    """
    if len(frame) < 8:
        raise ValueError
    end = 8 + struct.unpack_from("<I", frame, 4)[0]
    header = msgpack.unpackb(frame[8:end], strict_map_key=False)
    if not isinstance(header, dict):
        raise ValueError
    parts, start = [], end
    buffers = header.get("buffers")
    for described in buffers if isinstance(buffers, list) else []:
        size = described.get("bytes") if isinstance(described, dict) else None
        size = size if isinstance(size, int) and 0 <= size <= len(frame) else 0
        parts.append(frame[start : start + size])
        start += size
    return header, [*parts, frame[start:]]


def packed(header: Any, parts: Sequence[bytes]) -> bytes:
    """Returns a frame."""
    raw = msgpack.packb(header)
    return b"A3C\x02" + struct.pack("<I", len(raw)) + raw + b"".join(parts)


def mutate(frame: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    """Returns the frame with one to three changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.08:
            frame = plainly(frame)
            continue
        try:
            header, parts = unpacked(frame)
            edit = rng.choice((_value, _value, _key, _array, _array, _content, _content, _lengths))
            edit(header, parts, rng, plainly)
            frame = packed(header, parts)
        except (
            *(ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError),
            *(struct.error, msgpack.UnpackException, zstandard.ZstdError),
        ):
            frame = rng.choice(SEEDS)  # broken beyond editing
    return frame


def _place(header: Any, rng: random.Random) -> tuple[Any, Any]:
    """Returns a container somewhere in the header, and one of its keys."""
    inside = header
    while True:
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        key = rng.choice(keys)
        if not (isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.8):
            return inside, key
        inside = inside[key]


def odd(value: Any, rng: random.Random, plainly: Mutation) -> Any:
    """Returns another value, often of the same type or near the old one."""
    if isinstance(value, int | float) and rng.random() < 0.4:
        return value + rng.choice((-1, 1, -2, 2, 0.5, 2**20))
    if isinstance(value, str) and rng.random() < 0.3:
        return plainly(value.encode()).decode(errors="replace")
    return rng.choice(ODD)


def _value(header: Any, parts: list[bytes], rng: random.Random, plainly: Mutation) -> None:
    inside, key = _place(header, rng)
    inside[key] = odd(inside[key], rng, plainly)


def _key(header: Any, parts: list[bytes], rng: random.Random, plainly: Mutation) -> None:
    inside, key = _place(header, rng)
    value = inside[key]
    match rng.randrange(3):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, dict):
            inside[rng.choice(("a", "games", "clip", 5, "points_won", "x" * 129))] = value
        case _ if isinstance(inside, list):
            inside.insert(rng.randrange(len(inside) + 1), value)


def _array(header: Any, parts: list[bytes], rng: random.Random, plainly: Mutation) -> None:
    """Gives an array another dtype and shape, with as many bytes as they need."""
    at = rng.randrange(len(header["buffers"]))
    described = header["buffers"][at]
    if rng.random() < 0.5:
        described["dtype"] = rng.choice(list(_SIZES))
    shape = described["shape"]
    if rng.random() < 0.7 and shape:
        shape[rng.randrange(len(shape))] = rng.choice((0, 1, 2, 3, 4, 5, 9, 64, 257, 1025))
    elif rng.random() < 0.2:
        described["shape"] = shape = rng.choice(([], [1], [0], [7], [2, 3], [1, 1, 1, 1, 1, 1]))
    per = _SIZES.get(described["dtype"], 1)
    if rng.random() < _BOMB:
        described["shape"] = shape = [_MOST // per + rng.choice((-1, 0, 0, 1))]
    size = per
    for axis in shape:
        size *= axis
    if size > _MOST + 2**10:
        raise ValueError
    _put(header, parts, at, (rng.choice((b"\0", b"\0", b"\x3c", b"\xff")) * size))


def _content(header: Any, parts: list[bytes], rng: random.Random, plainly: Mutation) -> None:
    """Changes what an array holds, under the compression too."""
    at = rng.randrange(len(header["buffers"]))
    data = parts[at]
    if header["buffers"][at].get("compression") == "zstd":
        if zstandard.frame_content_size(data) > 2**20:
            raise ValueError
        data = zstandard.ZstdDecompressor().decompress(data, max_output_size=2**20)
    size = len(data)
    odd_number = struct.pack("<f", rng.choice((0, 1, -1, 3e38, -3e38, 1e-45, float("nan"), 9e9)))
    if size >= 4 and rng.random() < 0.5:
        where = 4 * rng.randrange(size // 4)
        data = data[:where] + odd_number + data[where + 4 :]
    else:
        data = plainly(data)
    if rng.random() < 0.9:  # the length stays what the shape says
        data = data[:size].ljust(size, b"\0")
    _put(header, parts, at, data)


def _put(header: Any, parts: list[bytes], at: int, data: bytes) -> None:
    if header["buffers"][at].get("compression") == "zstd" or len(data) > 2**16:
        header["buffers"][at]["compression"] = "zstd"
        data = zstandard.ZstdCompressor(level=1).compress(data)
    header["buffers"][at]["bytes"] = len(data)
    parts[at] = data


def _lengths(header: Any, parts: list[bytes], rng: random.Random, plainly: Mutation) -> None:
    """Breaks the account of the bytes, or adds bytes to the end."""
    match rng.randrange(3):
        case 0:
            described = rng.choice(header["buffers"])
            described["bytes"] = odd(described["bytes"], rng, plainly)
        case 1:
            parts.append(b"\0" * rng.choice((1, 4, 300)))
        case _:
            at = rng.randrange(len(header["buffers"]))
            header["buffers"].append(dict(header["buffers"][at], name=rng.choice(ODD[-60:])))
            parts.insert(len(parts) - 1, parts[at])
