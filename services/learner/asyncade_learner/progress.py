"""Counters of a run and its target: the part of a checkpoint that is not tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

GAMES_OF_THE_TARGET: Final = 100
"""The target is a mean return over this many games (above 18 on Pong)."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """The moment when a target was reached.

    Attributes:
        target: mean return of the last `GAMES_OF_THE_TARGET` games that was exceeded.
        env_steps: of the run until then.
        seconds: of the run until then.
    """

    target: float
    env_steps: int
    seconds: float


@dataclass(slots=True)
class Progress:
    """Counters of the whole run, summed over its learner processes.

    Attributes:
        env_steps: reported by actors, those of dropped messages included.
        updates: optimiser steps.
        policy_version: version of the last published weights.
        episodes: finished.
        seconds: run time of learner processes.
        received_bytes: of trajectories and gradients.
        recent_returns: of the last `GAMES_OF_THE_TARGET` games, oldest first.
        milestone: the last target that was reached.
    """

    env_steps: int = 0
    updates: int = 0
    policy_version: int = 0
    episodes: int = 0
    seconds: float = 0.0
    received_bytes: int = 0
    recent_returns: deque[float] = field(default_factory=lambda: deque(maxlen=GAMES_OF_THE_TARGET))
    milestone: Milestone | None = None

    def count_episodes(self, returns: Iterable[float]) -> None:
        """Adds the returns of finished episodes."""
        for value in returns:
            self.episodes += 1
            self.recent_returns.append(float(value))

    def mean_return(self) -> float | None:
        """Returns the mean over the recent games; None before the first one."""
        if not self.recent_returns:
            return None
        return sum(self.recent_returns) / len(self.recent_returns)

    def reached(self, target: float) -> bool:
        """True if there are `GAMES_OF_THE_TARGET` recent returns with a mean above the target."""
        mean = self.mean_return()
        full = len(self.recent_returns) == GAMES_OF_THE_TARGET
        return full and mean is not None and mean > target

    def passed(self, target: float | None) -> Milestone | None:
        """Returns when the target was reached; later losses do not undo that."""
        milestone = self.milestone
        return milestone if milestone is not None and milestone.target == target else None

    def note_passed(self, target: float | None) -> bool:
        """Records when the target was reached; returns True if that is now."""
        if target is None or self.passed(target) or not self.reached(target):
            return False
        self.milestone = Milestone(target, self.env_steps, self.seconds)
        return True

    def bytes_per_env_step(self) -> float | None:
        """Returns bytes received per env step; None before the first one."""
        return self.received_bytes / self.env_steps if self.env_steps else None
