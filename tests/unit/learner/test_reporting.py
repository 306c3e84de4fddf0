"""What TensorBoard shows of a run that was killed and resumed."""

from __future__ import annotations

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog

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
    reporter.close()
    (written,) = folder.tensorboard.glob("events*")
    written.rename(folder.tensorboard / name)  # files of one second would have one name


def shown(folder: RunFolder) -> list[int]:
    """Env steps of what TensorBoard shows: a start hides what lies at its step and beyond."""
    points: list[int] = []
    for path in sorted(folder.tensorboard.iterdir()):
        content = path.read_bytes()
        at = 0
        while at < len(content):  # a record: length, its checksum, the event, its checksum
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += 12 + size + 4
            if event.session_log.status == SessionLog.START:
                points = [step for step in points if step < event.step]
            elif any(value.tag == "updates" for value in event.summary.value):
                points.append(event.step)
    return points


def test_what_lies_beyond_the_resumed_checkpoint_is_hidden(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    report(folder, "0-killed", 0, 16, 32, 48)
    assert shown(folder) == [16, 32, 48]
    report(folder, "1-resumed", 16, 40, 64)
    assert shown(folder) == [16, 40, 64]


def test_a_run_that_starts_anew_hides_what_was_before_its_first_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    report(folder, "0-killed", 0, 16, 32)
    report(folder, "1-anew", 0, 20)
    assert shown(folder) == [20]
