"""A learner's page of its run: the newest row, the senders, and the curve with earlier sittings."""

from __future__ import annotations

import json
from typing import Any

from asyncade_runtime.curve import POINTS
from asyncade_runtime.progress_page import ProgressPage
from builders import Clock

ABOUT = {"mode": "data", "game": "catch", "seed": 1}


def row(number: int) -> dict[str, Any]:
    return {"env_steps": 100 * number, "seconds": 2.0 * number, "mean_return_100": None}


def test_the_newest_report_is_told_with_the_curve() -> None:
    clock = Clock()
    page = ProgressPage(ABOUT, clock)
    assert json.loads(page.content()) == {**ABOUT, "time": clock.now}
    page.continues([row(1), row(2)])
    page.report(row(3), {"actors": [], "dropped": {}})
    reported = clock.now
    clock.now += 5
    told = json.loads(page.content())
    assert (told["game"], told["row"]["env_steps"]) == ("catch", 300)
    assert told["curve"]["env_steps"] == [100, 200, 300]
    assert (told["reported"], told["time"]) == (reported, reported + 5)


def test_a_long_run_is_told_in_short() -> None:
    page = ProgressPage(ABOUT)
    page.continues(map(row, range(1, 20_000)))
    page.report(row(20_000), {"actors": [], "dropped": {}})
    assert len(json.loads(page.content())["curve"]["env_steps"]) <= POINTS + 1
    assert len(page.content()) < 2**16
