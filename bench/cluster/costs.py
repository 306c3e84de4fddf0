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


class ChargedStages(Stages):
    """Stages that take their time on a virtual clock: entering one sleeps for its cost.

    Args:
        stages: counts the virtual time.
        table: of costs.
        sleep: lets virtual time pass, in seconds.
    """

    def __init__(self, stages: Stages, table: Table, sleep: Callable[[float], None]) -> None:
        self._stages = stages
        self._table = table
        self._sleep = sleep

    def enter(self, name: str, amount: int = 1) -> None:
        """Leaves the current stage, enters another and lets the time for its work pass."""
        self._stages.enter(name, amount)
        self._sleep(cost(self._table, name, amount))

    def seconds(self) -> dict[str, float]:
        """Returns the virtual seconds spent in each stage."""
        return self._stages.seconds()


class Record:
    """CPU seconds of stages as they are run; see `RecordedStages`.

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


class RecordedStages(Stages):
    """Stages that record what they really cost.

    Args:
        stages: as before.
        record: shared by all processes of a cluster, which run one at a time.
        prefix: of the names in the record: who enters.
    """

    def __init__(self, stages: Stages, record: Record, prefix: str) -> None:
        self._stages = stages
        self._record = record
        self._prefix = prefix

    def enter(self, name: str, amount: int = 1) -> None:
        """Leaves the current stage and enters another."""
        self._stages.enter(name, amount)
        self._record.enter(f"{self._prefix}/{name}", amount)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds spent in each stage."""
        return self._stages.seconds()
