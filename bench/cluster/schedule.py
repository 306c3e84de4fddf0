"""Faults at random moments of a run on the virtual clock, all drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from bench.cluster.cluster import Faults

UNTIL_S: Final = 3600.0
"""Virtual seconds for which faults are drawn: longer than any run takes."""

LOST: Final = 0.01
"""Share of messages and of published weights that are lost."""

RESTART_EVERY_S: Final = 120.0
"""Mean time between two deaths of the learner, which saves every 30 s."""


def random_faults(seed: int, actors: int, every_s: float) -> Faults:
    """Returns kills and pauses of actors, deaths of the learner, and lost messages.

    Args:
        seed: of everything.
        actors: number of them.
        every_s: mean virtual seconds between two faults of any actor.
    """
    chance = random.Random(seed)
    killed, stopped = list[tuple[int, float, float]](), list[tuple[int, float, float]]()
    for time in _moments(chance, every_s, shortest=0.0):
        actor = chance.randrange(actors)
        if chance.random() < 0.5:
            killed.append((actor, time, chance.uniform(0.5, 5.0)))
        else:
            stopped.append((actor, time, time + chance.uniform(0.5, 10.0)))
    restarts = tuple(
        (time, chance.uniform(1.0, 5.0))
        for time in _moments(chance, RESTART_EVERY_S - 5.0, shortest=5.0)
    )
    return Faults(
        killed=tuple(killed), stopped=tuple(stopped), restarts=restarts, lost=LOST, seed=seed
    )


def _moments(chance: random.Random, mean_s: float, shortest: float) -> Iterator[float]:
    """Yields times, exponentially distributed, at least `shortest` apart."""
    now = 0.0
    while (now := now + shortest + chance.expovariate(1 / mean_s)) < UNTIL_S:
        yield now
