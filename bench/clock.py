"""How long a piece of work takes, in wall time and in the process's CPU time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call.

    Attributes:
        seconds: wall time, the median over rounds: one interruption does not count.
        cpu_share: CPU time over wall time of all rounds: far below 1 somebody else had the core
            (or the work sleeps), above 1 it used more than one.
        calls: that were timed.
    """

    seconds: float
    cpu_share: float
    calls: int


def cost_of(
    work: Callable[[], object], seconds: float, before: Callable[[], object] | None = None
) -> Cost:
    """Calls `work` for about so long, after one call that is not counted, and returns its cost.

    Args:
        work: to time.
        seconds: in all.
        before: called before every call, and not timed (but in `cpu_share`).
    """
    work()
    walls: list[float] = []
    calls = 0
    began, cpu_began = time.perf_counter(), time.process_time()
    for number in range(_ROUNDS):
        round_ends = began + seconds * (number + 1) / _ROUNDS
        spent, in_round = 0.0, 0
        while in_round == 0 or time.perf_counter() < round_ends:
            if before is not None:
                before()
            since = time.perf_counter()
            work()
            spent += time.perf_counter() - since
            in_round += 1
        walls.append(spent / in_round)
        calls += in_round
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return Cost(statistics.median(walls), cpu / wall, calls)
