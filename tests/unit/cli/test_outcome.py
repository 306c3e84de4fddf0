"""Summary and printed lines of a run, with or without a learner that died."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncade_cli.outcome import complete, processor, read_finished
from asyncade_cli.settings import TrainSettings
from asyncade_runtime.run_folder import RunFolder

ROW = {
    "seconds": 400.0,
    "env_steps": 420_000,
    "updates": 13_000,
    "episodes": 290,
    "mean_return_100": 19.25,
    "bytes_per_env_step": 53.5,
    "target": 18.0,
    "target_env_steps": None,
    "target_seconds": None,
}
PASSED = {"target_env_steps": 380_000, "target_seconds": 360.0}


def folder_with(root: Path, *rows: dict[str, Any]) -> RunFolder:
    folder = RunFolder.create(root)
    folder.write_config("learner", {"mode": "data", "game": "pong", "seed": 3, "target": 18.0})
    for row in rows:
        folder.append_metrics(row)
    return folder


def test_a_dead_learners_summary_comes_from_its_last_row(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {**ROW, "env_steps": 1}, ROW)
    lines = complete(TrainSettings(actors=2, envs=8), folder, "learner_died")
    summary = folder.read_summary()
    assert summary is not None
    assert summary.items() >= {"mode": "data", "seed": 3, "actors": 2, "envs_per_actor": 8}.items()
    assert summary["ended_by"] == "learner_died"
    assert summary["env_steps"] == 420_000
    assert not summary["reached_target"]
    assert "not reached" in "\n".join(lines)
    assert folder.curve.exists()


def test_what_actors_claim_is_kept_apart_from_what_an_evaluation_confirms(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW)
    folder.checkpoint_file(1).touch()
    text = "\n".join(complete(TrainSettings(), folder, "target"))
    assert "as actors claim: 19.25" in text
    assert f"not confirmed by an evaluation yet:  asyncade eval {tmp_path}" in text
    assert (folder.read_summary() or {})["returns"] == "claimed by actors"
    for unix_time, mean in ((2, 17.5), (1, 3.0)):
        evaluation = {"unix_time": unix_time, "episodes": 30, "mean": mean, "env_steps": 420_000}
        folder.evaluations.append(evaluation)
    folder.evaluations.append({"unix_time": 3, "episodes": 0, "env_steps": 420_000})
    text = "\n".join(complete(TrainSettings(), folder, "target"))
    assert "confirmed by an evaluation: mean return 17.5 of 30 games" in text
    assert "asyncade eval" not in text


def test_a_target_stays_reached_without_a_full_cooldown(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW | PASSED)
    lines = complete(TrainSettings(), folder, "learner_died")
    summary = folder.read_summary()
    assert summary is not None
    assert summary["reached_target"]
    assert {name: summary[name] for name in PASSED} == PASSED
    assert "380,000 env steps, 6.0 minutes" in "\n".join(lines)


def test_a_target_reached_before_is_not_the_present_one(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW | PASSED | {"target": 15.0})
    lines = complete(TrainSettings(), folder, "learner_died")
    summary = folder.read_summary() or {}
    assert (summary["target"], summary["reached_target"]) == (18.0, False)
    assert (summary["target_env_steps"], summary["target_seconds"]) == (None, None)
    assert "target 18 not reached" in "\n".join(lines)


def test_skipped_updates_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW | {"updates_skipped": 1234})
    assert any("1,234 updates" in line for line in complete(TrainSettings(), folder, "unknown"))


def test_a_diverged_run_names_the_cure(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW | {"roll_backs": 3})
    folder.checkpoint_file(1).touch()
    folder.write_summary({"ended_by": "diverged", "seconds": 60.0, "env_steps": 7})
    text = "\n".join(complete(TrainSettings(learning_rate=1000.0), folder, "learner_died"))
    for part in ("3 times", "--learning-rate 1000", "0.001", "--resume --learning-rate LOWER"):
        assert part in text


@pytest.mark.parametrize("ended_by", ["signal", "target"])
def test_a_run_says_where_it_is_and_what_to_type_next(ended_by: str, tmp_path: Path) -> None:
    root = tmp_path / "my run; rm"
    folder = folder_with(root, ROW)
    folder.checkpoint_file(1).touch()
    text = "\n".join(complete(TrainSettings(), folder, ended_by))
    assert f"run folder: {root}" in text
    for command in ("watch", "report", "export"):
        assert f"asyncade {command} '{root}'" in text
    assert (f"asyncade train --resume --run-dir '{root}'" in text) == (ended_by == "signal")


def test_of_a_run_that_has_learned_nothing_no_figures_are_made_up(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    folder.checkpoint_file(0).touch()
    text = "\n".join(complete(TrainSettings(), folder, "signal"))
    for absent in ("None", "curve.png", "metrics.jsonl", "asyncade export", "asyncade watch"):
        assert absent not in text
    assert "0 env steps, 0 games, 0 updates" in text
    assert "asyncade train --resume" in text


def test_without_a_checkpoint_nothing_can_be_continued_or_played(tmp_path: Path) -> None:
    text = "\n".join(complete(TrainSettings(), folder_with(tmp_path, ROW), "signal"))
    assert "asyncade" not in text.replace(str(tmp_path), "")


def test_a_learner_that_died_without_a_row_has_a_summary(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    assert complete(TrainSettings(), folder, "learner_died")
    summary = folder.read_summary()
    assert summary is not None
    assert summary.items() >= {"ended_by": "learner_died", "env_steps": 0, "episodes": 0}.items()


def test_the_rows_of_a_run_are_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A week of training has 300,000 rows, 1.7 GB."""
    monkeypatch.setattr(RunFolder, "read_metrics", None)
    folder = folder_with(tmp_path, {**ROW, "env_steps": 1}, ROW)
    complete(TrainSettings(), folder, "learner_died")
    assert folder.curve.exists()
    run = read_finished(tmp_path)
    assert [row["env_steps"] for row in run.rows] == [row["env_steps"] for row in run.rows] != []


def test_the_learners_summary_is_kept(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ROW)
    folder.write_summary({"ended_by": "max_minutes", "seconds": 60.0, "env_steps": 7})
    complete(TrainSettings(), folder, "unknown")
    summary = folder.read_summary()
    assert summary is not None
    assert summary.items() >= {"ended_by": "max_minutes", "env_steps": 7, "actors": 2}.items()


def test_a_curve_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, ROW)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("asyncade_cli.outcome.draw_curves", full)
    lines = complete(TrainSettings(), folder, "unknown")
    assert "No space left on device" in lines[0]
    assert "420,000 env steps" in "\n".join(lines)
    assert json.loads((tmp_path / "summary.json").read_text())["ended_by"] == "unknown"


def test_the_processor_is_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name : Other\n")
    assert processor(cpuinfo) == "Some CPU @ 2 GHz"
    assert processor(tmp_path / "absent") == "unknown"
    folder = folder_with(tmp_path, ROW)
    complete(TrainSettings(), folder, "unknown")
    assert (folder.read_summary() or {})["processor"] == processor()
