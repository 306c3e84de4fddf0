"""What a run leaves to be read: rows in metrics.jsonl and TensorBoard, and the summary.

tensorboardX's SummaryWriter writes through a thread, which a full disk ends, and a short queue,
which then blocks the learner for ever. So only its messages and checksums are used here.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from asyncade_learner.progress import Progress
from asyncade_runtime.json_lines import append_whole
from asyncade_runtime.run_folder import CLAIMED, RunFolder

EndedBy: TypeAlias = Literal["target", "max_env_steps", "max_minutes", "signal", "diverged"]


class RunLog:
    """Appends rows to metrics.jsonl and to an event file, which is created with the first row.

    Args:
        folder: of the run.
        env_steps: of the checkpoint that is resumed. TensorBoard hides what older event files have
            beyond it, since the run repeats that part.
    """

    def __init__(self, folder: RunFolder, env_steps: int) -> None:
        self._folder = folder
        self._path = folder.tensorboard / _next_name(folder.tensorboard)
        self._hidden_from = env_steps + 1 if env_steps else 0
        self._begun = False

    def append(self, row: dict[str, Any]) -> None:
        """Appends a row; its numbers become scalars at ``row["env_steps"]``.

        Raises:
            OSError: one of the files could not be written, and has no part of the row.
        """
        self._folder.append_metrics(row)
        if not self._begun:
            start = SessionLog(status=SessionLog.START)
            self._append(
                Event(wall_time=time.time(), file_version="brain.Event:2"),
                Event(step=self._hidden_from, session_log=start),
            )
            self._begun = True
        scalars = {name: value for name, value in row.items() if isinstance(value, int | float)}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        summary = Summary(value=values)
        self._append(Event(wall_time=time.time(), step=row["env_steps"], summary=summary))

    def replace_senders(self, senders: dict[str, Any]) -> None:
        """Replaces the file that says who sends.

        Raises:
            OSError: it could not be written.
        """
        self._folder.write_senders(senders)

    def _append(self, *events: Event) -> None:
        # Whole: TensorBoard stops reading at a record that is cut.
        append_whole(self._path, b"".join(map(_record, events)))


def summary(
    progress: Progress, *, target: float | None, ended_by: str, about: dict[str, Any]
) -> dict[str, Any]:
    """Returns the content of summary.json.

    Args:
        progress: at the end.
        target: mean return to reach, if any.
        ended_by: what ended the run.
        about: mode, game, seed, commit, cores.
    """
    return {
        **about,
        "reached_target": progress.passed(target) is not None,
        **counters(progress, target),
        "returns": CLAIMED,
        "ended_by": ended_by,
    }


def counters(progress: Progress, target: float | None) -> dict[str, Any]:
    """Returns the columns that rows and summary share: `asyncade train` can fill in a summary."""
    passed = progress.passed(target)
    return {
        "seconds": round(progress.seconds, 2),
        "env_steps": progress.env_steps,
        "updates": progress.updates,
        "episodes": progress.episodes,
        "mean_return_100": rounded(progress.mean_return(), 3),
        "bytes_per_env_step": rounded(progress.bytes_per_env_step(), 2),
        "target": target,
        "target_env_steps": passed and passed.env_steps,
        "target_seconds": passed and round(passed.seconds, 2),
    }


def rounded(value: float | None, digits: int) -> float | None:
    """Returns the rounded value, or None if JSON has no form for it."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _next_name(folder: Path) -> str:
    """Returns the name of a new event file: TensorBoard reads them in the order of their names.

    The name has the time, or a second more than the newest file's: the clock may have gone back.
    """
    parts = [path.name.split(".") for path in folder.glob("events.out.tfevents.*")]
    seconds = [int(one[3]) for one in parts if one[3].isdecimal()]
    now = max([round(time.time()), *(before + 1 for before in seconds)])
    return f"events.out.tfevents.{now}.{socket.gethostname()}"


def _record(event: Event) -> bytes:
    """Returns a TFRecord: length, its checksum, the event, its checksum.

    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    content: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(data: bytes) -> bytes:
    checksum: int = masked_crc32c(data)
    return struct.pack("<I", checksum)
