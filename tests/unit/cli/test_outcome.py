"""What is said of a run whose learner could not say it itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncade_cli.outcome import complete
from asyncade_cli.settings import TrainSettings
from asyncade_runtime.run_folder import RunFolder

ROW = {
    "seconds": 400.0,
    "env_steps": 420_000,
    "updates": 13_000,
    "episodes": 290,
    "mean_return_100": 19.25,
    "bytes_per_env_step": 53.5,
    "target_env_steps": None,
    "target_seconds": None,
}
PASSED = {"target_env_steps": 380_000, "target_seconds": 360.0}


def folder_with(root: Path, *rows: dict[str, Any]) -> RunFolder:
    folder = RunFolder(root)
    folder.write_config("learner", {"mode": "data", "game": "pong", "seed": 3, "target": 18.0})
    for row in rows:
        folder.append_metrics(row)
    return folder


def test_the_last_row_speaks_for_a_learner_that_died(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {**ROW, "env_steps": 1}, ROW)
    lines = complete(TrainSettings(actors=2, envs=8), folder, "learner_died")
    summary = folder.read_summary()
    assert summary is not None
    assert summary.items() >= {"mode": "data", "seed": 3, "actors": 2, "envs_per_actor": 8}.items()
    assert summary["ended_by"] == "learner_died"
    assert summary["env_steps"] == 420_000
    assert not summary["reached_target"]
    assert "(target 18 not reached)" in "\n".join(lines)
    assert folder.curve.exists()


def test_a_target_that_was_passed_stays_passed_when_the_cooldown_is_cut_off(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW | PASSED)
    lines = complete(TrainSettings(), folder, "learner_died")
    summary = folder.read_summary()
    assert summary is not None
    assert summary["reached_target"]
    assert {name: summary[name] for name in PASSED} == PASSED
    assert "(target 18 reached after 380,000 env steps, 6.0 minutes)" in "\n".join(lines)


def test_a_learner_that_died_before_its_first_row_is_told_of_too(tmp_path: Path) -> None:
    lines = complete(TrainSettings(), folder_with(tmp_path), "learner_died")
    assert "0 env steps, 0 games" in "\n".join(lines)


def test_what_the_learner_wrote_is_kept(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW)
    folder.write_summary({"ended_by": "max_minutes", "seconds": 60.0, "env_steps": 7})
    complete(TrainSettings(), folder, "unknown")
    summary = folder.read_summary()
    assert summary is not None
    assert summary.items() >= {"ended_by": "max_minutes", "env_steps": 7, "actors": 2}.items()


def test_a_curve_that_cannot_be_drawn_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, ROW)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("asyncade_cli.outcome.draw_curve", full)
    lines = complete(TrainSettings(), folder, "unknown")
    assert lines[0].startswith("the run folder is not complete: ")
    assert "420,000 env steps" in "\n".join(lines)
    assert json.loads((tmp_path / "summary.json").read_text())["ended_by"] == "unknown"
