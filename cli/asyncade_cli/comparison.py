"""Figures of compared runs, and their spread over seeds."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import Any, TypeAlias

from asyncade_cli.markdown import cell, table
from asyncade_cli.outcome import FinishedRun, Row, above
from asyncade_rl.choices import MODES

Figures: TypeAlias = dict[str, float | None]


@functools.cache
def figures_of(run: FinishedRun, target: float | None) -> Figures:
    """Returns name to figure of one run; None where the run has no such figure.

    Minutes are the learner's wall time from its start; env steps per second begin at the first
    update, after loading and calibration. Bytes are those of trajectories or gradients received.
    """
    first: Row | None = None
    last: Row = {}
    reached: Row | None = None
    lags, dropped, lost = Mean(), Growth(), Growth()
    for row in run.rows:  # a stream: a week has 300,000 rows
        last = row
        if first is None or (row.get("updates") and not first.get("updates")):
            first = row
        if reached is None and above(row, target):
            reached = row
        lags.add(row.get("policy_lag_mean"))
        dropped.add(row.get("messages_dropped", 0))
        lost.add(row.get("messages_lost", 0))
    assert first is not None, "a finished run has rows"
    seconds, env_steps = (last[name] - first[name] for name in ("seconds", "env_steps"))
    summary = run.summary
    return {
        "env_steps_to_target": reached and reached["env_steps"],
        "minutes_to_target": reached and reached["seconds"] / 60,
        "env_steps": summary.get("env_steps"),
        "minutes": summary.get("seconds", 0.0) / 60,
        "final_mean_return": summary.get("mean_return_100"),
        "env_steps_per_second": env_steps / seconds if seconds > 0 else None,
        "bytes_per_env_step": summary.get("bytes_per_env_step"),
        "policy_lag": lags.value,
        "learner_waiting_share": (last.get("stage_shares") or {}).get("wait"),
        "messages_dropped": dropped.value,
        "messages_lost": lost.value,
    }


class Mean:
    """The mean of the numbers added; None before the first one."""

    value: float | None = None
    _count = 0

    def add(self, number: float | None) -> None:
        """Adds a number, or nothing."""
        if number is not None:
            self._count += 1
            mean = self.value or 0.0
            self.value = mean + (number - mean) / self._count


class Growth:
    """How much a counter grew that starts at zero again when its process does."""

    value = 0
    _last = 0

    def add(self, count: int) -> None:
        """Adds the counter's next value."""
        self.value += count - self._last if count >= self._last else count
        self._last = count


def spreads_of(runs: Sequence[FinishedRun], target: float | None) -> dict[str, Figures]:
    """Returns name to median, lowest and highest value of the figures of one mode's runs.

    A run that did not reach the target counts as above every number. Other figures leave out the
    runs that have none. Where this leaves no number, there is None.
    """
    figures = [figures_of(run, target) for run in runs]
    spreads = {}
    for name in figures[0]:
        known = [value for one in figures if (value := one[name]) is not None]
        if name.endswith("_to_target") or not known:
            known += [math.inf] * (len(runs) - len(known))
        spread = {"median": statistics.median(known), "low": min(known), "high": max(known)}
        spreads[name] = {end: v if math.isfinite(v) else None for end, v in spread.items()}
    return spreads


def modes_table(runs: Sequence[FinishedRun], target: float | None) -> str:
    """Returns a Markdown table, one row per figure and one column per mode."""
    columns = []
    for mode in MODES:
        ours = [run for run in runs if run.mode == mode]
        reached = sum(figures_of(run, target)["env_steps_to_target"] is not None for run in ours)
        column = {"seeds_at_target": f"{reached} of {len(ours)}"}
        for name, spread in spreads_of(ours, target).items():
            absent = "not reached" if name.endswith("_to_target") else "-"
            median, low, high = (absent if v is None else cell(v) for v in spread.values())
            column[name] = median if low == high else f"{median} [{low} to {high}]"
        columns.append(column)
    return table(("", *MODES), [[name, *(one[name] for one in columns)] for name in columns[0]])


def seeds_of(runs: Sequence[FinishedRun], target: float | None) -> list[dict[str, Any]]:
    """Returns folder, mode, seed, end and figures of each run."""
    return [
        {
            "run": str(run.root),
            **{name: run.summary.get(name) for name in ("mode", "seed", "ended_by")},
            **figures_of(run, target),
        }
        for run in runs
    ]
