"""What TensorBoard shows of a run that was killed and resumed, or had no room on its disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asyncade_learner.events import EventFile
from asyncade_learner.progress import Progress
from asyncade_learner.reporting import Reporter
from asyncade_runtime.run_folder import RunFolder


def report(folder: RunFolder, name: str, resumed_at: int, *reports_at: int) -> None:
    """A learner's reports, from its start to its end."""
    progress = Progress(env_steps=resumed_at)
    reporter = Reporter(folder, progress, target=None)
    for progress.env_steps in reports_at:
        progress.seconds += 2.0
        reporter.report(active_actors=1, stage_seconds={})
    (written,) = folder.tensorboard.glob("events*")
    # Files of one second would have one name.
    written.rename(folder.tensorboard / f"{name}.tfevents")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def shown(folder: Path, name: str = "updates") -> list[int]:
    """Env steps at which TensorBoard has a point."""
    read = EventAccumulator(str(folder)).Reload()
    return [point.step for point in read.Scalars(name)]


def test_what_lies_beyond_the_resumed_checkpoint_is_hidden(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    report(folder, "0-killed", 0, 16, 32, 48)
    assert shown(folder.tensorboard) == [16, 32, 48]
    report(folder, "1-resumed", 16, 40, 64)
    assert shown(folder.tensorboard) == [16, 40, 64]


def test_a_run_that_starts_anew_hides_what_was_before_its_first_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    report(folder, "0-killed", 0, 16, 32)
    report(folder, "1-anew", 0, 20)
    assert shown(folder.tensorboard) == [20]


def test_rows_and_events_go_on_when_there_is_room_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    progress = Progress()
    reporter = Reporter(folder, progress, target=None)
    for progress.env_steps in (16, 32, 48, 64):
        progress.seconds += 2.0
        if progress.env_steps == 32:
            with room_for(0), pytest.raises(OSError, match="too large"):
                reporter.report(active_actors=1, stage_seconds={})
        else:
            reporter.report(active_actors=1, stage_seconds={})
    rows = folder.read_metrics()
    assert [row["env_steps"] for row in rows] == [16, 48, 64]
    assert rows[1]["env_steps_per_second"] == 8.0  # since the row that is missing
    assert shown(folder.tensorboard) == [16, 48, 64]


def test_a_row_of_events_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    events = EventFile(tmp_path, hidden_from=0)
    events.write({"loss": 1.0}, 16)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    with room_for(len(before) + 20), pytest.raises(OSError, match="No space"):
        events.write({"loss": 2.0}, 32)
    assert path.read_bytes() == before
    events.write({"loss": 3.0}, 48)
    assert shown(tmp_path, "loss") == [16, 48]


def test_a_row_that_had_no_room_does_not_spoil_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.append_metrics({"env_steps": 16})
    with room_for(len('{"env_steps": 16}\n') + 5), pytest.raises(OSError, match="No space"):
        folder.append_metrics({"env_steps": 32})
    folder.append_metrics({"env_steps": 48})
    assert folder.read_metrics() == [{"env_steps": 16}, {"env_steps": 48}]
