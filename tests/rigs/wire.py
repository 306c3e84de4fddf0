"""Frames to break: the golden vectors, and frames forged from them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from asyncade_proto.codec import decode
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Gradients, Message, Trajectory, Weights

Header = dict[str, Any]

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
FRAMES = {path.stem: path.read_bytes() for path in sorted(VECTORS.glob("*.a3c"))}
MESSAGES: dict[str, Message] = {name: decode(frame) for name, frame in FRAMES.items()}

TRAJECTORY, GRADIENTS, WEIGHTS = (
    MESSAGES[name] for name in ("trajectory", "gradients-float8", "weights")
)
assert isinstance(TRAJECTORY, Trajectory)
assert isinstance(GRADIENTS, Gradients)
assert isinstance(WEIGHTS, Weights)


def reason_of(frame: bytes) -> str | None:
    """Returns why a frame is refused; None if it is a message."""
    try:
        decode(frame)
    except DecodeError as error:
        return error.reason
    return None


def split(frame: bytes) -> tuple[Header, bytes]:
    """Returns the header and the bytes of the buffers."""
    end = 8 + struct.unpack_from("<I", frame, 4)[0]
    return msgpack.unpackb(frame[8:end]), frame[end:]


def with_header(raw: bytes, body: bytes = b"") -> bytes:
    """Returns a frame with these bytes for its header."""
    return b"A3C\x02" + struct.pack("<I", len(raw)) + raw + body


def forged(frame: bytes, edit: Callable[[Header], object], more: bytes = b"") -> bytes:
    """Returns the frame with an edited header and more bytes at its end."""
    header, body = split(frame)
    edit(header)
    return with_header(msgpack.packb(header), body + more)


def without_buffers(frame: bytes) -> bytes:
    """Returns the frame cut off behind its header."""
    return frame[: len(frame) - len(split(frame)[1])]


def same(one: Any, other: Any) -> bool:
    """True if messages are equal bit for bit, NaN and -0.0 included."""
    if isinstance(one, np.ndarray):
        facts = [(array.dtype, array.shape, array.tobytes()) for array in (one, other)]
        return facts[0] == facts[1]
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)
