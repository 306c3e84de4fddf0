"""``asyncade compare`` with real processes on the toy game: both modes, one report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.processes

DEADLINE_S = 300.0  # generous: only a failing test ever waits this long
ASYNCADE = str(Path(sys.executable).with_name("asyncade"))
BUDGET = ("--game=catch", "--seeds=1", "--actors=1", "--max-env-steps=4000", "--target=2")
QUICK = {
    "OMP_NUM_THREADS": "1",
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.25",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
    "ASYNCADE_TRAIN_ENVS": "4",
}


def compare(home: Path, arguments: Sequence[object]) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if "ASYNCADE" not in name}
    return subprocess.run(
        [ASYNCADE, "compare", *map(str, arguments)],
        cwd=home,
        env=own | QUICK,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    home = tmp_path_factory.mktemp("compared")
    first = compare(home, [*BUDGET, "--out=out"])
    assert first.returncode == 0, first.stdout
    out = home / "out"
    figures = json.loads((out / "compare.json").read_text())
    return SimpleNamespace(home=home, out=out, figures=figures, text=first.stdout)


def test_both_modes_are_trained(compared: SimpleNamespace) -> None:
    for mode in ("data", "gradients"):
        summary = json.loads((compared.out / f"{mode}-seed-1" / "summary.json").read_text())
        assert (summary["mode"], summary["game"], summary["seed"]) == (mode, "catch", 1)
        assert summary["ended_by"] == "max_env_steps"
        spreads = compared.figures["modes"][mode]
        assert spreads["env_steps"]["median"] == summary["env_steps"] >= 4000
        assert spreads["minutes_to_target"]["median"] is None
        for name in ("env_steps_per_second", "bytes_per_env_step"):
            assert spreads[name]["median"] > 0
        assert 0 <= spreads["learner_waiting_share"]["median"] <= 1
        assert spreads["policy_lag"]["median"] >= 0
    modes = compared.figures["modes"]
    assert modes["gradients"]["bytes_per_env_step"] != modes["data"]["bytes_per_env_step"]


def test_the_report_and_the_curves_are_written(compared: SimpleNamespace) -> None:
    report = (compared.out / "report.md").read_text()
    assert "| seeds_at_target | 0 of 1 | 0 of 1 |" in report
    assert "asyncade compare --game=catch" in report
    assert "out/report.md" in compared.text
    assert (compared.out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_finished_runs_are_not_trained_again(compared: SimpleNamespace) -> None:
    summary = compared.out / "data-seed-1" / "summary.json"
    before = summary.stat().st_mtime_ns
    again = compare(compared.home, ["--out=out"])
    assert again.returncode == 0, again.stdout
    assert summary.stat().st_mtime_ns == before
    figures = json.loads((compared.out / "compare.json").read_text())
    assert figures["modes"] == compared.figures["modes"]


def test_unlike_runs_are_refused_without_a_traceback(compared: SimpleNamespace) -> None:
    refused = compare(compared.home, ["--runs", "out/data-seed-1", "--out=other"])
    assert refused.returncode == 2
    assert "gradients" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert not (compared.home / "other").exists()
