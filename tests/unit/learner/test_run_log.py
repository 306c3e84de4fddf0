"""TensorBoard and metrics.jsonl of runs that were killed or had a full disk."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.progress import Progress
from asyncade_learner.run_log import RunLog
from asyncade_learner.telemetry import Telemetry
from asyncade_runtime.progress_page import ProgressPage
from asyncade_runtime.run_folder import RunFolder


def report(folder: RunFolder, resumed_at: int, *reports_at: int) -> None:
    """Writes the rows of one learner process."""
    run_log = RunLog(folder, resumed_at)
    for env_steps in reports_at:
        run_log.append({"env_steps": env_steps, "updates": env_steps})


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Limits files of this process to this many bytes, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def shown(folder: Path, name: str = "updates") -> list[int]:
    """Returns the env steps at which TensorBoard has a point."""
    read = EventAccumulator(str(folder)).Reload()
    return [point.step for point in read.Scalars(name)]


def test_events_after_the_resumed_checkpoint_are_hidden(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    report(folder, 0, 16, 32, 48)
    assert shown(folder.tensorboard) == [16, 32, 48]
    report(folder, 16, 40, 64)
    assert shown(folder.tensorboard) == [16, 40, 64]


def test_a_clock_that_has_gone_back_does_not_change_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(tmp_path / "run")
    report(folder, 0, 16, 32, 48)
    now = time.time()
    monkeypatch.setattr("asyncade_learner.run_log.time.time", lambda: now - 30 * 3600)
    report(folder, 16, 40, 64)
    assert shown(folder.tensorboard) == [16, 40, 64]


def test_a_run_without_a_checkpoint_hides_all_earlier_events(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    report(folder, 0, 16, 32)
    report(folder, 0, 20)
    assert shown(folder.tensorboard) == [20]


def test_rows_and_events_continue_once_there_is_room(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    metrics, progress = LearnerMetrics(CollectorRegistry()), Progress()
    page = ProgressPage({})
    telemetry = Telemetry(metrics, progress, RunLog(folder, 0), None, Mock(), page=page)
    for progress.env_steps in (16, 32, 48, 64):
        progress.seconds += 2.0
        with room_for(0 if progress.env_steps == 32 else 10_000):
            telemetry.report(active_actors=1, late=())  # an unwritable row is no error
        assert json.loads(page.content())["row"]["env_steps"] == progress.env_steps
    rows = folder.read_metrics()
    assert [row["env_steps"] for row in rows] == [16, 48, 64]
    assert rows[1]["env_steps_per_second"] == 8.0  # since the row that is missing
    assert shown(folder.tensorboard) == [16, 48, 64]


def test_a_row_of_events_is_written_atomically(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path)
    run_log = RunLog(folder, 0)
    run_log.append({"env_steps": 16, "loss": 1.0})
    (path,) = folder.tensorboard.iterdir()
    before = path.read_bytes()
    with room_for(len(before) + 20), pytest.raises(OSError, match="No space"):
        run_log.append({"env_steps": 32, "loss": 2.0})
    assert path.read_bytes() == before
    run_log.append({"env_steps": 48, "loss": 3.0})
    assert shown(folder.tensorboard, "loss") == [16, 48]


def test_a_row_without_room_does_not_damage_the_next(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.append_metrics({"env_steps": 16})
    with room_for(len('{"env_steps": 16}\n') + 5), pytest.raises(OSError, match="No space"):
        folder.append_metrics({"env_steps": 32})
    folder.append_metrics({"env_steps": 48})
    assert folder.read_metrics() == [{"env_steps": 16}, {"env_steps": 48}]
