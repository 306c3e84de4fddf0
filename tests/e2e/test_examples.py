"""The examples run as a reader would run them, for less long."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import QUICK, finished
from packages import MY_GAME, install

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "asyncade.ipynb"


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
    assert "dodge" in text


def test_v_trace_learns_the_values_of_another_policy() -> None:
    example = runpy.run_path(str(EXAMPLES / "vtrace.py"))
    learnt, exact = example["learn"](), example["exact"]
    assert (learnt - exact(example["TARGET"])).abs().max() < 0.03
    assert (learnt - exact(example["BEHAVIOUR"])).abs().max() > 0.2


def test_the_notebook_trains_plots_and_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells are run as one program: a Jupyter kernel would bring thirty packages."""
    monkeypatch.chdir(tmp_path)
    short = {"GAME": "catch", "MINUTES": "30", "ASYNCADE_TRAIN_MAX_ENV_STEPS": "2000"}
    for name, value in {**QUICK, **short, "MPLBACKEND": "Agg"}.items():
        monkeypatch.setenv(name, value)
    shown = SimpleNamespace(Video=lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    space: dict[str, Any] = {}
    for cell in code_cells():
        exec(cell, space)
    assert space["summary"]["ended_by"] == "max_env_steps"
    assert space["played"]
    assert (tmp_path / space["film"]).stat().st_size > 0
    space["plt"].close("all")


def test_the_notebook_holds_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [one for one in cells if one.get("outputs") or one.get("execution_count")] == []


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]
