"""Encodes messages into frames and decodes them.

One message is one ZeroMQ frame:

    "A3C" | version: u8 | header length: u32, little-endian | header: msgpack map | buffers

The header holds the scalars and, under ``buffers``, a list that describes the arrays; their bytes
follow in that order without padding. `MAX_HEADER_BYTES` bounds everything that msgpack builds, and
arrays are read in place.

Decoding executes nothing and raises only `DecodeError`, whatever the bytes are.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import msgpack
import numpy as np

from asyncade_proto import arrays
from asyncade_proto.arrays import Buffer, Packed
from asyncade_proto.buffers import Buffers
from asyncade_proto.errors import DecodeError, TooLargeError
from asyncade_proto.fields import Fields
from asyncade_proto.limits import (
    MAX_ARRAY_BYTES,
    MAX_BUFFERS,
    MAX_COUNT,
    MAX_HEADER_BYTES,
    MAX_MAP_ENTRIES,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_LENGTH,
)
from asyncade_proto.messages import Episodes, Gradients, Message, Trajectory, Weights
from asyncade_proto.reading import TENSOR_PREFIX, read_message

MAGIC: Final = b"A3C"
PROTOCOL_VERSION: Final = 2
_PREAMBLE: Final = struct.Struct("<3sBI")
_IDENTITY: Final = struct.Struct("<3sB")  # common to all protocol versions


@dataclass(frozen=True, slots=True)
class Sender:
    """What a message says of its sender.

    Attributes:
        kind: of the message.
        actor_id: as claimed.
        sequence: number of the message.
        policy_version: that it was made with.
    """

    kind: Literal["trajectory", "gradients"]
    actor_id: str
    sequence: int
    policy_version: int


def encode(message: Message, *, float8: bool = True) -> bytes:
    """Encodes a message as a frame.

    Args:
        message: numbers are not checked; the receiver refuses and counts NaNs.
        float8: of gradients, send the tensors in a quarter of the bytes; no other array is rounded.

    Raises:
        TooLargeError: the message is over a limit of the wire.
        TypeError: a dtype or a scalar type is not allowed on the wire.
    """
    match message:
        case Trajectory():
            header, buffers = _trajectory_parts(message)
        case Gradients():
            header, buffers = _gradients_parts(message, float8)
        case Weights():
            header, buffers = _weights_parts(message)
    described = [{"name": name} | packed.description for name, packed in buffers.items()]
    array_bytes = sum(packed.array_bytes for packed in buffers.values())
    _check_size(header["type"], "buffers", len(buffers), MAX_BUFFERS)
    _check_size(header["type"], "bytes of arrays", array_bytes, MAX_ARRAY_BYTES)
    return join(header | {"buffers": described}, [packed.data for packed in buffers.values()])


def decode(frame: Buffer) -> Message:
    """Decodes a frame. Arrays are read-only, and views of the frame where possible.

    Args:
        frame: as received; do not modify it afterwards.

    Raises:
        DecodeError: the frame is not a valid message; see `DecodeError.reason`.
    """
    header, body = split(frame)
    fields = Fields(header)
    return read_message(fields, Buffers(fields, body))


def split(frame: Buffer) -> tuple[dict[str, Any], memoryview]:
    """Splits a frame into its header and the buffers, for forwarding without decoding arrays.

    Of the header only the limits are checked.

    Raises:
        DecodeError: the frame has no valid preamble and header.
    """
    view = memoryview(frame)
    end = _end_of_header(view)
    return _read_header(view[_PREAMBLE.size : end]), view[end:]


def sender_of(frame: Buffer) -> Sender:
    """Returns who sent an upstream message, without reading its arrays.

    Raises:
        DecodeError: actors send no such message.
    """
    header, _ = split(frame)
    fields = Fields(header)
    return Sender(
        kind=fields.choice("type", ("trajectory", "gradients")),
        actor_id=fields.text("actor_id"),
        sequence=fields.integer("sequence", 0, MAX_COUNT - 1),
        policy_version=fields.integer("policy_version", 0, MAX_COUNT),
    )


def join(header: Mapping[str, Any], buffers: Sequence[Buffer]) -> bytes:
    """Joins a header and the buffers that it describes into a frame.

    Raises:
        TooLargeError: the frame is over a limit of the wire.
        TypeError: a value in the header cannot be packed.
    """
    packed: bytes = msgpack.packb(dict(header))
    size = _PREAMBLE.size + len(packed) + sum(len(buffer) for buffer in buffers)
    _check_size(header["type"], "bytes of header", len(packed), MAX_HEADER_BYTES)
    _check_size(header["type"], "bytes", size, MAX_MESSAGE_BYTES)
    return b"".join([_PREAMBLE.pack(MAGIC, PROTOCOL_VERSION, len(packed)), packed, *buffers])


def _check_size(kind: str, what: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLargeError(
            f"{kind} of {size} {what} exceeds the wire's limit of {limit}; "
            "use fewer environments, a shorter unroll or a smaller network"
        )


# --- encoding ----------------------------------------------------------------------------------


def _upstream_header(kind: str, message: Trajectory | Gradients) -> dict[str, Any]:
    return {
        "type": kind,
        "actor_id": message.actor_id,
        "sequence": message.sequence,
        "policy_version": message.policy_version,
        "model": message.model,
    }


def _episode_buffers(episodes: Episodes) -> dict[str, Packed]:
    return {
        "episode_returns": arrays.pack(episodes.returns),
        "episode_lengths": arrays.pack(episodes.lengths),
    }


def _trajectory_parts(message: Trajectory) -> tuple[dict[str, Any], dict[str, Packed]]:
    buffers = {
        "frames": arrays.pack(message.frames, compress=True),
        "actions": arrays.pack(message.actions, compress=True),
        "behaviour_log_probs": arrays.pack(message.behaviour_log_probs),
        "rewards": arrays.pack(message.rewards, compress=True),
        "ends": arrays.pack(message.ends, compress=True),
        "bootstrap_values": arrays.pack(message.bootstrap_values),
    }
    return _upstream_header("trajectory", message), buffers | _episode_buffers(message.episodes)


def _gradients_parts(message: Gradients, float8: bool) -> tuple[dict[str, Any], dict[str, Packed]]:
    header = _upstream_header("gradients", message) | {
        "samples": message.samples,
        "env_steps": message.env_steps,
        "losses": dict(message.losses),
    }
    points = {"points_won": message.points_won, "points_lost": message.points_lost}
    header |= {name: value for name, value in points.items() if value}
    tensors = {
        f"{TENSOR_PREFIX}{name}": arrays.pack(tensor, float8=float8)
        for name, tensor in message.tensors.items()
    }
    return header, tensors | _episode_buffers(message.episodes)


def _weights_parts(message: Weights) -> tuple[dict[str, Any], dict[str, Packed]]:
    assignment = asdict(message.assignment)
    if message.assignment.games is None:
        del assignment["games"]
    header = {
        "type": "weights",
        "run": message.run,
        "policy_version": message.policy_version,
        "model": message.model,
        "assignment": assignment,
        "received": dict(message.received),
    }
    if message.published_at is not None:
        header["published_at"] = message.published_at
    if message.unroll_lengths:
        header["unroll_lengths"] = dict(message.unroll_lengths)
    blob = np.frombuffer(message.safetensors, dtype=np.uint8)
    return header, {"safetensors": arrays.pack(blob)}


# --- decoding ----------------------------------------------------------------------------------


def _end_of_header(frame: memoryview) -> int:
    if len(frame) < _IDENTITY.size or frame[: len(MAGIC)].tobytes() != MAGIC:
        raise DecodeError("not_ours", f"a frame of {len(frame)} bytes without our magic")
    _, version = _IDENTITY.unpack_from(frame)
    if version != PROTOCOL_VERSION:
        raise DecodeError(
            "protocol_version",
            f"the peer has protocol version {version}, this is {PROTOCOL_VERSION}: "
            "run the same release on both ends",
        )
    if len(frame) > MAX_MESSAGE_BYTES:
        raise DecodeError("limit", f"a frame of {len(frame)} bytes, over {MAX_MESSAGE_BYTES}")
    if len(frame) < _PREAMBLE.size:
        raise DecodeError("malformed", f"a frame of {len(frame)} bytes")
    _, _, header_bytes = _PREAMBLE.unpack_from(frame)
    if header_bytes > MAX_HEADER_BYTES:
        raise DecodeError("limit", f"a header of {header_bytes} bytes, over {MAX_HEADER_BYTES}")
    end: int = _PREAMBLE.size + header_bytes
    if end > len(frame):
        raise DecodeError(
            "malformed", f"a header of {header_bytes} bytes in a frame of {len(frame)}"
        )
    return end


def _read_header(packed: memoryview) -> dict[str, Any]:
    try:
        # msgpack allocates a list's declared length before reading items, hence max_array_len.
        header = msgpack.unpackb(
            packed,
            object_pairs_hook=_unique,
            max_array_len=MAX_BUFFERS,
            max_map_len=MAX_MAP_ENTRIES,
            max_str_len=4 * MAX_TEXT_LENGTH,  # in bytes of UTF-8
            max_bin_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        # msgpack has no own exception type for limits. Its texts hold numbers, not payload.
        over = " exceeds max_" in str(error)
        raise DecodeError(
            "limit" if over else "malformed", f"the header: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(header, dict):
        raise DecodeError("malformed", "the header is not a map")
    return header


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Builds a map; refuses duplicate keys, of which readers could take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found
