"""The wire: `decode`, `split`, `join` and `encode` on one frame."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from asyncade_proto import limits
from asyncade_proto.codec import decode, encode, join, split
from asyncade_proto.errors import DECODE_REASONS, DecodeError, TooLargeError
from asyncade_proto.messages import Gradients, Message, Trajectory, Weights
from fuzz import frames
from fuzz.targets import Target
from rigs.wire import same

MEMORY: Final = limits.MAX_ARRAY_BYTES + limits.MAX_ARRAY_BYTES // 4 + 32 * 2**20
"""The arrays, a flag per number while it is checked, and the header's objects."""


def run(frame: bytes) -> None:
    """Decodes one frame; what is accepted keeps the limits and survives another round."""
    message = _decoded(frame)
    if message is None:
        return
    size = _within_limits(message)
    header, body = split(frame)
    try:
        assert split(join(header, [body])) == (header, body) or _has_nan(header)
    except TooLargeError:  # numbers may be longer in our packing
        assert len(frame) > limits.MAX_HEADER_BYTES // 4
    if size > 2**24:  # seen above; encoding it again shows nothing more
        return
    try:
        again = encode(message, float8=False)
    except TooLargeError:
        assert size > limits.MAX_MESSAGE_BYTES // 2
        return
    assert same(decode(again), message)


def _decoded(frame: bytes) -> Message | None:
    try:
        return decode(frame)
    except DecodeError as error:
        refused = error
    assert refused.reason in DECODE_REASONS
    assert len(refused.detail) < 300
    assert refused.detail.isprintable(), refused.detail
    return None


def _within_limits(message: Message) -> int:
    """Checks what SPEC.md promises of a message; returns the bytes of its arrays."""
    arrays: list[np.ndarray] = []
    for text in _texts(message):
        assert 1 <= len(text.encode()) <= limits.MAX_TEXT_LENGTH
        assert text.isprintable()
    match message:
        case Trajectory():
            steps, envs = message.actions.shape
            assert 1 <= steps <= limits.MAX_UNROLL_LENGTH
            assert 1 <= envs <= limits.MAX_ENVIRONMENTS
            assert message.frames.shape[:2] == (envs, steps + 4)
            assert message.env_steps == steps * envs
            arrays += [message.frames, message.actions, message.behaviour_log_probs]
            arrays += [message.rewards, message.ends, message.bootstrap_values]
        case Gradients():
            assert 1 <= message.samples <= limits.MAX_STEPS
            assert 0 <= message.env_steps <= limits.MAX_STEPS
            assert 1 <= len(message.tensors) <= limits.MAX_BUFFERS
            assert len(message.losses) <= limits.MAX_LOSSES
            assert all(map(math.isfinite, message.losses.values()))
            arrays += message.tensors.values()
        case Weights():
            assert len(message.received) <= limits.MAX_SENDERS
            assert 1 <= message.assignment.unroll_length <= limits.MAX_UNROLL_LENGTH
            assert 0 <= message.policy_version <= limits.MAX_COUNT
            assert isinstance(message.safetensors, bytes)
            return len(message.safetensors)
    assert 0 <= message.sequence < limits.MAX_COUNT
    assert 0 <= message.policy_version <= limits.MAX_COUNT
    arrays += [message.episodes.returns, message.episodes.lengths]
    assert len(message.episodes.returns) == len(message.episodes.lengths) <= limits.MAX_STEPS
    for array in arrays:
        assert array.ndim <= limits.MAX_DIMENSIONS
        assert not array.flags.writeable
        assert array.dtype != np.float32 or np.isfinite(array).all()
    size = sum(array.nbytes for array in arrays)
    assert size <= limits.MAX_ARRAY_BYTES
    return size


def _texts(message: Message) -> list[str]:
    match message:
        case Weights():
            task = message.assignment
            own = [task.game, task.network, *message.received, *message.unroll_lengths]
        case Gradients():
            own = [message.actor_id, *message.tensors, *message.losses]
        case Trajectory():
            own = [message.actor_id]
    return [message.model, *own]


def _has_nan(header: object) -> bool:
    """True if a header is not equal to itself: a NaN under a key that nobody reads."""
    match header:
        case float():
            return math.isnan(header)
        case dict():
            return any(map(_has_nan, [*header, *header.values()]))
        case list():
            return any(map(_has_nan, header))
    return False


TARGET: Final = Target(
    run=run, seeds=lambda: frames.SEEDS, mutate=frames.mutate, memory=MEMORY, largest=4096
)
