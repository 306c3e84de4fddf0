"""The curve, the limit and the time left of a run, from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from asyncade_cli.outlook import BARS, Ends, Outlook, clock, sparkline


def row(seconds: float, env_steps: int, **more: Any) -> dict[str, Any]:
    return {"seconds": seconds, "env_steps": env_steps, **more}


def outlook(ends: Ends, *rows: dict[str, Any], before: Sequence[dict[str, Any]] = ()) -> Outlook:
    one = Outlook(ends)
    one.continues(before)
    for each in rows:
        one.add(each)
    return one


TWO = (row(10, 5_000), row(20, 15_000))  # 1,000 env steps/s
PASSED = {"target_env_steps": 10_000}


@pytest.mark.parametrize(
    ("ends", "rows", "left"),
    [
        (Ends(), TWO, None),
        (Ends(), (), None),
        (Ends(env_steps=100_000), (), None),
        (Ends(env_steps=100_000), TWO[:1], None),  # no pace yet
        (Ends(env_steps=100_000), TWO, "1:25 to 100,000 env steps"),
        (Ends(env_steps=10_000), TWO, "0:00 to 10,000 env steps"),
        (Ends(seconds=140), TWO[:1], "2:10 to the time limit"),
        (Ends(env_steps=100_000, seconds=60), TWO, "0:40 to the time limit"),
        (Ends(env_steps=30_000, seconds=60), TWO, "0:15 to 30,000 env steps"),
        (Ends(target=18), TWO, "until the return is above 18"),
        (Ends(target=18, seconds=60), TWO, "at most 0:40 to the time limit"),
        (Ends(target=18, cooldown=2), (TWO[0], TWO[1] | PASSED), "0:15 of cooldown"),
        (Ends(target=18, cooldown=2, seconds=30), (TWO[0], TWO[1] | PASSED), "0:10 to the time"),
    ],
)
def test_the_time_left(ends: Ends, rows: Sequence[dict[str, Any]], left: str | None) -> None:
    found = outlook(ends, *rows).time_left()
    assert found is None if left is None else (found or "").startswith(left)


def test_an_earlier_sitting_counts_neither_for_the_pace_nor_for_its_time() -> None:
    before = [row(0, 0, mean_return_100=-21.0), row(1000, 5_000, mean_return_100=-20.0)]
    now = [row(1010, 6_000), row(1020, 16_000, mean_return_100=-19.0)]
    resumed = outlook(Ends(seconds=60), *now, before=before)
    assert resumed.pace() == 1000
    assert resumed.time_left() == "0:40 to the time limit"
    assert resumed.returns == [-21.0, -20.0, -19.0]


def test_the_pace_is_recent() -> None:
    slow = [row(second, second) for second in range(100)]
    fast = [row(100 + second, 100 + 50 * second) for second in range(40)]
    assert outlook(Ends(), *slow, *fast).pace() == 50


def test_a_row_counts_once() -> None:
    one = row(10, 5_000, mean_return_100=3.0)
    assert outlook(Ends(), one, dict(one), {}).returns == [3.0]


def test_the_limit_is_that_of_the_recent_rows_together() -> None:
    waiting, training = (
        {"stage_shares": {name: 1.0}, "updates": 1} for name in ("wait", "optimise")
    )
    turns = outlook(Ends(), row(1, 1) | waiting, row(2, 2) | training).bottleneck()
    assert turns is not None
    assert turns.name == "turns"
    assert outlook(Ends(), row(1, 1)).bottleneck() is None
    starting = row(1, 1, stage_shares={"wait": 1.0}, updates=0)
    assert outlook(Ends(), starting).bottleneck() is None
    resumed = row(1, 1) | waiting
    assert outlook(Ends(), resumed, before=[row(0, 0) | waiting]).bottleneck() is None


@pytest.mark.parametrize(
    ("values", "width", "bars"),
    [
        ([], 8, ""),
        ([3.0], 8, "▁"),
        ([3.0, 3.0], 8, "▁▁"),
        ([-21.0, 0.0, 21.0], 8, "▁▅█"),
        (list(range(8)), 8, BARS),
        (list(range(16)), 8, BARS),
        (list(range(1001)), 8, BARS),
    ],
)
def test_a_sparkline_spans_its_values(values: list[float], width: int, bars: str) -> None:
    assert sparkline(values, width) == bars


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65.9, "1:05"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_times_are_written_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
