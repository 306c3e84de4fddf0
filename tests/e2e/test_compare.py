"""``asyncade compare`` with real processes on Catch: both modes, one report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from e2e.commands import finished, refused

pytestmark = pytest.mark.processes

BUDGET = ("--game=catch", "--seeds=1", "--actors=1", "--max-env-steps=4000", "--target=2")


def compare(home: Path, *arguments: str) -> str:
    """Runs the command; returns its output."""
    code, text = finished(
        home / "output", "compare", *arguments, environ={"ASYNCADE_TRAIN_ENVS": "4"}
    )
    assert code == 0, text
    return text


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    home = tmp_path_factory.mktemp("compared")
    text = compare(home, *BUDGET, "--out=out")
    out = home / "out"
    figures = json.loads((out / "compare.json").read_text())
    return SimpleNamespace(home=home, out=out, figures=figures, text=text)


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


def test_the_report_is_written(compared: SimpleNamespace) -> None:
    report = (compared.out / "report.html").read_text()
    assert "asyncade compare --game=catch" in report
    assert report.count("<video") >= 2, "each mode is filmed"
    assert "| seeds_at_target | 0 of 1 | 0 of 1 |" in compared.text
    assert "out/report.html" in compared.text


def test_finished_runs_are_not_trained_again(compared: SimpleNamespace) -> None:
    summary = compared.out / "data-seed-1" / "summary.json"
    before = summary.stat().st_mtime_ns
    compare(compared.home, "--out=out")
    assert summary.stat().st_mtime_ns == before
    figures = json.loads((compared.out / "compare.json").read_text())
    assert figures["modes"] == compared.figures["modes"]


def test_runs_of_one_mode_are_refused(compared: SimpleNamespace) -> None:
    runs = ("--runs", "out/data-seed-1", "--out=other")
    assert "gradients" in refused(compared.home / "refused", "compare", *runs)
    assert not (compared.home / "other").exists()
