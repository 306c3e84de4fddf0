"""Which senders' gradients point with the others, and which against them, again and again.

A gradient that points the wrong way, and no further than others, cannot be told from noise: on
Catch an honest actor's gradient has a cosine of 0.05 with the others', with a deviation of 0.08.
But over a hundred messages the sign shows.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from asyncade_proto.messages import Float32

_SHARE: Final = 32
"""A sketch has one in so many parameters, and some of every tensor."""

_SPAN: Final = 128
"""Gradients of a sender that its consistency looks back on."""

_ENOUGH: Final = 64
"""Gradients of a sender below which nothing is said of it."""

_OTHERS: Final = 2
"""With fewer others nobody can tell who points the wrong way."""

_ADVERSE: Final = -0.3
"""Consistency from which on a sender is adverse, and so far below the median of all, since with a
step size that is too large everybody points against the round before. Pure noise has 0, with a
deviation of 0.06."""

_SENDERS: Final = 256
"""Senders remembered, those heard of last."""


class Sketch:
    """A sample of a gradient's parameters: a block of every tensor, drawn once.

    Args:
        seed: of the blocks; None: nobody can know them.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = np.random.default_rng(seed)
        self._blocks: dict[str, slice] = {}

    def of(self, tensors: Mapping[str, Float32]) -> Float32:
        """Returns float32 [parameters of the blocks], for tensors of the same shapes every time."""
        if not self._blocks:
            self._blocks = {name: self._block(one.size) for name, one in tensors.items()}
        parts = [tensors[name].reshape(-1)[block] for name, block in self._blocks.items()]
        return np.concatenate(parts) if parts and tensors else np.zeros(0, np.float32)

    def _block(self, size: int) -> slice:
        length = -(-size // _SHARE)
        start = int(self._random.integers(size - length + 1))
        return slice(start, start + length)


@dataclass(slots=True)
class _Record:
    """A sender's part in the last two rounds, and its cosines with the others, averaged."""

    part: Float32
    round: int = -1
    before: Float32 | None = None
    count: int = 0
    mean: float = 0.0
    squared: float = 0.0

    def note(self, value: float) -> None:
        self.count += 1
        share = max(1 / self.count, 1 / _SPAN)
        self.mean += share * (value - self.mean)
        self.squared += share * (value**2 - self.squared)

    @property
    def consistency(self) -> float:
        """Mean over root mean square, in [-1, 1]: 1 if all cosines are alike and positive."""
        return self.mean / math.sqrt(self.squared) if self.squared > 0 else 0.0


class Agreement:
    """Compares every sender's sketch with what the others sent in the round before."""

    def __init__(self) -> None:
        self._round = 0
        self._sum: Float32 | None = None  # of this round
        self._before: Float32 | None = None  # sum of the round before
        self._senders, self._senders_before = set[str](), set[str]()
        self._records: OrderedDict[str, _Record] = OrderedDict()  # heard of last at the end

    def adverse(self, sender: str, sketch: Float32) -> float | None:
        """Notes a gradient; returns its sender's consistency if it is adverse, None if it is not.

        To be called once per gradient, whether or not it is then added.
        """
        record = self._record_of(sender, sketch)
        others = self._senders_before - {sender}
        if self._before is None or len(others) < _OTHERS:
            return None
        own = record.part if record.round == self._round - 1 else record.before
        mean = (
            self._before
            if sender not in self._senders_before or own is None
            else (self._before - own)
        )
        record.note(cosine(sketch, mean))
        if record.count < _ENOUGH or record.consistency > _ADVERSE:
            return None
        known = [one.consistency for one in self._records.values() if one.count >= _ENOUGH]
        below = record.consistency - statistics.median(known) <= _ADVERSE
        return record.consistency if below else None

    def add(self, sender: str, sketch: Float32, weight: float) -> None:
        """Notes that a gradient is part of this round's sum."""
        record = self._record_of(sender, sketch)
        part = np.float32(weight) * sketch
        if record.round == self._round:
            record.part = record.part + part
        else:
            record.before = record.part if record.round == self._round - 1 else None
            record.part, record.round = part, self._round
        self._sum = part if self._sum is None else self._sum + part
        self._senders.add(sender)

    def next_round(self) -> None:
        """Ends a round."""
        self._before, self._sum = self._sum, None
        self._senders_before, self._senders = self._senders, set()
        self._round += 1

    def _record_of(self, sender: str, sketch: Float32) -> _Record:
        record = self._records.pop(sender, None) or _Record(np.zeros_like(sketch))
        self._records[sender] = record
        if len(self._records) > _SENDERS:
            self._records.popitem(last=False)
        return record


def cosine(one: Float32, other: Float32) -> float:
    """Returns the cosine of the angle between two vectors; 0 if one of them is 0 or too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        squared = float(np.dot(one, one)) * float(np.dot(other, other))
        along = float(np.dot(one, other))
    if not (0 < squared < math.inf) or not math.isfinite(along):
        return 0.0
    return max(-1.0, min(1.0, along / math.sqrt(squared)))
