"""What the rows of a run say beside their figures: its curve, its limit, and the time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any, Final, TypeAlias

from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.bottleneck import Bottleneck, bottleneck

Row: TypeAlias = Mapping[str, Any]

BARS: Final = "▁▂▃▄▅▆▇█"
ASCII_BARS: Final = "_.-=+*#@"

_RECENT_ROWS: Final = 30
"""A minute by default: single rows vary, since a batch takes about as long as a report."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a run.

    Attributes:
        env_steps: limit, counted from the beginning of the run.
        seconds: limit of this sitting.
        target: mean return above which the cooldown begins.
        cooldown: env steps after the target, over those before it.
    """

    env_steps: int | None = None
    seconds: float | None = None
    target: float | None = None
    cooldown: float = 0.0

    @staticmethod
    def of(learner: LearnerSettings) -> Ends:
        """Returns what ends the run of a learner."""
        minutes = learner.max_minutes
        return Ends(
            env_steps=learner.max_env_steps,
            seconds=None if minutes is None else minutes * 60,
            target=learner.target,
            cooldown=learner.cooldown,
        )


@dataclass(slots=True)
class Outlook:
    """Reads rows of one run in order, those of earlier sittings first.

    Attributes:
        ends: of the run.
        returns: `mean_return_100` of every row that has one.
    """

    ends: Ends
    returns: list[float] = field(default_factory=list)
    _recent: deque[Row] = field(default_factory=lambda: deque(maxlen=_RECENT_ROWS))
    _began_at: float = 0.0
    _updates_before: int = 0

    def continues(self, rows: Iterable[Row]) -> None:
        """Reads the rows of earlier sittings: they belong to the curve, not to the pace."""
        for row in rows:
            self.add(row)
            self._began_at = row.get("seconds", 0.0)
            self._updates_before = row.get("updates", 0)
        self._recent.clear()

    def add(self, row: Row) -> None:
        """Reads a row; the same row again, or an empty one, changes nothing."""
        if not row or (self._recent and row == self._recent[-1]):
            return
        self._recent.append(row)
        if row.get("mean_return_100") is not None:
            self.returns.append(row["mean_return_100"])

    def pace(self) -> float | None:
        """Returns the recent env steps per second; None before the first ones."""
        if len(self._recent) < 2:
            return None
        first, last = self._recent[0], self._recent[-1]
        seconds = last.get("seconds", 0) - first.get("seconds", 0)
        played = last.get("env_steps", 0) - first.get("env_steps", 0)
        return played / seconds if seconds > 0 and played > 0 else None

    def bottleneck(self) -> Bottleneck | None:
        """Returns what limits the run at present, with learner and actors on one machine.

        None until the first update: the learner waits for actors that are still starting.
        """
        trained = [row for row in self._recent if row.get("updates", 0) > self._updates_before]
        shares = [row["stage_shares"] for row in trained if row.get("stage_shares")]
        names = {name for one in shares for name in one}
        means = {name: fmean(one.get(name, 0.0) for one in shares) for name in names}
        return bottleneck(means, one_machine=True)

    def time_left(self) -> str | None:
        """Returns the time left at this pace, and until what; None while that is unknown.

        When a return will be reached is not foretold: curves lie flat, rise at once and flatten.
        """
        if not self._recent:
            return None
        row, pace = self._recent[-1], self.pace()
        steps, target = row.get("env_steps", 0), self.ends.target
        ends: list[tuple[float, str]] = []
        if self.ends.seconds is not None:
            spent = row.get("seconds", 0.0) - self._began_at
            ends.append((self.ends.seconds - spent, "to the time limit"))
        if self.ends.env_steps is not None and pace:
            limit = self.ends.env_steps
            ends.append(((limit - steps) / pace, f"to {limit:,} env steps"))
        passed = row.get("target_env_steps")
        if passed is not None and pace:
            ends.append(((passed * (1 + self.ends.cooldown) - steps) / pace, "of cooldown"))
        waits = target is not None and passed is None
        if not ends:
            return f"until the return is above {target:g}" if waits else None
        seconds, what = min(ends)
        return f"{'at most ' * waits}{clock(max(seconds, 0.0))} {what}"


def clock(seconds: float) -> str:
    """Returns ``2:05``, or ``1:02:05`` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """Returns the values as bars from the lowest to the highest, at most `width` of them.

    More values than that are averaged over equal stretches. Equal values are lowest bars.
    """
    count = min(width, len(values))
    edges = [number * len(values) // count for number in range(count + 1)] if count else []
    means = [fmean(values[start:end]) for start, end in pairwise(edges)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    span = (high - low) or 1.0
    return "".join(bars[round((mean - low) / span * (len(bars) - 1))] for mean in means)
