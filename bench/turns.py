"""Unit costs measured in turn with what they are held against.

A machine that others share changes its speed by a third within minutes, and costs of another moment
would be held against a rate. So costs are measured before and after each rate. One measurement of
one cost is noise, all of them together say how fast the machine is: what stands for a rate's costs
are the medians over all measurements, times how slow everything was just before and after it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TypeVar

from asyncade_cli.plan_costs import is_time

Measured = TypeVar("Measured")


class CostsInTurn:
    """Costs by name, again and again.

    Args:
        measure: measures all of them once; called at once, too.

    Attributes:
        measured: what it has returned so far.
    """

    def __init__(self, measure: Callable[[], dict[str, float]]) -> None:
        self._measure = measure
        self.measured = [measure()]

    def around(self, rate: Callable[[], Measured]) -> tuple[Measured, int]:
        """Returns what `rate` measures, and the number of the turn."""
        found = rate()
        self.measured.append(self._measure())
        return found, len(self.measured) - 2

    def median(self) -> dict[str, float]:
        """Returns the median of each cost over all measurements."""
        names = self.measured[0]
        return {name: statistics.median(one[name] for one in self.measured) for name in names}

    def slowness(self, turn: int) -> float:
        """Returns how long work took around a turn, over how long it usually takes."""
        middle = self.median()
        before, after = self.measured[turn : turn + 2]
        ratios = [
            (before[name] + after[name]) / 2 / middle[name]
            for name in filter(is_time, middle)
            if middle[name] > 0
        ]
        # A small difference of two measurements may come out as nothing, and says nothing then.
        return statistics.geometric_mean(ratio for ratio in ratios if ratio > 0)

    def costs(self, turn: int) -> dict[str, float]:
        """Returns the costs that stand for a turn's."""
        slowness = self.slowness(turn)
        return {
            name: cost * slowness if is_time(name) else cost for name, cost in self.median().items()
        }
