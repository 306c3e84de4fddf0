"""How far a run has come: what a checkpoint must know besides tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

GAMES_OF_THE_TARGET: Final = 100
"""The mean return of this many last games decides (the method's author: above 18 on Pong)."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """When a target was passed.

    Attributes:
        target: mean return of the last `GAMES_OF_THE_TARGET` games that was passed.
        env_steps: as `Progress` has them.
        seconds: likewise.
    """

    target: float
    env_steps: int
    seconds: float


@dataclass(slots=True)
class Progress:
    """Counters of the whole run, over all its learner processes.

    Attributes:
        env_steps: steps of all environments that the learner was told of, dropped ones included.
        updates: optimiser steps.
        policy_version: publications.
        episodes: games finished.
        seconds: wall time of learner processes.
        received_bytes: of trajectories and gradients.
        recent_returns: of the last `GAMES_OF_THE_TARGET` games, oldest first.
        milestone: the last target that was passed.
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
        """Takes in the returns of games that ended."""
        for value in returns:
            self.episodes += 1
            self.recent_returns.append(float(value))

    def mean_return(self) -> float | None:
        """Returns the mean over the recent games; None before the first one."""
        if not self.recent_returns:
            return None
        return sum(self.recent_returns) / len(self.recent_returns)

    def reached(self, target: float) -> bool:
        """Tells whether the mean of a full count of recent games is above the target."""
        mean = self.mean_return()
        full = len(self.recent_returns) == GAMES_OF_THE_TARGET
        return full and mean is not None and mean > target

    def passed(self, target: float | None) -> Milestone | None:
        """Returns when the target was passed: games lost later do not take that back."""
        milestone = self.milestone
        return milestone if milestone is not None and milestone.target == target else None

    def note_passed(self, target: float | None) -> bool:
        """Keeps when the target was passed; returns whether that is now."""
        if target is None or self.passed(target) or not self.reached(target):
            return False
        self.milestone = Milestone(target, self.env_steps, self.seconds)
        return True

    def bytes_per_env_step(self) -> float | None:
        """Returns bytes received per env step; None before the first one."""
        return self.received_bytes / self.env_steps if self.env_steps else None
