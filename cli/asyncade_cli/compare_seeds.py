"""What several seeds of one mode come to: medians and spreads. No files in here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from asyncade_cli.compare_figures import Row, RunFigures, Shares


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds of a mode; `absent` counts the runs that have no such figure."""

    median: float | None
    low: float | None
    high: float | None
    runs: int
    absent: int

    @staticmethod
    def of(values: Iterable[float | None], *, absent_is_more: bool = False) -> Spread:
        """Returns the spread.

        Args:
            values: of each run; None where it has none.
            absent_is_more: a run has none because it never got there, so it counts as above every
                number, and the median is None when half of the runs have none. Otherwise it is
                left out of the median.
        """
        every = list(values)
        known = sorted(value for value in every if value is not None)
        absent = len(every) - len(known)
        ordered = [*known, *[math.inf] * (absent if absent_is_more else 0)]
        middle = statistics.median(ordered) if ordered else math.inf
        return Spread(
            median=middle if math.isfinite(middle) else None,
            low=known[0] if known else None,
            high=known[-1] if known else None,
            runs=len(every),
            absent=absent,
        )


SPREAD_FIGURES: Final = (
    "env_steps_to_target",
    "seconds_to_target",
    "env_steps",
    "seconds",
    "mean_return_100",
    "env_steps_per_second",
    "updates",
    "updates_per_second",
    "bytes_up_per_env_step",
    "bytes_up_per_second",
    "bytes_down_per_version",
    "bytes_down_per_second",
    "bytes_down_per_env_step",
    "env_steps_per_message",
    "policy_lag_mean",
    "messages_dropped",
    "messages_lost",
    "learner_core_seconds",
    "actor_core_seconds",
    "cores_used",
    "return_at_equal_seconds",
    "return_at_equal_env_steps",
)


@dataclass(frozen=True, kw_only=True)
class ModeFigures:
    """The runs of one mode.

    Attributes:
        mode: ``data`` or ``gradients``.
        runs: their figures.
        spreads: name, of `SPREAD_FIGURES`, to its spread over the seeds.
        learner_shares: median share of each stage.
        actor_shares: the same; None when no run was sampled.
    """

    mode: str
    runs: Sequence[RunFigures]
    spreads: Mapping[str, Spread]
    learner_shares: Shares
    actor_shares: Shares | None

    def median(self, name: str) -> float | None:
        """Returns the median of a figure over the seeds; None if half of the runs have none."""
        return self.spreads[name].median

    @property
    def reached(self) -> int:
        """In how many runs the target was reached."""
        return sum(run.seconds_to_target is not None for run in self.runs)

    @property
    def actors(self) -> int | None:
        """Actor processes of a run."""
        return self.runs[0].actors

    @property
    def cores(self) -> int | None:
        """Cores of the machine."""
        return self.runs[0].cores


@dataclass(frozen=True, kw_only=True)
class Equal:
    """Where all runs can be compared: as far as the shortest of them went.

    Attributes:
        seconds: of wall time, or None when a run has no rows.
        env_steps: the same in env steps.
    """

    seconds: float | None
    env_steps: float | None

    @staticmethod
    def of(runs: Iterable[Sequence[Row]]) -> Equal:
        """Returns the end of the shortest run, from the rows of every run."""
        ends = [rows[-1] if rows else None for rows in runs]
        known = [end for end in ends if end is not None]
        if not ends or len(known) < len(ends):
            return Equal(seconds=None, env_steps=None)
        return Equal(
            seconds=min(end["seconds"] for end in known),
            env_steps=min(end["env_steps"] for end in known),
        )


def mode_figures(
    mode: str, runs: Sequence[tuple[RunFigures, Sequence[Row]]], equal: Equal
) -> ModeFigures:
    """Returns the figures of a mode.

    Args:
        mode: ``data`` or ``gradients``.
        runs: figures and rows of each of its runs, at least one.
        equal: where to compare returns.
    """
    figures = [run for run, _ in runs]
    returns = {
        "return_at_equal_seconds": [_return_at(rows, "seconds", equal.seconds) for _, rows in runs],
        "return_at_equal_env_steps": [
            _return_at(rows, "env_steps", equal.env_steps) for _, rows in runs
        ],
    }
    spreads = {
        name: Spread.of(
            returns.get(name) or [getattr(run, name) for run in figures],
            absent_is_more=name.endswith("_to_target"),
        )
        for name in SPREAD_FIGURES
    }
    actor_shares = [run.actor_shares for run in figures if run.actor_shares]
    return ModeFigures(
        mode=mode,
        runs=figures,
        spreads=spreads,
        learner_shares=_median_shares([run.learner_shares for run in figures]),
        actor_shares=_median_shares(actor_shares) if actor_shares else None,
    )


def _return_at(rows: Sequence[Row], axis: str, limit: float | None) -> float | None:
    return None if limit is None else value_at(rows, axis, limit, "mean_return_100")


def value_at(rows: Sequence[Row], axis: str, limit: float, name: str) -> float | None:
    """Returns a figure of the last row whose `axis` is at most `limit`; None if it has none."""
    before = [row for row in rows if row.get(axis, 0) <= limit]
    return before[-1].get(name) if before else None


def _median_shares(shares: Sequence[Shares]) -> dict[str, float]:
    stages = dict.fromkeys(stage for one in shares for stage in one)
    return {stage: statistics.median(one.get(stage, 0.0) for one in shares) for stage in stages}
