"""The examples run as a reader would run them, for less long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import finished
from packages import MY_GAME, install

pytestmark = pytest.mark.processes


def test_a_game_of_a_package_is_trained_and_evaluated(tmp_path: Path) -> None:
    installed = install(MY_GAME, tmp_path / "site")
    run = RunFolder(tmp_path / "run")
    short = ("--game=dodge", "--actors=1", "--max-env-steps=2000", f"--run-dir={run.root}")
    code, text = finished(tmp_path / "train", "train", *short, environ=installed)
    assert code == 0, text
    summary = run.read_summary() or {}
    assert (summary["game"], summary["ended_by"]) == ("dodge", "max_env_steps")
    assert summary["updates"] > 0
    arguments = ("eval", run.root, "--episodes=3")
    code, text = finished(tmp_path / "eval", *arguments, environ=installed)
    assert code == 0, text
    assert json.loads(text[text.index("{") :])["episodes"] == 3
