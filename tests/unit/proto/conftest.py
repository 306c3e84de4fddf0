from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from asyncade_proto.codec import decode
from asyncade_proto.messages import Message

VECTORS = Path(__file__).parents[3] / "proto" / "vectors"

Edit = Callable[[dict[str, Any]], object]
Forge = Callable[..., bytes]


@pytest.fixture(scope="session")
def frames() -> dict[str, bytes]:
    """The golden vectors: one valid frame of every kind."""
    return {path.stem: path.read_bytes() for path in sorted(VECTORS.glob("*.a3c"))}


@pytest.fixture(scope="session")
def messages(frames: dict[str, bytes]) -> dict[str, Message]:
    return {name: decode(frame) for name, frame in frames.items()}


@pytest.fixture(scope="session")
def forge() -> Forge:
    def forged(
        frame: bytes = b"", edit: Edit | None = None, *, raw: bytes | None = None, body: bytes = b""
    ) -> bytes:
        """A frame with another header: edited, or these raw bytes; `body` is appended."""
        if raw is None:
            end = 8 + struct.unpack_from("<I", frame, 4)[0]
            header = msgpack.unpackb(frame[8:end])
            if edit is not None:
                edit(header)
            raw, body = msgpack.packb(header), frame[end:] + body
        return b"A3C\x01" + struct.pack("<I", len(raw)) + raw + body

    return forged


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], bool]:
    def are(one: Any, other: Any) -> bool:
        """Bit for bit, so that NaN and -0.0 count too."""
        if isinstance(one, np.ndarray):
            return (one.dtype, one.shape, one.tobytes()) == (
                other.dtype,
                other.shape,
                other.tobytes(),
            )
        if is_dataclass(one):
            return type(one) is type(other) and all(
                are(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
            )
        if isinstance(one, dict):
            return list(one) == list(other) and all(are(one[key], other[key]) for key in one)
        return type(one) is type(other) and bool(one == other)

    return are
