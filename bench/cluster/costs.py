"""What each stage of the services costs, measured on a machine; the only thing that is modelled."""

from __future__ import annotations

import bisect
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeAlias

from asyncade_runtime.stages import Stages

Table: TypeAlias = Mapping[str, Mapping[str, float]]
"""Stage, then amount of work (as text, for JSON), to seconds; see `Stages.enter`."""


def cost(table: Table, stage: str, amount: int) -> float:
    """Returns the seconds of a stage: measured, or on the line between measured amounts.

    A stage that is not in the table costs nothing. Beyond the amounts that were measured the line
    through the last two goes on; for a single one the cost does not depend on the amount.
    """
    measured = sorted((int(a), seconds) for a, seconds in table.get(stage, {}).items())
    if not measured:
        return 0.0
    if len(measured) == 1:
        return measured[0][1]
    high = min(max(bisect.bisect_left(measured, (amount, 0.0)), 1), len(measured) - 1)
    (a0, s0), (a1, s1) = measured[high - 1], measured[high]
    return max(0.0, s0 + (s1 - s0) * (amount - a0) / (a1 - a0))


class Record:
    """CPU seconds of stages as they are run; see `WatchedStages`.

    A process that shares its cores with others is measured right: only its own time counts.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.clock = clock
        self._taken: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._current: tuple[str, int] | None = None
        self._since = clock()

    def enter(self, name: str, amount: int) -> None:
        """Ends the stage before, whoever's it was, and begins one."""
        now = self.clock()
        if self._current is not None:
            self._taken[self._current].append(now - self._since)
        self._current, self._since = (name, amount), self.clock()

    def table(self, at_least: int = 3) -> dict[str, dict[str, float]]:
        """Returns the median of each stage and amount that occurred `at_least` times."""
        found: dict[str, dict[str, float]] = {}
        for (name, amount), seconds in sorted(self._taken.items()):
            if len(seconds) >= at_least:
                found.setdefault(name, {})[str(amount)] = statistics.median(seconds)
        return found


class WatchedStages(Stages):
    """Stages that tell what is entered, so that its cost can be charged or recorded.

    Args:
        stages: count the time.
        entered: called with name and amount after a stage was entered.
    """

    def __init__(self, stages: Stages, entered: Callable[[str, int], None]) -> None:
        self._stages = stages
        self._entered = entered

    def enter(self, name: str, amount: int = 1) -> None:
        """Leaves the current stage, enters another and tells so."""
        self._stages.enter(name, amount)
        self._entered(name, amount)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds spent in each stage."""
        return self._stages.seconds()
