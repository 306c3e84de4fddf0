"""What can be wrong with bytes from outside."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

DecodeReason: TypeAlias = Literal[
    "not_ours", "protocol_version", "limit", "malformed", "not_finite"
]

DECODE_REASONS: tuple[DecodeReason, ...] = get_args(DecodeReason)


class DecodeError(ValueError):
    """A frame that is no message.

    Attributes:
        reason: one of `DECODE_REASONS`, fit for a metric's label: ``not_ours`` (no Asyncade frame),
            ``protocol_version`` (another version of the wire), ``limit`` (larger than allowed),
            ``malformed`` (not as `proto/SPEC.md` says), ``not_finite`` (NaN or infinity in it).
        detail: one phrase for the log. Sizes and names only, never the payload.
    """

    def __init__(self, reason: DecodeReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: DecodeReason = reason
        self.detail = detail
