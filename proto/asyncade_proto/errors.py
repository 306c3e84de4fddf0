"""Errors of encoding and decoding."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

DecodeReason: TypeAlias = Literal[
    "not_ours", "protocol_version", "limit", "malformed", "not_finite"
]

DECODE_REASONS: tuple[DecodeReason, ...] = get_args(DecodeReason)


class TooLargeError(ValueError):
    """A message exceeds a limit of the wire. The message names the cure."""


class DecodeError(ValueError):
    """The frame is not a valid message.

    Attributes:
        reason: one of `DECODE_REASONS`, usable as a metric label: ``not_ours`` (not an Asyncade
            frame), ``protocol_version`` (another protocol version), ``limit`` (over a limit),
            ``malformed`` (violates `proto/SPEC.md`), ``not_finite`` (contains NaN or infinity).
        detail: explanation for the log. Sizes and names only, never the payload.
    """

    def __init__(self, reason: DecodeReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: DecodeReason = reason
        self.detail = detail
