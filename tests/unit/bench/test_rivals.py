"""bench/rivals: what is read from drivers, what is derived from it, how it is shown."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

RIVALS = Path(__file__).parents[3] / "bench" / "rivals"

LINE = {
    "env_steps": 30_000,
    "seconds": 200.0,
    "games": 40,
    "mean_return": -20.25,
    "reached_target": None,
    "torch_threads": 2,
    "versions": {"torch": "2.13.0"},
}
PUBLISHED = {
    "env_steps": 1_500_000,
    "target": 20.0,
    "source": "https://example.org/figures",
    "at_least": False,
    "of": None,
    "minutes": 3.2,
    "machine": "a laptop",
}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts, not a package: importable for one test, under names that others may use too."""
    monkeypatch.syspath_prepend(str(RIVALS))
    yield
    for path in RIVALS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def report() -> ModuleType:
    return importlib.import_module("report")


@pytest.fixture
def meter() -> ModuleType:
    return importlib.import_module("meter")


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def row(**changes: Any) -> dict[str, Any]:
    measured = {
        "name": "fast-ppo",
        **LINE,
        "env_steps_per_second": 150.0,
        "cores": 2,
        "commit": "0123456789ab",
        "published_env_steps_to_target": PUBLISHED,
    }
    return {**measured, **changes}


class TestParseLastLine:
    def test_takes_the_last_object_and_skips_what_libraries_print_around_it(
        self, report: ModuleType
    ) -> None:
        output = "\n".join(["fps: 120", '{"env_steps": 1}', json.dumps(LINE), "17", "bye"])
        assert report.parse_last_line(output) == LINE

    def test_refuses_output_without_a_measurement(self, report: ModuleType) -> None:
        with pytest.raises(report.ReportError, match="no measurement"):
            report.parse_last_line("Traceback\n17\n")

    def test_names_what_is_missing(self, report: ModuleType) -> None:
        line = {key: value for key, value in LINE.items() if key not in ("games", "seconds")}
        with pytest.raises(report.ReportError, match="lacks seconds, games"):
            report.parse_last_line(json.dumps(line))

    def test_refuses_a_run_without_a_complete_iteration(self, report: ModuleType) -> None:
        with pytest.raises(report.ReportError, match="--minutes"):
            report.parse_last_line(json.dumps({**LINE, "env_steps": 0}))


class TestSecondsToTarget:
    def test_is_published_env_steps_over_the_measured_rate(self, report: ModuleType) -> None:
        assert report.seconds_to_target(row()) == 10_000.0

    def test_a_target_reached_is_measured_not_projected(self, report: ModuleType) -> None:
        reached = row(reached_target={"env_steps": 900_000, "seconds": 777.0})
        assert report.seconds_to_target(reached) == 777.0

    def test_is_unknown_of_a_rival_that_was_not_run(self, report: ModuleType) -> None:
        quoted = {"name": "book", "published_env_steps_to_target": PUBLISHED}
        assert report.seconds_to_target(quoted) is None


class TestTable:
    def test_shows_rate_return_and_projection(self, report: ModuleType) -> None:
        text = report.table([row()])
        assert text.splitlines()[2] == (
            "| fast-ppo | 150 | 30,000 env steps, 3 min | -20.2 (40 of 40) | "
            "[1,500,000](https://example.org/figures) to 20 | 2 h 47 min (projected) |"
        )
        assert "Cores: 2. Commit: 0123456789ab." in text

    def test_a_lower_bound_is_shown_as_one(self, report: ModuleType) -> None:
        bound = row(published_env_steps_to_target={**PUBLISHED, "at_least": True})
        line = report.table([bound]).splitlines()[2]
        assert "[> 1,500,000]" in line
        assert "over 2 h 47 min (projected)" in line

    def test_a_borrowed_figure_names_its_owner(self, report: ModuleType) -> None:
        borrowed = row(published_env_steps_to_target={**PUBLISHED, "of": "RLlib APPO"})
        assert "to 20, of RLlib APPO" in report.table([borrowed])

    def test_failures_and_quoted_rivals_have_rows_as_wide_as_the_head(
        self, report: ModuleType
    ) -> None:
        quoted = {"name": "book", "published_env_steps_to_target": PUBLISHED}
        lines = report.table([{**quoted, "error": "ended with code 1"}, quoted, row()]).splitlines()
        assert {line.count("|") for line in lines[:5]} == {7}
        assert "ended with code 1" in lines[2]
        assert "not run; published: 3 min a laptop" in lines[3]

    def test_every_rival_of_the_catalogue_can_be_shown(self, report: ModuleType) -> None:
        run = importlib.import_module("run")
        rows = [run.described(rival) for rival in run.RIVALS]
        assert report.table(rows).count("https://") == len(rows)


class TestMeter:
    def test_counts_complete_iterations_only(
        self, meter: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(monkeypatch, meter)
        measured = meter.Meter(cap_seconds=60, target=18)
        measured.start()
        clock.now += 40
        measured.iteration(4096)
        clock.now += 25  # the cap falls into the second iteration, which is given up
        assert measured.due
        assert measured.measurement()["env_steps"] == 4096
        assert measured.measurement()["seconds"] == 40

    def test_waits_for_the_first_iteration_whatever_the_cap(
        self, meter: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(monkeypatch, meter)
        measured = meter.Meter(cap_seconds=60, target=18)
        measured.start()
        clock.now += 90
        assert not measured.due
        measured.iteration(4096)
        assert measured.due

    def test_the_target_needs_a_hundred_games(
        self, meter: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(monkeypatch, meter)
        measured = meter.Meter(cap_seconds=600, target=18)
        measured.start()
        for _ in range(99):
            measured.game(19.0)
        clock.now += 10
        measured.iteration(1000)
        assert not measured.due
        measured.game(19.0)
        clock.now += 10
        measured.iteration(2000)
        assert measured.due
        assert measured.measurement()["reached_target"] == {"env_steps": 2000, "seconds": 20.0}

    def test_the_mean_is_of_the_last_hundred_games(self, meter: ModuleType) -> None:
        measured = meter.Meter(cap_seconds=60, target=18)
        for points in [-21.0] * 50 + [1.0] * 100:
            measured.game(points)
        assert measured.measurement()["mean_return"] == 1.0
        assert measured.measurement()["games"] == 150


class TestRun:
    def test_unknown_rivals_are_refused_with_the_names_there_are(self) -> None:
        run = importlib.import_module("run")
        with pytest.raises(run.RunError, match="no rival is called sb4; there are rl-games-ppo,"):
            run.chosen("sb3-a2c,sb4")

    def test_all_are_chosen_by_default(self) -> None:
        run = importlib.import_module("run")
        assert run.chosen("") == list(run.RIVALS)

    def test_saving_one_rival_keeps_the_others(self, tmp_path: Path) -> None:
        run = importlib.import_module("run")
        path = tmp_path / "new" / "rivals.json"
        run.save(path, {"sb3-a2c": row(name="sb3-a2c")})
        run.save(path, run.load(path) | {"rl-games-ppo": row(name="rl-games-ppo")})
        assert list(run.load(path)) == ["rl-games-ppo", "sb3-a2c"]  # the catalogue's order

    @pytest.mark.parametrize(("quota", "at_most"), [("150000 100000", 1), ("max 100000", 10**6)])
    def test_a_container_quota_bounds_the_cores(
        self, tmp_path: Path, quota: str, at_most: int
    ) -> None:
        run = importlib.import_module("run")
        (tmp_path / "cpu.max").write_text(quota)
        assert 1 <= run.available_cores(tmp_path / "cpu.max") <= at_most
