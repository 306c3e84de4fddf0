"""Counters of a run and its target: the part of a checkpoint that is not tensors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

GAMES_OF_THE_TARGET: Final = 100
"""The target is a mean return over this many games (above 18 on Pong)."""

_PLAYERS_ENOUGH: Final = GAMES_OF_THE_TARGET // 2
"""Senders whose games are enough for the target, however many are active."""

_FAIR_SHARES: Final = 2
"""Of the recent games no sender has more than this many times its share."""

WINDOW_ENV_STEPS: Final = 20_000
"""Env steps that the point share looks back on: some ten games of Pong."""


class RecentPoints:
    """Rewards of the last `WINDOW_ENV_STEPS`, as a measure of learning that has no lag.

    The mean of the last 100 games waits for games to end: with 128 games under way, for 190,000 env
    steps. On Pong a share of 0.75 is a mean return of 18.
    """

    def __init__(self) -> None:
        self._parts: deque[tuple[int, float, float]] = deque()
        self._env_steps = 0
        self._won = self._lost = 0.0
        self._two_sided = False

    def count(self, env_steps: int, won: float, lost: float) -> None:
        """Adds the play of one message.

        Args:
            env_steps: played.
            won: sum of its positive rewards.
            lost: sum of its negative rewards, without the sign.
        """
        self._parts.append((env_steps, won, lost))
        self._env_steps += env_steps
        self._won += won
        self._lost += lost
        self._two_sided |= lost > 0
        while self._env_steps - self._parts[0][0] >= WINDOW_ENV_STEPS:
            old_steps, old_won, old_lost = self._parts.popleft()
            self._env_steps -= old_steps
            self._won -= old_won
            self._lost -= old_lost

    @property
    def full(self) -> bool:
        """True once the window is full."""
        return self._env_steps >= WINDOW_ENV_STEPS

    def share(self) -> float | None:
        """Returns (won - lost) / (won + lost), in [-1, 1]; None in a game that takes no points."""
        played = self._won + self._lost
        return (self._won - self._lost) / played if self._two_sided and played > 0 else None

    def reward_per_env_step(self) -> float | None:
        """Returns the mean reward of an env step; None before the first one."""
        return (self._won - self._lost) / self._env_steps if self._env_steps else None


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
        recent_players: who reported the newest of them. Not in a checkpoint: of a resumed run's
            first games nobody knows who played them.
        milestone: the last target that was reached.
    """

    env_steps: int = 0
    updates: int = 0
    policy_version: int = 0
    episodes: int = 0
    seconds: float = 0.0
    received_bytes: int = 0
    recent_returns: deque[float] = field(default_factory=lambda: deque(maxlen=GAMES_OF_THE_TARGET))
    recent_players: deque[str] = field(
        default_factory=lambda: deque(maxlen=GAMES_OF_THE_TARGET), compare=False
    )
    milestone: Milestone | None = None

    def count_episodes(self, returns: Iterable[float], player: str = "", active: int = 1) -> None:
        """Adds the returns of finished episodes.

        A sender that reports more than twice its share of games replaces its own, not those of
        others.

        Args:
            returns: in order.
            player: who reported them.
            active: number of active senders.
        """
        most = max(_FAIR_SHARES, math.ceil(_FAIR_SHARES * GAMES_OF_THE_TARGET / max(1, active)))
        for value in returns:
            self.episodes += 1
            if self.recent_players.count(player) >= most:
                own = self.recent_players.index(player)
                del self.recent_returns[own + self._of_unknown()]
                del self.recent_players[own]
            self.recent_returns.append(float(value))
            self.recent_players.append(player)

    def mean_return(self) -> float | None:
        """Returns the mean over the recent games; None before the first one."""
        if not self.recent_returns:
            return None
        return sum(self.recent_returns) / len(self.recent_returns)

    def reached(self, target: float, active: int = 1) -> bool:
        """True if there are `GAMES_OF_THE_TARGET` recent returns with a mean above the target.

        They are what senders claim, so they must be games of most senders. Each game of which
        nobody knows the player may be another one's: a resumed run need not wait.

        Args:
            target: mean return to exceed.
            active: number of active senders.
        """
        mean = self.mean_return()
        full = len(self.recent_returns) == GAMES_OF_THE_TARGET
        players = len(set(self.recent_players)) + self._of_unknown()
        most = players >= min(active // 2 + 1, _PLAYERS_ENOUGH)
        return full and most and mean is not None and mean > target

    def _of_unknown(self) -> int:
        return len(self.recent_returns) - len(self.recent_players)

    def passed(self, target: float | None) -> Milestone | None:
        """Returns when the target was reached; later losses do not undo that."""
        milestone = self.milestone
        return milestone if milestone is not None and milestone.target == target else None

    def note_passed(self, target: float | None, active: int = 1) -> bool:
        """Records when the target was reached; returns True if that is now. See `reached`."""
        if target is None or self.passed(target) or not self.reached(target, active):
            return False
        self.milestone = Milestone(target, self.env_steps, self.seconds)
        return True

    def bytes_per_env_step(self) -> float | None:
        """Returns bytes received per env step; None before the first one."""
        return self.received_bytes / self.env_steps if self.env_steps else None
