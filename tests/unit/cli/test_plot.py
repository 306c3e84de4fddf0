"""Learning curves as PNG files, and Markdown tables."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from asyncade_cli.markdown import table
from asyncade_cli.plot import MAX_POINTS, draw_curves, points_of

BEFORE_THE_FIRST_GAME = {"env_steps": 0, "seconds": 1.0, "mean_return_100": None}
ROWS = [
    BEFORE_THE_FIRST_GAME,
    {"env_steps": 10, "seconds": 2.0, "mean_return_100": -21.0},
    {"env_steps": 20, "seconds": 3.0, "mean_return_100": -20.0},
]


@pytest.mark.parametrize(
    "groups", [{"data": [ROWS]}, {"data": [[], ROWS, ROWS], "gradients": [ROWS]}]
)
def test_curves_are_a_png(tmp_path: Path, groups: dict[str, list[list[dict[str, object]]]]) -> None:
    assert draw_curves(groups, "pong", tmp_path / "curve.png", target=18.0)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("rows", [[], [BEFORE_THE_FIRST_GAME], [{"seconds": 1.0}]])
def test_without_a_game_nothing_is_drawn(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    assert not draw_curves({"data": [rows]}, "pong", tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


@pytest.mark.parametrize("count", [MAX_POINTS - 1, MAX_POINTS, 3 * MAX_POINTS, 50_001])
def test_a_long_run_has_as_many_points_as_can_be_seen(count: int) -> None:
    rows = ({"env_steps": n, "seconds": n, "mean_return_100": 1.0, "more": 2} for n in range(count))
    points = points_of(rows)
    env_steps = [point["env_steps"] for point in points]
    assert min(count, MAX_POINTS // 2) <= len(points) <= MAX_POINTS
    assert (env_steps[0], env_steps[-1]) == (0, count - 1)
    assert len({b - a for a, b in itertools.pairwise(env_steps[:-1])}) == 1


def test_a_table_shows_every_kind_of_cell() -> None:
    rows = [[None, True, 1234567, 0.123456], ["a|b\nc", False, 0, 98765.4]]
    assert table(["one", "two", "three", "four"], rows) == (
        "| one | two | three | four |\n"
        "| --- | --- | --- | --- |\n"
        "| - | yes | 1,234,567 | 0.123 |\n"
        "| a\\|b c | no | 0 | 98,765 |\n"
    )
