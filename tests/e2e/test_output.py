"""Trainings whose output cannot be written end by their own rules."""

from __future__ import annotations

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
