"""Charts: round ticks around the data, and points where they belong."""

from __future__ import annotations

import itertools
import re

import pytest

from asyncade_cli.report.charts import HEIGHT, WIDTH, Line, line_chart, short, ticks


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-21, 18.3), (0, 371_200), (1e-5, 3e-5), (5, 5), (0, 0), (-3, -3)]
)
def test_ticks_are_round_and_hold_the_data(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 8
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert min(steps) == pytest.approx(max(steps))
    assert min(steps) > 0


def test_a_curve_rises_to_the_right() -> None:
    svg = line_chart([Line("<a>", 0, [(0, -1), (50, 0), (100, 1)])], "env steps", target=0.5)
    (drawn,) = re.findall(r'points="([^"]+)"', svg)
    points = [tuple(map(float, pair.split(","))) for pair in drawn.split()]
    for (x, y), (further, higher) in itertools.pairwise(points):
        assert 0 < x < further < WIDTH
        assert HEIGHT > y > higher > 0
    assert "&lt;a&gt;" in svg
    assert 'class="target"' in svg


def test_a_single_point_is_a_dot_and_none_is_no_chart() -> None:
    assert "<circle" in line_chart([Line("a", 0, [(1, 1)]), Line("b", 1, [])], "minutes")
    assert line_chart([Line("a", 0, [])], "minutes", target=1.0) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (350_000, "350k"),
        (2.5e6, "2.5M"),
        (5000, "5,000"),
        (0.25, "0.25"),
        (-20, "\N{MINUS SIGN}20"),
    ],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert short(value) == shown
