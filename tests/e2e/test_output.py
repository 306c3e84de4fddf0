"""Trainings whose output cannot be written end by their own rules."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import ASYNCADE, DEADLINE_S, QUICK, saved

pytestmark = pytest.mark.processes

ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}


@pytest.mark.parametrize(
    ("ending", "environ"),
    [("> /dev/full 2>&1", {}), ("2>&1 | head -n 2", {}), ("2>&1", ASCII)],
    ids=["full", "closed", "ascii"],
)
def test_a_training_outlives_its_output(
    ending: str, environ: dict[str, str], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "é-中")
    train = f"train --game=catch --actors=1 --envs=4 --max-env-steps=2000 --run-dir='{folder.root}'"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{ASYNCADE} {train} {ending}"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | QUICK | environ,
        timeout=DEADLINE_S,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Error" not in ended.stdout + ended.stderr
    summary = folder.read_summary()
    assert summary is not None
    assert summary["ended_by"] == "max_env_steps"
    assert saved(folder).env_steps == summary["env_steps"] >= 2000


def test_programs_read_the_rows_and_then_the_summary(tmp_path: Path) -> None:
    folder, out, _ = quick_run(tmp_path, "--json")
    *rows, summary = [json.loads(line) for line in out.splitlines()]
    assert summary == folder.read_summary()
    assert rows
    assert all(row in folder.read_metrics() for row in rows)


def test_quiet_prints_the_result_only(tmp_path: Path) -> None:
    folder, out, err = quick_run(tmp_path, "--quiet")
    assert out.startswith("ended by max_env_steps")
    assert str(folder.root) in out
    assert err == ""


def quick_run(home: Path, *arguments: str) -> tuple[RunFolder, str, str]:
    """Returns the folder, standard output and standard error of a training."""
    folder = RunFolder(home / "run")
    limits = ("--game=catch", "--actors=1", "--envs=4", "--max-env-steps=2000")
    ended = subprocess.run(
        [ASYNCADE, "train", *limits, f"--run-dir={folder.root}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | QUICK,
        timeout=DEADLINE_S,
    )
    return folder, ended.stdout, ended.stderr
