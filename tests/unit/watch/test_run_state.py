"""What the page says of a run follows its folder: new rows, restarts, checkpoints, the end."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest

from asyncade_runtime.curve import POINTS
from asyncade_runtime.run_folder import RunFolder
from asyncade_watch.run_state import RunState, as_json
from rigs.page import add_checkpoint, row, run_folder


def test_a_finished_run(tmp_path: Path) -> None:
    state = json.loads(as_json(RunState(run_folder(tmp_path)).refresh()))
    assert (state["game"], state["status"], state["ended_by"]) == ("catch", "ended", "target")
    assert state["curve"]["env_steps"] == [100 * number for number in range(1, 11)]
    assert state["curve"]["mean_return_100"][-1] == 0.5
    assert state["now"]["env_steps"] == 1000
    assert state["bottleneck"]["name"] == "actors"
    assert [one["env_steps"] for one in state["checkpoints"]] == [1000, 2000, 3000]


def test_new_rows_and_checkpoints_appear(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    state = RunState(folder)
    state.refresh()
    folder.append_metrics(row(11))
    add_checkpoint(folder, 4)
    now = state.refresh()
    assert now["curve"]["env_steps"][-2:] == [1000, 1100]
    assert len(now["checkpoints"]) == 4
    folder.checkpoint_files()[-1].unlink()
    assert [one["env_steps"] for one in state.refresh()["checkpoints"]] == [2000, 3000, 4000]


def test_a_resumed_run_repeats_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    state = RunState(folder)
    state.refresh()
    folder.forget_metrics_after(env_steps=400, seconds=8.0)
    folder.append_metrics(row(5, mean_return_100=0.75))
    curve = state.refresh()["curve"]
    assert curve["env_steps"] == [100, 200, 300, 400, 500]
    assert curve["mean_return_100"][-1] == 0.75


def test_half_a_row_is_left_for_later(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    state = RunState(folder)
    state.refresh()
    line = json.dumps(row(11)) + "\n"
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(line[:40])
        file.flush()
        assert state.refresh()["now"]["env_steps"] == 1000
        file.write(line[40:])
    assert state.refresh()["now"]["env_steps"] == 1100


def test_a_long_run_is_thinned_evenly(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path)
    for number in range(1, 5000):
        folder.append_metrics(row(number))
    steps = RunState(folder).refresh()["curve"]["env_steps"]
    assert POINTS / 2 <= len(steps) <= POINTS + 1
    gaps = {later - earlier for earlier, later in itertools.pairwise(steps[:-1])}
    assert len(gaps) == 1
    assert (steps[0], steps[-1]) == (100, 499_900)


@pytest.mark.parametrize(
    ("endpoints", "later", "status"),
    [(True, 5.0, "training"), (True, 60.0, "silent"), (False, 5.0, "stopped")],
)
def test_the_status_of_an_unfinished_run(
    tmp_path: Path, endpoints: bool, later: float, status: str
) -> None:
    folder = run_folder(tmp_path)
    folder.remove_summary()
    if endpoints:
        folder.write_endpoints({"weights": "tcp://127.0.0.1:5556"})
    written = (tmp_path / "metrics.jsonl").stat().st_mtime
    state = RunState(folder, clock=lambda: written + later)
    assert state.refresh()["status"] == status
    assert state.weights_address() == ("tcp://127.0.0.1:5556" if endpoints else None)


def test_the_senders_are_shown_with_their_silence(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    actor = {"id": "a", "env_steps_per_second": 5.0, "policy_lag": 1, "last_seen": 70.0}
    folder.write_senders({"actors": [{**actor, "late": False}], "dropped": {"stale": 3}})
    now = RunState(folder, clock=lambda: 75.5).refresh()
    assert now["actors"][0]["silent"] == 5.5
    assert now["dropped"] == {"stale": 3}


def test_a_folder_without_anything_yet(tmp_path: Path) -> None:
    now = RunState(RunFolder.create(tmp_path)).refresh()
    assert (now["status"], now["game"], now["bottleneck"]) == ("stopped", None, None)
    assert now["curve"]["env_steps"] == []


def test_a_file_that_cannot_be_read_does_not_end_the_page(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    (tmp_path / "senders.json").write_text("{")
    assert RunState(folder).refresh()["now"]["env_steps"] == 1000


def test_a_folder_that_was_removed_is_gone(tmp_path: Path) -> None:
    state = RunState(run_folder(tmp_path / "run"))
    state.refresh()
    shutil.rmtree(tmp_path / "run")
    now = state.refresh()
    assert now["status"] == "gone"
    assert "is gone" in now["no_game"]


@pytest.mark.parametrize(
    ("game", "checkpoints", "damaged", "words"),
    [
        ("catch", 3, False, None),
        ("catch", 0, False, "--resume"),
        ("catch", 2, True, "can be read"),
        ("dodge_of_nobody", 0, False, "is not installed here"),
    ],
)
def test_why_no_game_can_begin(
    tmp_path: Path, game: str, checkpoints: int, damaged: bool, words: str | None
) -> None:
    folder = run_folder(tmp_path, game, checkpoints)
    if damaged:
        for path in folder.checkpoint_files():
            os.truncate(path, path.stat().st_size // 2)
    found = RunState(folder).refresh()["no_game"]
    assert found is None if words is None else words in found


def test_figures_of_an_ended_run_are_those_of_the_whole_run(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    tiny = {"env_steps_per_second": 9000.0, "policy_lag_mean": 12.5, "target_env_steps": 700}
    folder.append_metrics(row(11, **tiny, target_seconds=14.0))
    now = RunState(folder).refresh()
    assert now["now"]["env_steps_per_second"] == 50.0
    assert now["now"]["policy_lag_mean"] == 2.5
    assert now["reached"] == {"env_steps": 700, "seconds": 14.0}
    folder.write_endpoints({"weights": "tcp://127.0.0.1:5556"})
    assert RunState(folder).refresh()["now"]["env_steps_per_second"] == 9000.0


def test_nothing_limits_a_run_before_its_first_update(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path)
    folder.append_metrics(row(1, updates=0))
    state = RunState(folder)
    assert state.refresh()["bottleneck"] is None
    folder.append_metrics(row(2))
    assert state.refresh()["bottleneck"]["name"] == "actors"
