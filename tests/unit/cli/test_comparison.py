"""Figures of runs, and their spread over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncade_cli.comparison import Growth, figures_of, modes_table, spreads_of
from asyncade_cli.outcome import FinishedRun

SUMMARY = {
    **{"mode": "data", "game": "pong", "seed": 1, "actors": 2, "cores": 2, "torch_threads": 1},
    **{"commit": "c0ffee", "processor": "a|b", "ended_by": "target"},
    **{"env_steps": 3000, "seconds": 42.0, "mean_return_100": 18.5, "bytes_per_env_step": 50.0},
}


def row(seconds: float, env_steps: int, mean: float | None, **more: Any) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "env_steps": env_steps,
        "updates": env_steps // 100,
        "episodes": env_steps // 20,
        "mean_return_100": mean,
        **more,
    }


ROWS = [
    row(6.0, 0, None, policy_lag_mean=None),
    row(12.0, 1000, 18.2, policy_lag_mean=1.0),  # above the target, after fifty games
    row(18.0, 2000, 17.9, policy_lag_mean=2.0, messages_dropped=3),
    row(30.0, 2500, 18.1, policy_lag_mean=3.0, messages_dropped=1),  # resumed: counters restart
    row(42.0, 3000, 18.5, messages_dropped=2, stage_shares={"wait": 0.25, "optimise": 0.75}),
]


def finished(rows: list[dict[str, Any]] = ROWS, **changes: Any) -> FinishedRun:
    return FinishedRun(Path("run"), SUMMARY | changes, rows)


def test_figures_are_computed_from_rows_and_summary() -> None:
    assert figures_of(finished(), 18.0) == {
        "env_steps_to_target": 2500,
        "minutes_to_target": 0.5,
        "env_steps": 3000,
        "minutes": 0.7,
        "final_mean_return": 18.5,
        "env_steps_per_second": pytest.approx(2000 / 30),  # from the first update on
        "bytes_per_env_step": 50.0,
        "policy_lag": 2.0,
        "learner_waiting_share": 0.25,
        "messages_dropped": 3 + 1 + 1,
        "messages_lost": 0,
    }


@pytest.mark.parametrize("target", [18.5, 20.0, None])  # 18.5 must be exceeded
def test_a_missed_target_has_no_figures(target: float | None) -> None:
    figures = figures_of(finished(), target)
    assert figures["env_steps_to_target"] is None
    assert figures["minutes_to_target"] is None


def test_a_run_without_updates_has_no_rate() -> None:
    figures = figures_of(finished([row(6.0, 0, None)]), 18.0)
    assert figures["env_steps_per_second"] is None
    assert figures["policy_lag"] is None
    assert figures["learner_waiting_share"] is None


def test_increases_are_summed_across_restarts() -> None:
    growth = Growth()
    for count in [2, 5, 1, 4]:
        growth.add(count)
    assert growth.value == 5 + 1 + 3


def lost(**changes: Any) -> FinishedRun:
    return finished([one | {"mean_return_100": -20.0} for one in ROWS], **changes)


def slow(**changes: Any) -> FinishedRun:
    return finished([one | {"seconds": 2 * one["seconds"]} for one in ROWS], **changes)


@pytest.mark.parametrize(
    ("runs", "median", "low", "high"),
    [
        ([finished()], 0.5, 0.5, 0.5),
        ([finished(), slow()], 0.75, 0.5, 1.0),
        ([slow(), lost(), finished()], 1.0, 0.5, None),
        ([finished(), lost()], None, 0.5, None),
        ([lost()], None, None, None),
    ],
)
def test_a_run_that_misses_the_target_ranks_last(
    runs: list[FinishedRun], median: float | None, low: float | None, high: float | None
) -> None:
    spread = spreads_of(runs, 18.0)["minutes_to_target"]
    assert spread == {"median": median, "low": low, "high": high}


def test_runs_without_a_figure_are_left_out() -> None:
    runs = [finished(bytes_per_env_step=None), finished(bytes_per_env_step=None), finished()]
    spread = spreads_of(runs, 18.0)["bytes_per_env_step"]
    assert spread == {"median": 50.0, "low": 50.0, "high": 50.0}


def test_the_table_has_a_column_per_mode() -> None:
    gradients = {"mode": "gradients", "bytes_per_env_step": None}
    text = modes_table([finished(), slow(), lost(), lost(**gradients)], 18.0)
    assert "|  | data | gradients |" in text
    assert "| seeds_at_target | 2 of 3 | 0 of 1 |" in text
    assert "| minutes_to_target | 1 [0.5 to not reached] | not reached |" in text
    assert "| bytes_per_env_step | 50 | - |" in text
