"""What a run and its seeds come to in figures."""

from __future__ import annotations

from typing import Any

import pytest

from asyncade_cli.compare_figures import (
    busiest_stage,
    figures_of,
    first_above,
    idle_share,
    increase,
)
from asyncade_cli.compare_seeds import Equal, Spread, mode_figures, value_at

SUMMARY = {
    "mode": "data",
    "game": "pong",
    "seed": 1,
    "actors": 2,
    "cores": 2,
    "ended_by": "target",
    "env_steps": 3000,
    "seconds": 40.0,
    "updates": 30,
    "episodes": 120,
    "mean_return_100": 18.5,
    "bytes_per_env_step": 50.0,
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
    row(5.0, 0, None, policy_lag_mean=None),
    row(10.0, 1000, 18.2, policy_lag_mean=1.0),  # above, but of fifty games only
    row(20.0, 2000, 17.9, policy_lag_mean=2.0, messages_dropped=3),
    row(30.0, 2500, 18.1, policy_lag_mean=3.0, messages_dropped=1),  # the learner was resumed
    row(40.0, 3000, 18.5, messages_dropped=2, stage_shares={"wait": 0.25, "optimise": 0.75}),
]
PROCESSES = {
    "seconds": 10.0,
    "learner": {"cpu_seconds": 5.0, "env_steps": 1000, "published": 20, "published_bytes": 4000},
    "actors": {
        "actor-0": {
            "cpu_seconds": 4.0,
            "env_steps": 600,
            "messages_sent": 6,
            "stage_seconds": {"wait": 2.0, "environment": 6.0},
        },
        "actor-1": {
            "cpu_seconds": 2.0,
            "env_steps": 400,
            "messages_sent": 4,
            "stage_seconds": {"wait": 6.0, "environment": 2.0},
        },
    },
}


def test_the_target_is_reached_with_a_hundred_games() -> None:
    figures = figures_of("run", SUMMARY, ROWS, None, 18.0)
    assert (figures.env_steps_to_target, figures.seconds_to_target) == (2500, 30.0)


@pytest.mark.parametrize("target", [18.5, 20.0, None])  # above, not at
def test_an_unreached_target_has_no_figure(target: float | None) -> None:
    figures = figures_of("run", SUMMARY, ROWS, None, target)
    assert (figures.env_steps_to_target, figures.seconds_to_target) == (None, None)
    assert first_above(ROWS, target) is None


def test_rates_leave_out_the_time_before_the_first_update() -> None:
    figures = figures_of("run", SUMMARY, ROWS, None, 18.0)
    assert figures.env_steps_per_second == pytest.approx(2000 / 30)
    assert figures.updates_per_second == pytest.approx(20 / 30)
    assert figures.bytes_up_per_second == pytest.approx(50 * 2000 / 30)


def test_counters_go_on_over_a_restart() -> None:
    figures = figures_of("run", SUMMARY, ROWS, None, 18.0)
    assert figures.messages_dropped == 3 + 1 + 1
    assert figures.policy_lag_mean == 2.0
    assert increase([2, 5, 1, 4]) == 5 + 1 + 3


def test_costs_are_those_that_the_processes_told() -> None:
    figures = figures_of("run", SUMMARY, ROWS, PROCESSES, 18.0)
    assert figures.learner_core_seconds == pytest.approx(5 / 1000)
    assert figures.actor_core_seconds == pytest.approx(6 / 1000)
    assert figures.cores_used == pytest.approx(1.1)
    assert figures.bytes_down_per_version == 200
    assert figures.bytes_down_per_second == 400
    assert figures.bytes_down_per_env_step == pytest.approx(4000 * 2 / 1000)
    assert figures.env_steps_per_message == 100
    assert figures.actor_shares == {"wait": 0.5, "environment": 0.5}


@pytest.mark.parametrize(
    "processes", [None, {}, {"seconds": 0.0, "learner": {}, "actors": {}}, {"actors": {"a": {}}}]
)
def test_what_was_not_sampled_is_none(processes: dict[str, Any] | None) -> None:
    figures = figures_of("run", SUMMARY, ROWS, processes, 18.0)
    assert figures.actor_shares is None
    assert figures.learner_core_seconds is None
    assert figures.actor_core_seconds is None
    assert figures.bytes_down_per_version is None
    assert figures.learner_shares == {"wait": 0.25, "optimise": 0.75}


def test_a_run_without_rows_has_no_rates() -> None:
    figures = figures_of("run", SUMMARY, [], None, 18.0)
    assert figures.env_steps_per_second is None
    assert figures.policy_lag_mean is None
    assert figures.learner_shares == {}


def test_idle_is_what_waits() -> None:
    shares = {"wait": 0.2, "send": 0.1, "environment": 0.4, "inference": 0.3}
    assert idle_share(shares, "actor") == pytest.approx(0.3)
    assert idle_share(shares, "learner") == pytest.approx(0.2)
    assert idle_share({"environment": 1.0}, "actor") is None
    assert idle_share(None, "actor") is None
    assert busiest_stage({"wait": 0.9, "decode": 0.03, "optimise": 0.07}, "learner") == "optimise"


def test_a_spread_is_median_and_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, runs=3, absent=0)
    assert Spread.of([3.0, 1.0]).median == 2.0
    assert Spread.of([]) == Spread(None, None, None, runs=0, absent=0)


@pytest.mark.parametrize(
    ("values", "median"),
    [([1.0, 2.0, None], 2.0), ([1.0, None, None], None), ([1.0, None], None), ([None], None)],
)
def test_who_never_got_there_counts_as_slower_than_all(
    values: list[float | None], median: float | None
) -> None:
    spread = Spread.of(values, absent_is_more=True)
    assert spread.median == median
    assert spread.absent == values.count(None)


def test_what_was_not_measured_is_left_out() -> None:
    assert Spread.of([1.0, None, None]).median == 1.0


def test_runs_are_compared_as_far_as_the_shortest_went() -> None:
    short = [row(10.0, 3000, 1.0)]
    equal = Equal.of([ROWS, short])
    assert (equal.seconds, equal.env_steps) == (10.0, 3000)
    assert Equal.of([ROWS, []]) == Equal(seconds=None, env_steps=None)
    assert value_at(ROWS, "seconds", 29.9, "mean_return_100") == 17.9
    assert value_at(ROWS, "seconds", 1.0, "mean_return_100") is None


def test_a_mode_has_the_medians_of_its_runs() -> None:
    equal = Equal(seconds=20.0, env_steps=2500)
    slow = [one | {"seconds": 2 * one["seconds"]} for one in ROWS]
    lost = [one | {"mean_return_100": -20.0} for one in ROWS]
    runs = [
        (figures_of("run", SUMMARY, rows, processes, 18.0), rows)
        for rows, processes in ((ROWS, PROCESSES), (slow, None), (lost, None))
    ]
    figures = mode_figures("data", runs, equal)
    assert figures.reached == 2
    assert figures.spreads["seconds_to_target"] == Spread(60.0, 30.0, 60.0, runs=3, absent=1)
    assert figures.median("return_at_equal_seconds") == 17.9  # of 17.9, 18.2 and -20
    assert figures.median("return_at_equal_env_steps") == 18.1
    assert figures.median("actor_core_seconds") == pytest.approx(6 / 1000)
    assert figures.actor_shares == {"wait": 0.5, "environment": 0.5}
