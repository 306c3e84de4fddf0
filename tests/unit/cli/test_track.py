"""Metrics in a tracker: all of them once, while a run trains and after it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from asyncade_cli.__main__ import main
from asyncade_cli.sharing import TrackSettings
from asyncade_cli.track import TRACKERS, track, values_of
from asyncade_runtime.run_folder import RunFolder


class Recorder:
    """A tracker that keeps what it is given."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        self.begun = (project, name, dict(config))
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.outcome: Mapping[str, Any] | None = None

    def log(self, values: Mapping[str, float], env_steps: int) -> None:
        assert self.outcome is None
        self.rows.append((env_steps, dict(values)))

    def finish(self, outcome: Mapping[str, Any]) -> None:
        self.outcome = outcome


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    made: list[Recorder] = []

    def make(*arguments: Any) -> Recorder:
        made.append(Recorder(*arguments))
        return made[-1]

    monkeypatch.setitem(TRACKERS, "wandb", make)
    return made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create(Path("runs/one"))
    folder.write_config("learner", {"game": "catch", "learning_rate": 0.001})
    for number in range(3):
        folder.append_metrics(row(number))
    return folder


def row(number: int) -> dict[str, Any]:
    return {
        **{"env_steps": 100 * number, "mean_return_100": None if number == 0 else float(number)},
        "stage_shares": {"wait": 0.5},
    }


class Moments(threading.Event):
    """A stop event at which something happens each time it is waited for."""

    def __init__(self, *moments: Any) -> None:
        super().__init__()
        self._moments = iter(moments)

    def wait(self, timeout: float | None = None) -> bool:
        happens = next(self._moments, self.set)
        happens()
        return self.is_set()


def test_a_finished_run_is_imported(run: RunFolder, recorders: list[Recorder]) -> None:
    run.write_summary({"ended_by": "target"})
    assert main(["track", "--to=wandb", "--project=games"]) == 0
    (tracker,) = recorders
    assert tracker.begun == ("games", "one", {"game": "catch", "learning_rate": 0.001})
    assert [env_steps for env_steps, _ in tracker.rows] == [0, 100, 200]
    assert tracker.rows[0][1] == {"env_steps": 0.0, "stage_shares/wait": 0.5}
    assert tracker.rows[2][1]["mean_return_100"] == 2.0
    assert tracker.outcome == {"ended_by": "target"}


def test_a_run_is_followed_until_it_ends(run: RunFolder, recorders: list[Recorder]) -> None:
    def ends() -> None:
        run.append_metrics(row(4))
        run.write_summary({"ended_by": "signal"})

    stop = Moments(lambda: run.append_metrics(row(3)), lambda: None, ends)
    assert track(run.root, TrackSettings(to="wandb", name="mine"), stop) == 5
    assert [env_steps for env_steps, _ in recorders[0].rows] == [0, 100, 200, 300, 400]
    assert recorders[0].begun[1] == "mine"
    assert recorders[0].outcome == {"ended_by": "signal"}


def test_ctrl_c_ends_the_copying(run: RunFolder, recorders: list[Recorder]) -> None:
    assert track(run.root, TrackSettings(to="wandb"), Moments()) == 3
    assert recorders[0].outcome == {}


def test_a_killed_run_is_not_waited_for(run: RunFolder, recorders: list[Recorder]) -> None:
    never = Moments(lambda: pytest.fail("it waited"))
    assert track(run.root, TrackSettings(to="wandb", follow=False), never) == 3
    assert recorders[0].outcome == {}


def test_rows_that_a_resumed_run_repeats_are_copied_once(
    run: RunFolder, recorders: list[Recorder]
) -> None:
    def resumed() -> None:
        run.forget_metrics_after(env_steps=100, seconds=0.0)

    def repeated() -> None:
        for number in (2, 3):
            run.append_metrics(row(number))

    track(run.root, TrackSettings(to="wandb"), Moments(resumed, repeated))
    assert [env_steps for env_steps, _ in recorders[0].rows] == [0, 100, 200, 300]


def test_a_row_that_is_half_written_is_copied_when_it_is_whole(
    run: RunFolder, recorders: list[Recorder]
) -> None:
    line = json.dumps(row(3))
    path = run.root / "metrics.jsonl"

    def write(text: str) -> None:
        with path.open("a") as file:
            file.write(text)

    stop = Moments(lambda: write(line[:20]), lambda: write(line[20:] + "\n"))
    track(run.root, TrackSettings(to="wandb"), stop)
    assert [env_steps for env_steps, _ in recorders[0].rows] == [0, 100, 200, 300]


def test_only_numbers_are_values() -> None:
    given = {"a": 1, "b": None, "c": "text", "d": {"e": 0.5, "f": None}, "g": [1]}
    assert values_of(given) == {"a": 1.0, "d/e": 0.5}


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_the_cure(
    run: RunFolder,
    tracker: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    assert main(["track", f"--to={tracker}"]) == 2
    assert f"asyncade[{tracker}]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["absent", "--to=wandb"], "absent"), ([], "--to"), (["--to=excel"], "--to")],
)
def test_bad_input_is_named(
    run: RunFolder, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", *arguments]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
def test_the_real_library_takes_a_run(run: RunFolder, tracker: str) -> None:
    """Offline, where the library is installed; the project's own environment has none of them."""
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed")
    here = Path.cwd()
    places = {
        **{"WANDB_MODE": "offline", "WANDB_DIR": str(here), "TRACKIO_DIR": str(here / "trackio")},
        "MLFLOW_TRACKING_URI": f"sqlite:///{here}/mlflow.db",
    }
    run.write_summary({"ended_by": "target"})
    command = [sys.executable, "-m", "asyncade_cli", "track", "--to", tracker]
    ended = subprocess.run(
        command, env={**os.environ, **places}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "3 rows" in ended.stdout
    assert [path.name for path in here.iterdir() if path.name not in ("runs", "mlruns")]
