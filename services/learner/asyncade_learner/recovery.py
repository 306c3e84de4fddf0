"""What may enter the model, and when to go back to the last good one. No I/O and no clock.

Three things are absurd, whatever the game: a gradient far beyond those before it, batch after batch
without a single update, and weights that grow tenfold between two checkpoints. All are figures of
the learner's own: what actors say of their losses decides nothing.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

TIMES_MEDIAN: Final = 1000.0
"""A gradient is absurd beyond this many times the median norm before it. Of honest ones the largest
was 12 times the median (Pong; Catch 5), 222 times with ten times the default step size. A wrecked
network's overflow, or exceed it by orders of magnitude (docs/experiments.md)."""

ORDINARY_NORM: Final = 1.0
"""A smaller median counts as this: without a reward for a long time gradients are tiny, and the
first point must not look absurd."""

NORMS_REMEMBERED: Final = 64

BARREN_BATCHES: Final = 3
"""Batches in a row of which every update was skipped: that is the model's fault. One or two can be
an actor's, whose game or machine is broken."""

TIMES_GROWN: Final = 10.0
"""Weights are wrecked if their norm is this many times that of the last checkpoint. Over the first
30,000 env steps of Catch it grew to 1.3 times, with 30 times the default step size to 4.2 times;
with 100 times, by when nothing is learned, to 14 times in one batch."""

ROLL_BACKS: Final = 3
"""Roll-backs without a recovery between them, after which the run ends. Each halves the step size:
one that is an eighth, and still wrecks the model at once, was not merely somewhat too large."""

RECOVERED_AFTER: Final = 64
"""Good batches after which a roll-back has helped."""


class RecentNorms:
    """Norms of the last gradients that were used, before the clip: the measure of the next ones.

    Args:
        norms: of an earlier process, oldest first.
    """

    def __init__(self, norms: Iterable[float] = ()) -> None:
        self._norms = deque(norms, maxlen=NORMS_REMEMBERED)

    def limit(self) -> float:
        """Returns the largest norm that is not absurd; infinite while none is known."""
        if not self._norms:
            return math.inf
        return TIMES_MEDIAN * max(statistics.median(self._norms), ORDINARY_NORM)

    def admit(self, norm: float) -> bool:
        """Returns whether a gradient may be used; if so, it is part of the measure from now on."""
        good = math.isfinite(norm) and norm <= self.limit()
        if good:
            self._norms.append(norm)
        return good

    def kept(self) -> list[float]:
        """Returns the norms, oldest first."""
        return list(self._norms)


@dataclass(slots=True)
class Recovery:
    """Decides when to go back to a checkpoint, and when that is no use any more.

    Attributes:
        halvings: of the step size so far.
        roll_backs: since the last recovery.
        lost: there was no checkpoint to go back to, so the model is not good.
    """

    halvings: int = 0
    roll_backs: int = 0
    lost: bool = False
    _barren: int = 0
    _good: int = 0

    @property
    def exhausted(self) -> bool:
        """True if going back has not helped: the run ends."""
        return self.lost or self.roll_backs >= ROLL_BACKS

    def wrecked(self, updates: int, skipped: int, growth: float) -> bool:
        """Returns whether the model must be replaced by that of a checkpoint.

        Args:
            updates: made with the last batch.
            skipped: updates of the last batch.
            growth: norm of the weights over that of the last checkpoint's; may be NaN.
        """
        if not growth <= TIMES_GROWN:
            return True
        if updates:
            self._barren = 0
            self._good += 1
        elif skipped:
            self._barren += 1
            self._good = 0
        if self._good >= RECOVERED_AFTER:
            self.roll_backs = 0
        return self._barren >= BARREN_BATCHES

    def rolled_back(self) -> None:
        """Notes that the model is that of a checkpoint again: the step size is halved."""
        self.halvings += 1
        self.roll_backs += 1
        self._barren = self._good = 0
