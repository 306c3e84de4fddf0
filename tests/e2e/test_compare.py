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

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU time is Linux's"),
]

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
        spreads = compared.figures["modes"][mode]["spreads"]
        assert spreads["env_steps"]["median"] == summary["env_steps"] >= 4000
        assert spreads["seconds_to_target"]["median"] is None


def test_the_report_says_what_came_of_it(compared: SimpleNamespace) -> None:
    report = (compared.out / "report.md").read_text()
    assert "| wall time to the target | not reached | not reached |" in report
    assert "Neither mode reached it within the budget" in report
    for sentences in compared.figures["words"].values():
        for sentence in sentences:
            assert f"- {sentence}" in report
    assert "report: out/report.md" in compared.text
    assert (compared.out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_processes_were_sampled(compared: SimpleNamespace) -> None:
    for mode in ("data", "gradients"):
        told = json.loads((compared.out / f"{mode}-seed-1" / "processes.json").read_text())
        assert told["learner"]["cpu_seconds"] > 0
        assert told["learner"]["published_bytes"] > 0
        assert told["actors"]["actor-0"]["env_steps"] > 0
        shares = compared.figures["modes"][mode]["actor_shares"]
        assert sum(shares.values()) == pytest.approx(1)
        assert (shares["gradient"] > 0) == (mode == "gradients")
    assert compared.figures["cluster"]["data"]["learner"] > 0


def test_what_is_over_is_not_trained_again(compared: SimpleNamespace) -> None:
    summary = compared.out / "data-seed-1" / "summary.json"
    before = summary.stat().st_mtime_ns
    again = compare(compared.home, ["--out=out"])
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("finished already") == 2
    assert summary.stat().st_mtime_ns == before
    figures = json.loads((compared.out / "compare.json").read_text())
    assert figures["modes"] == compared.figures["modes"]


def test_unlike_runs_are_refused_without_a_traceback(compared: SimpleNamespace) -> None:
    refused = compare(compared.home, ["--runs", "out/data-seed-1", "--out=other"])
    assert refused.returncode == 2
    assert "there is no gradients run to compare with" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert not (compared.home / "other").exists()
