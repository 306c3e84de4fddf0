"""Time accounting of a main loop: at any moment it is in exactly one stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from prometheus_client import Counter


class Stages:
    """Adds the time between two `enter` calls to the stage entered first.

    The stages' shares sum to one, so ``rate(..._stage_seconds_total)`` is a stage's share of the
    time. An update costs a microsecond: enter stages per unroll or vector step, not per game.

    Args:
        counter: with the single label ``stage``.
        names: all stages, so that each series exists from the start.
        clock: monotonic time in seconds.
    """

    def __init__(
        self, counter: Counter, names: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counters = {name: counter.labels(stage=name) for name in names}
        self._seconds = dict.fromkeys(names, 0.0)
        self._clock = clock
        self._current = names[0]
        self._since = clock()

    def enter(self, name: str, amount: int = 1) -> None:
        """Leaves the current stage and enters another.

        Args:
            name: of the stage.
            amount: of work in it (samples, games), for a subclass that charges its cost.
        """
        now = self._clock()
        self._counters[self._current].inc(now - self._since)
        self._seconds[self._current] += now - self._since
        self._current, self._since = name, now

    def seconds(self) -> dict[str, float]:
        """Returns the seconds spent in each stage, without the time since the last `enter`."""
        return dict(self._seconds)
