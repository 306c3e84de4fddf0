"""Which senders' gradients point with the others, and which against them, again and again.

A gradient that points the wrong way, and no further than others, cannot be told from noise: on
Catch an honest actor's gradient has a cosine of 0.04 with the others', with a deviation of 0.07.
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

_SHARE: Final = 64
"""A sketch has one in so many parameters, and some of every tensor."""

_SPAN: Final = 128
"""Rounds of a sender that its consistency looks back on."""

_OTHERS: Final = 2
"""With fewer others nobody can tell who points the wrong way."""

_DEVIATIONS: Final = 5.0
"""A sender is adverse if its consistency is so many deviations below that of pure noise, 0."""

_BELOW_THE_REST: Final = 0.3
"""And so far below the median of the last round's senders: none is adverse where all disagree."""

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
        return np.concatenate(parts)

    def _block(self, size: int) -> slice:
        length = -(-size // _SHARE)
        start = int(self._random.integers(size - length + 1))
        return slice(start, start + length)


@dataclass(slots=True)
class _Record:
    """A sender's part in this round, and its cosines with the others in all rounds, averaged."""

    sketch: Float32 | None = None
    part: Float32 | None = None
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

    @property
    def deviation(self) -> float:
        """Standard deviation of the consistency of pure noise."""
        return 1 / math.sqrt(min(self.count, 2 * _SPAN)) if self.count else math.inf


class Agreement:
    """Compares every sender's gradient with the sum of the others' in the same round."""

    def __init__(self) -> None:
        self._sum: Float32 | None = None
        self._seen: set[str] = set()  # in this round
        self._median = 0.0  # consistency of the senders of the last round
        self._records: OrderedDict[str, _Record] = OrderedDict()  # heard of last at the end

    def adverse(self, sender: str, sketch: Float32) -> float | None:
        """Notes a gradient; returns its sender's consistency if it is adverse, None if it is not.

        A sender that is adverse is compared with the others all the same, and so may recover.
        """
        record = self._record_of(sender)
        record.sketch = sketch
        if record.consistency > -_DEVIATIONS * record.deviation:
            return None
        below = record.consistency - self._median <= -_BELOW_THE_REST
        return record.consistency if below else None

    def add(self, sender: str, sketch: Float32, weight: float) -> None:
        """Notes that a gradient is part of this round's sum."""
        record = self._record_of(sender)
        part = np.float32(weight) * sketch
        record.part = part if record.part is None else record.part + part
        if self._sum is None:
            self._sum = part.copy()
        else:
            self._sum += part

    def next_round(self) -> None:
        """Ends a round: now it is known what the others sent."""
        records = [self._records[one] for one in self._seen if one in self._records]
        parts = sum(one.part is not None for one in records)
        for one in records:
            own = one.sketch if one.part is None else one.part
            if self._sum is not None and own is not None:
                others = parts - (one.part is not None)
                sum_of_others = self._sum if one.part is None else self._sum - one.part
                if others >= _OTHERS:
                    one.note(cosine(own, sum_of_others))
            one.sketch = one.part = None
        self._median = statistics.median(one.consistency for one in records) if records else 0.0
        self._sum = None
        self._seen.clear()

    def _record_of(self, sender: str) -> _Record:
        record = self._records.pop(sender, None) or _Record()
        self._records[sender] = record
        self._seen.add(sender)
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
